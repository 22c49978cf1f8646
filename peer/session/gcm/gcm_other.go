//go:build !amd64

package gcm

import "crypto/cipher"

// New makes an AEAD for key. The error is that of the standard library, nil
// unless it refuses AES altogether.
func New(key *[32]byte) (cipher.AEAD, error) { return standard(key) }

// Accelerated says whether New uses 256-bit vectors.
func Accelerated() bool { return false }
