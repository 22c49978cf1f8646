package session

import (
	"crypto/cipher"
	"encoding/binary"
	"io"

	"github.com/flynn/noise"
	"golang.org/x/crypto/chacha20poly1305"
)

// residue is the Diffie-Hellman and cipher function of one handshake. It does what the library's own do and keeps hold
// of every secret they make on the way (ephemeral key, shared secrets, a cipher per step), so that all can be wiped.
type residue struct {
	secrets [][]byte
	ciphers []cipher.AEAD
}

func (r *residue) wipe() { r.wipeBack(residue{}) }

// wipeBack wipes what came after an earlier state, so that forged messages do not pile up secrets. The library makes
// a new cipher before it uses one in the next message.
func (r *residue) wipeBack(kept residue) {
	for _, s := range r.secrets[len(kept.secrets):] {
		clear(s)
	}
	for _, c := range r.ciphers[len(kept.ciphers):] {
		wipeObject(c)
	}
	*r = kept
}

// GenerateKeypair implements noise.DHFunc.
func (r *residue) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	key, err := noise.DH25519.GenerateKeypair(random)
	r.secrets = append(r.secrets, key.Private)
	return key, err
}

// DH implements noise.DHFunc.
func (r *residue) DH(private, public []byte) ([]byte, error) {
	shared, err := noise.DH25519.DH(private, public)
	r.secrets = append(r.secrets, shared)
	return shared, err
}

// DHLen implements noise.DHFunc.
func (r *residue) DHLen() int { return noise.DH25519.DHLen() }

// DHName implements noise.DHFunc.
func (r *residue) DHName() string { return noise.DH25519.DHName() }

// Cipher implements noise.CipherFunc.
func (r *residue) Cipher(key [32]byte) noise.Cipher {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil { // the key has the right length; only a FIPS 140 mode refuses, and then nothing here can work
		panic("session: " + err.Error())
	}
	r.ciphers = append(r.ciphers, aead)
	return noiseCipher{aead}
}

// CipherName implements noise.CipherFunc.
func (r *residue) CipherName() string { return noise.CipherChaChaPoly.CipherName() }

// noiseCipher is ChaCha20-Poly1305 as the Noise specification (section 12.3) uses it.
type noiseCipher struct{ aead cipher.AEAD }

// Encrypt implements noise.Cipher.
func (c noiseCipher) Encrypt(out []byte, n uint64, ad, plaintext []byte) []byte {
	return c.aead.Seal(out, noiseNonce(n), plaintext, ad)
}

// Decrypt implements noise.Cipher.
func (c noiseCipher) Decrypt(out []byte, n uint64, ad, ciphertext []byte) ([]byte, error) {
	return c.aead.Open(out, noiseNonce(n), ciphertext, ad)
}

func noiseNonce(n uint64) []byte {
	return binary.LittleEndian.AppendUint64(make([]byte, 4, chacha20poly1305.NonceSize), n)
}
