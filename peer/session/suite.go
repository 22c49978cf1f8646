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
)

// The prologue is hashed into the handshake before its first byte: two peers that disagree about it can never agree
// on a key. WireGuard's is fixed by the whitepaper, section 5.4.
const (
	prologueWireGuard = "WireGuard v1 zx2c4 Jason@zx2c4.com"
	prologueAESGCM    = "weave v1 WireGuard with AES-256-GCM"
)

// String names the suite as a status page would.
func (s Suite) String() string {
	switch s {
	case SuiteWireGuard:
		return "chacha20-poly1305"
	case SuiteAESGCM:
		return "aes-256-gcm"
	}
	return "unknown"
}

func (s Suite) known() bool { return s <= SuiteAESGCM }

func (s Suite) prologue() []byte {
	if s == SuiteAESGCM {
		return []byte(prologueAESGCM)
	}
	return []byte(prologueWireGuard)
}

// aead makes the suite's cipher for one direction. Both take the nonce of data messages: four zero bytes and the
// counter, little endian (for GCM too: one layout, and the counter never repeats, which is all GCM asks).
func (s Suite) aead(key *[32]byte) (cipher.AEAD, error) {
	if s != SuiteAESGCM {
		return chacha20poly1305.New(key[:])
	}
	return gcm.New(key)
}

// wipeObject zeroes the struct behind a cipher, which is where its key is. The caller makes sure that nobody uses it.
func wipeObject(c any) {
	if v := reflect.ValueOf(c); v.Kind() == reflect.Pointer && !v.IsNil() {
		v.Elem().SetZero()
	}
}
