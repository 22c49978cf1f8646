package gcm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/cpu"
)

const (
	blockLen  = 16
	nonceLen  = 12
	tagLen    = 16
	batch     = 8 * blockLen // what one round of the loops in gcm_amd64.s takes
	tailMax   = 9            // blocks: up to eight of a tail, and the lengths
	maxLength = 1<<36 - 32   // SP 800-38D, 5.2.1.1: 2^39-256 bits
)

var errOpen = errors.New("gcm: message authentication failed")

// schedule is what the assembly reads; its layout is known there.
type schedule struct {
	// round keys (FIPS 197), each twice: one for either half of a vector
	rounds [15][2 * blockLen]byte
	// powers[i] is H^(9-i), H the hash key (SP 800-38D, 6.4), in the form that
	// gcm_amd64.s multiplies by: bytes reversed and times x
	powers [tailMax][blockLen]byte
}

// The layout that gcm_amd64.s counts on: a difference does not compile.
var (
	_ [unsafe.Offsetof(schedule{}.rounds)]byte = [0]byte{}
	_ [unsafe.Offsetof(schedule{}.powers)]byte = [480]byte{}
)

// narrow implements cipher.AEAD by 256-bit vectors.
// It holds no pointer, so that whoever zeroes it has wiped the key.
type narrow struct {
	s   schedule
	key [32]byte // for calls that go to the standard library
}

// New makes an AEAD for key. The error is that of the standard library, nil
// unless it refuses AES altogether.
func New(key *[32]byte) (cipher.AEAD, error) {
	switch Width() {
	case 512:
		return newWide(key), nil
	case 256:
		return newNarrow(key), nil
	}
	return standard(key)
}

// Width is how many bits the vectors have that New uses: 512, 256, or 0 for the
// standard library's way.
func Width() int {
	switch {
	case hasWide():
		return 512
	case hasNarrow():
		return 256
	}
	return 0
}

// hasNarrow says whether the processor has what narrow needs.
func hasNarrow() bool {
	const vaes, vpclmulqdq = 1 << 9, 1 << 10 // CPUID leaf 7, ECX
	const both = vaes | vpclmulqdq
	return cpu.X86.HasAVX2 && cpu.X86.HasAES && features()&both == both
}

func newNarrow(key *[32]byte) *narrow {
	a := new(narrow)
	a.rekey(key)
	return a
}

// rekey makes a what newNarrow would make.
func (a *narrow) rekey(key *[32]byte) {
	a.key = *key
	expand(&a.s, key)
	a.s.fillPowers(a.s.powers[:])
}

// fillPowers makes descending powers of the hash key from the round keys; the
// last one is the hash key itself.
func (s *schedule) fillPowers(powers [][blockLen]byte) {
	var counter, ks [blockLen]byte
	encrypt(s, &ks, &counter) // H: zeros, encrypted
	high, low := binary.BigEndian.Uint64(ks[:]), binary.BigEndian.Uint64(ks[8:])
	carry := -(high >> 63) // all ones where the shift overflows
	high, low = high<<1|low>>63, low<<1
	high ^= carry & 0xc200000000000000
	low ^= carry & 1
	last := len(powers) - 1
	h := &powers[last]
	binary.LittleEndian.PutUint64(h[:], low)
	binary.LittleEndian.PutUint64(h[8:], high)
	for i := last - 1; i >= 0; i-- {
		multiply(&powers[i], &powers[i+1], h)
	}
}

// around is the way by the standard library, for what messages never ask.
func around(key *[32]byte) cipher.AEAD {
	c, err := standard(key)
	if err != nil {
		panic(err) // it takes every key of 32 bytes
	}
	return c
}

// NonceSize implements cipher.AEAD.
func (a *narrow) NonceSize() int { return nonceLen }

// Overhead implements cipher.AEAD.
func (a *narrow) Overhead() int { return tagLen }

// Seal implements cipher.AEAD.
func (a *narrow) Seal(dst, nonce, plaintext, additional []byte) []byte {
	if len(additional) > 0 || len(nonce) != nonceLen || len(plaintext) > maxLength {
		return around(&a.key).Seal(dst, nonce, plaintext, additional)
	}
	n := len(plaintext)
	out, room := grow(dst, n+tagLen)
	checkOverlap(room[:n], plaintext)
	var c call
	c.start(nonce)
	full := n &^ (batch - 1)
	if full > 0 {
		seal(&a.s, &room[0], &plaintext[0], full, &c.counter, &c.hash)
	}
	keystream(&a.s, &c.stream, &c.counter, &c.first)
	subtle.XORBytes(room[full:n], plaintext[full:], c.stream[:])
	a.finish(&c, room[full:n], n)
	copy(room[n:], c.tag[:])
	return out
}

// Open implements cipher.AEAD.
func (a *narrow) Open(dst, nonce, message, additional []byte) ([]byte, error) {
	if len(additional) > 0 || len(nonce) != nonceLen || len(message) > maxLength+tagLen {
		return around(&a.key).Open(dst, nonce, message, additional)
	}
	if len(message) < tagLen {
		return nil, errOpen
	}
	n := len(message) - tagLen
	var want [tagLen]byte
	copy(want[:], message[n:]) // before room overwrites it
	out, room := grow(dst, n)
	checkOverlap(room, message[:n])
	var c call
	c.start(nonce)
	full := n &^ (batch - 1)
	if full > 0 {
		open(&a.s, &room[0], &message[0], full, &c.counter, &c.hash)
	}
	keystream(&a.s, &c.stream, &c.counter, &c.first)
	a.finish(&c, message[full:n], n)
	if subtle.ConstantTimeCompare(c.tag[:], want[:]) != 1 {
		clear(room)
		return nil, errOpen
	}
	subtle.XORBytes(room[full:], message[full:n], c.stream[:])
	return out, nil
}

// call is the state of one Seal or Open.
type call struct {
	counter [blockLen]byte // of the next block, bytes reversed: the number comes first, little endian
	first   [blockLen]byte // the counter block whose encryption masks the tag, J0 in SP 800-38D
	hash    [blockLen]byte // GHASH so far, bytes reversed
	stream  [batch + blockLen]byte
	tail    [tailMax * blockLen]byte
	tag     [tagLen]byte
}

func (c *call) start(nonce []byte) {
	for i, b := range nonce {
		c.first[blockLen-1-i] = b
	}
	c.counter = c.first
	c.first[0], c.counter[0] = 1, 2
}

// finish hashes the rest of the ciphertext, less than a batch, and the length n
// of all of it, and makes the tag.
func (a *narrow) finish(c *call, rest []byte, n int) {
	copy(c.tail[:], rest)
	blocks := (len(rest) + blockLen - 1) / blockLen
	binary.BigEndian.PutUint64(c.tail[blocks*blockLen+8:], uint64(n)*8)
	hash(&a.s, &c.hash, &c.tail[0], blocks+1)
	for i := range c.tag {
		c.tag[i] = c.hash[blockLen-1-i] ^ c.stream[batch+i]
	}
}

// grow extends dst by n bytes and returns all of it and the new part.
func grow(dst []byte, n int) (all, room []byte) {
	if total := len(dst) + n; cap(dst) >= total {
		all = dst[:total]
	} else {
		all = make([]byte, total)
		copy(all, dst)
	}
	return all, all[len(dst):]
}
