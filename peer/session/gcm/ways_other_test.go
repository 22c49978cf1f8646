//go:build !amd64

package gcm

import "crypto/cipher"

// ways are the implementations that this processor can run, by name.
func ways() map[string]func(*[32]byte) cipher.AEAD {
	return map[string]func(*[32]byte) cipher.AEAD{"standard": func(key *[32]byte) cipher.AEAD {
		a, err := New(key)
		if err != nil {
			panic(err)
		}
		return a
	}}
}
