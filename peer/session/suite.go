package session

import (
	"crypto/cipher"
	"reflect"

	"golang.org/x/crypto/chacha20poly1305"

	"weave/peer/session/gcm"
)

// PublicKey is an X25519 public key: who a peer is.
type PublicKey = [32]byte

// Suite says how the data messages of a session are sealed and which prologue its handshake is bound to. The
// initiator chooses; it is byte 1 of messages 1 and 2.
type Suite uint8

const (
	// SuiteWireGuard is WireGuard to the letter: ChaCha20-Poly1305 (RFC 8439).
	SuiteWireGuard Suite = 0
	// SuiteAESGCM is the same handshake under a prologue of its own, with AES-256-GCM (NIST SP 800-38D) for data.
	// Faster where the processor has AES instructions, slow and not constant in time where it has not.
	SuiteAESGCM Suite = 1
	// SuiteClear is the same handshake under a third prologue, and data in clear: who
	// can read the wire can read and change it. Both ends must have asked for it.
	SuiteClear Suite = 2
)

// The prologue is hashed into the handshake before its first byte: two peers that disagree about it can never agree
// on a key. WireGuard's is fixed by the whitepaper, section 5.4.
const (
	prologueWireGuard = "WireGuard v1 zx2c4 Jason@zx2c4.com"
	prologueAESGCM    = "weave v1 WireGuard with AES-256-GCM"
	prologueClear     = "weave v1 WireGuard with data in clear"
)

// String names the suite as a status page would.
func (s Suite) String() string {
	switch s {
	case SuiteWireGuard:
		return "chacha20-poly1305"
	case SuiteAESGCM:
		return "aes-256-gcm"
	case SuiteClear:
		return "clear"
	}
	return "unknown"
}

func (s Suite) known() bool { return s <= SuiteClear }

func (s Suite) prologue() []byte {
	switch s {
	case SuiteAESGCM:
		return []byte(prologueAESGCM)
	case SuiteClear:
		return []byte(prologueClear)
	}
	return []byte(prologueWireGuard)
}

// aead makes the suite's cipher for one direction. Both take the nonce of data messages: four zero bytes and the
// counter, little endian (for GCM too: one layout, and the counter never repeats, which is all GCM asks).
func (s Suite) aead(key *[32]byte) (cipher.AEAD, error) {
	switch s {
	case SuiteAESGCM:
		return gcm.NewSparing(key), nil
	case SuiteClear:
		return &clearText{}, nil
	}
	return chacha20poly1305.New(key[:])
}

// clearText has the form of a cipher and is none: the tag is zeros, and nobody
// looks at it.
type clearText struct{ _ byte }

func (*clearText) NonceSize() int { return 12 }
func (*clearText) Overhead() int  { return TagLen }

func (*clearText) Seal(dst, _, plaintext, _ []byte) []byte {
	dst = append(dst, plaintext...)
	return append(dst, make([]byte, TagLen)...)
}

func (*clearText) Open(dst, _, sealed, _ []byte) ([]byte, error) {
	if len(sealed) < TagLen {
		return nil, ErrForged
	}
	return append(dst, sealed[:len(sealed)-TagLen]...), nil
}

// wipeObject wipes a cipher's key: as it offers, or by zeroing the struct behind it, which is where the key is. The caller makes
// sure that nobody uses it.
func wipeObject(c any) {
	if w, ok := c.(interface{ Wipe() }); ok {
		w.Wipe()
		return
	}
	if v := reflect.ValueOf(c); v.Kind() == reflect.Pointer && !v.IsNil() {
		v.Elem().SetZero()
	}
}
