package gcm

import (
	"crypto/cipher"
	"crypto/subtle"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// stretch is how many blocks wide_amd64.s hashes before it reduces the sum. More
// would gain a hundredth, and each costs every key 16 bytes.
const stretch = 32

// wideSchedule is what the assembly reads; its layout is known there. The last
// blocks of a message are hashed with zeros up to a whole batch, which meet
// what lies behind the powers: the round keys, any bytes do.
type wideSchedule struct {
	powers [stretch][blockLen]byte // powers[i] is H^(stretch-i), see schedule
	rounds [15][blockLen]byte
}

// The layout that wide_amd64.s counts on: a difference does not compile.
var (
	_ [unsafe.Offsetof(wideSchedule{}.powers)]byte = [0]byte{}
	_ [unsafe.Offsetof(wideSchedule{}.rounds)]byte = [512]byte{}
)

// wide implements cipher.AEAD by 512-bit vectors. Like narrow it holds no
// pointer.
type wide struct {
	s wideSchedule
}

// hasWide says whether processor and operating system know what wide needs; the
// latter must have switched the larger registers on, which package cpu asks.
func hasWide() bool {
	x := &cpu.X86
	return hasNarrow() && x.HasBMI2 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL &&
		x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ
}

func newWide(key *[32]byte) *wide {
	w := new(wide)
	w.rekey(key)
	return w
}

// rekey makes w what newWide would make.
func (w *wide) rekey(key *[32]byte) {
	var s schedule
	defer func() { s = schedule{} }()
	expand(&s, key)
	for i := range w.s.rounds {
		w.s.rounds[i] = [blockLen]byte(s.rounds[i][:])
	}
	s.fillPowers(w.s.powers[:])
}

// around is the way by the standard library; the key is the first two round keys.
func (w *wide) around() cipher.AEAD {
	var key [32]byte
	defer func() { clear(key[:]) }()
	copy(key[:], w.s.rounds[0][:])
	copy(key[blockLen:], w.s.rounds[1][:])
	return around(&key)
}

// NonceSize implements cipher.AEAD.
func (w *wide) NonceSize() int { return nonceLen }

// Overhead implements cipher.AEAD.
func (w *wide) Overhead() int { return tagLen }

// Seal implements cipher.AEAD.
func (w *wide) Seal(dst, nonce, plaintext, additional []byte) []byte {
	if len(additional) > 0 || len(nonce) != nonceLen || len(plaintext) > maxLength {
		return w.around().Seal(dst, nonce, plaintext, additional)
	}
	n := len(plaintext)
	out, room := grow(dst, n+tagLen)
	checkOverlap(room[:n], plaintext)
	tag := (*[tagLen]byte)(room[n:])
	sealWide(&w.s, &room[0], unsafe.SliceData(plaintext), n, (*[nonceLen]byte)(nonce), tag)
	return out
}

// Open implements cipher.AEAD.
func (w *wide) Open(dst, nonce, message, additional []byte) ([]byte, error) {
	if len(additional) > 0 || len(nonce) != nonceLen || len(message) > maxLength+tagLen {
		return w.around().Open(dst, nonce, message, additional)
	}
	if len(message) < tagLen {
		return nil, errOpen
	}
	n := len(message) - tagLen
	var tag, want [tagLen]byte
	copy(want[:], message[n:]) // before room overwrites it
	out, room := grow(dst, n)
	checkOverlap(room, message[:n])
	openWide(&w.s, unsafe.SliceData(room), &message[0], n, (*[nonceLen]byte)(nonce), &tag)
	if subtle.ConstantTimeCompare(tag[:], want[:]) != 1 {
		clear(room)
		return nil, errOpen
	}
	return out, nil
}
