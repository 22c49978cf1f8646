package gcm

import "crypto/cipher"

// ways are the implementations that this processor can run, by name.
func ways() map[string]func(*[32]byte) cipher.AEAD {
	w := map[string]func(*[32]byte) cipher.AEAD{"standard": around}
	if hasNarrow() {
		w["256"] = func(key *[32]byte) cipher.AEAD { return newNarrow(key) }
	}
	if hasWide() {
		w["512"] = func(key *[32]byte) cipher.AEAD { return newWide(key) }
	}
	return w
}
