package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
)

// FastNonce is what a beat is known by: 16 random bytes, new in each.
type FastNonce [16]byte

// FastBeat is what a beat of the kernel path says. Its frame travels in clear, so that nothing it says is believed: the
// one named is told the nonce over the session, and knows whether it is its own.
//
//	 0..3      4..9   10..25
//	+---------+------+-------+- - - - - - -
//	| "wvf1"  | name | nonce | zero padding
//	+---------+------+-------+- - - - - - -
type FastBeat struct {
	Name  [6]byte // of the sender
	Nonce FastNonce
}

var fastMagic = []byte("wvf1")

const fastBeatLen = 4 + 6 + 16

// AppendFastBeat appends the payload of a beat's frame.
func AppendFastBeat(dst []byte, b FastBeat) []byte {
	dst = append(dst, fastMagic...)
	dst = append(dst, b.Name[:]...)
	return append(dst, b.Nonce[:]...)
}

// ParseFastBeat reads what follows the Ethernet header of a beat's frame.
func ParseFastBeat(payload []byte) (b FastBeat, ok bool) {
	if len(payload) < fastBeatLen || !bytes.Equal(payload[:4], fastMagic) {
		return b, false
	}
	copy(b.Name[:], payload[4:])
	copy(b.Nonce[:], payload[10:])
	return b, true
}

// FastState is how far an end is with the kernel path.
type FastState uint8

// States of a FastReport.
const (
	FastOff FastState = iota
	FastProbing
	FastOn
)

// FastReport tells a peer how the kernel path looks from here. It has a tag of its own, as where clear text is allowed
// the session itself may be in clear.
//
//	FAST        alone in its plaintext
//	 0      1       2..17   18..33
//	+------+-------+-------+-------+
//	| 7    | flags | nonce | tag   |
//	+------+-------+-------+-------+
//	flags: bits 0 and 1 the state, bit 2 proven
//	tag: the first half of HMAC-SHA-256 over the names of sender and receiver and bytes 0 to 17, under the key of the two
type FastReport struct {
	State  FastState
	Proven bool      // beats of the sender are known to arrive
	Nonce  FastNonce // of the latest beat of the receiver that arrived; zero: none
}

const (
	fastLen    = 34
	fastSigned = 18
	fastStates = 3 // mask
	fastProven = 1 << 2
)

// AppendFastReport appends the plaintext of r from one peer to another.
func AppendFastReport(dst []byte, r FastReport, key *[32]byte, from, to [6]byte) []byte {
	flags := byte(r.State) & fastStates
	if r.Proven {
		flags |= fastProven
	}
	start := len(dst)
	dst = append(dst, byte(KindFast), flags)
	dst = append(dst, r.Nonce[:]...)
	return append(dst, fastTag(dst[start:], key, from, to)...)
}

// ParseFastReport reads a plaintext for which Joiner.Add returned KindFast; false if it was not made by from for to.
func ParseFastReport(plaintext []byte, key *[32]byte, from, to [6]byte) (r FastReport, ok bool) {
	if len(plaintext) < fastLen || Kind(plaintext[0]) != KindFast {
		return r, false
	}
	if !hmac.Equal(fastTag(plaintext[:fastSigned], key, from, to), plaintext[fastSigned:fastLen]) {
		return r, false
	}
	r = FastReport{State: FastState(plaintext[1] & fastStates), Proven: plaintext[1]&fastProven != 0}
	copy(r.Nonce[:], plaintext[2:])
	return r, r.State <= FastOn
}

func fastTag(signed []byte, key *[32]byte, from, to [6]byte) []byte {
	m := hmac.New(sha256.New, key[:])
	m.Write(from[:])
	m.Write(to[:])
	m.Write(signed)
	return m.Sum(nil)[:fastLen-fastSigned]
}

// FastKey makes the key of two peers' reports from what their long-term keys have in common (X25519).
func FastKey(shared []byte) (key [32]byte) {
	m := hmac.New(sha256.New, []byte("weave kernel path v1"))
	m.Write(shared)
	return [32]byte(m.Sum(nil))
}
