package peer

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/argon2"
)

// KeyLen is the length of a PublicKey and of an Identity's seed in bytes.
const KeyLen = 32

// PublicKey is a peer's Ed25519 public key (RFC 8032).
type PublicKey [KeyLen]byte

// ErrBadKey is returned for bytes that are no usable public key.
var ErrBadKey = errors.New("not a usable ed25519 public key")

// X25519 returns the X25519 public key (RFC 7748) that belongs to the same
// private scalar: the u-coordinate of the birational map of RFC 7748 section
// 4.1. Points of small order, for which every shared secret would be zero, are
// refused with ErrBadKey.
func (k PublicKey) X25519() ([32]byte, error) {
	p, err := new(edwards25519.Point).SetBytes(k[:])
	if err != nil {
		return [32]byte{}, ErrBadKey
	}
	small := new(edwards25519.Point).MultByCofactor(p)
	if small.Equal(edwards25519.NewIdentityPoint()) == 1 {
		return [32]byte{}, ErrBadKey
	}
	return [32]byte(p.BytesMontgomery()), nil
}

// verifies reports whether sig is the key's signature over msg.
func (k PublicKey) verifies(msg, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(k[:], msg, sig)
}

// String returns the key in hexadecimal.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// Identity is the secret a peer is known by. It is made once and kept. The
// zero Identity is not usable.
type Identity struct {
	private ed25519.PrivateKey
	x25519  [32]byte // X25519 public key, computed once
}

// NewIdentity makes an identity from 32 bytes of randomness.
func NewIdentity(random io.Reader) (Identity, error) {
	var seed [KeyLen]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return Identity{}, fmt.Errorf("make identity: %w", err)
	}
	return IdentityFromSeed(seed), nil
}

// IdentityFromSeed returns the identity that was saved as this seed.
func IdentityFromSeed(seed [KeyLen]byte) Identity {
	id := Identity{private: ed25519.NewKeyFromSeed(seed[:])}
	x, err := id.PublicKey().X25519()
	if err != nil {
		panic("peer: a clamped scalar gave a point of small order")
	}
	id.x25519 = x
	return id
}

// IsZero reports whether the identity is the unusable zero value.
func (id Identity) IsZero() bool { return id.private == nil }

// Seed returns the 32 secret bytes to keep.
func (id Identity) Seed() [KeyLen]byte { return [KeyLen]byte(id.private.Seed()) }

// PublicKey returns the Ed25519 public key.
func (id Identity) PublicKey() PublicKey {
	return PublicKey(id.private[ed25519.SeedSize:])
}

// X25519Private returns the secret scalar of the Ed25519 key, clamped (RFC
// 8032 section 5.1.5), as an X25519 private key.
func (id Identity) X25519Private() [32]byte {
	h := sha512.Sum512(id.private.Seed())
	h[0] &= 248
	h[31] = h[31]&127 | 64
	return [32]byte(h[:32])
}

// X25519Public returns the X25519 public key; it equals PublicKey().X25519().
func (id Identity) X25519Public() [32]byte { return id.x25519 }

// Sign returns the 64-byte Ed25519 signature over msg.
func (id Identity) Sign(msg []byte) []byte { return ed25519.Sign(id.private, msg) }

// Argon2id parameters of PSK (RFC 9106): two passes over 19 MiB in one lane,
// some 30 ms and a short-lived 19 MiB on a small machine. They are part of the
// protocol: all peers of a network must use the same.
const (
	pskPasses  = 2
	pskMemory  = 19 * 1024 // KiB
	pskThreads = 1
	pskSalt    = "weave control psk v1"
)

// PSK derives the pre-shared key of the control connections from the network's
// password. No password gives the zero key: encrypted all the same, but
// membership is not authenticated. The salt is the protocol's name because
// strangers must arrive at the same key from the password alone.
func PSK(password string) [32]byte {
	if password == "" {
		return [32]byte{}
	}
	return [32]byte(argon2.IDKey([]byte(password), []byte(pskSalt), pskPasses, pskMemory, pskThreads, 32))
}
