package gcm

import (
	"crypto/aes"
	"crypto/cipher"
)

// standard is the standard library's AES-256-GCM.
func standard(key *[32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	// GCM keeps its own copy of the key schedule; ours is not left behind.
	defer wipe(block)
	return cipher.NewGCM(block)
}
