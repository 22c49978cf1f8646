package session

import (
	"crypto/hkdf"
	"fmt"
	stdhash "hash"

	"golang.org/x/crypto/blake2s"
)

// exportSalt sets what is exported apart from everything else that is derived with HKDF here.
const exportSalt = "weave v1 exported keying material"

// Export fills out with keying material of this session for another use: the same at both ends, another for each label
// and each handshake (the idea of RFC 5705). Nobody learns from it what seals and opens here, nor from one label's
// material that of another. It is as secret as the handshake was, whatever the suite: SuiteClear has it too.
//
// Errors: ErrExpired once the keypair was zeroed; more than 8160 bytes.
func (k *Keypair) Export(label string, out []byte) error {
	defer k.leaveSealing()
	if !k.sealing.enter() {
		return ErrExpired
	}
	material, err := hkdf.Expand(newBLAKE2s, k.exporter[:], label, len(out))
	if err != nil {
		return fmt.Errorf("session: export %q: %w", label, err)
	}
	copy(out, material)
	clear(material)
	return nil
}

// newExporter derives the secret behind Export from the two transport keys. Both ends put the initiator's first.
func newExporter(initiator bool, send, receive *[32]byte) (out [32]byte, err error) {
	if !initiator {
		send, receive = receive, send
	}
	both := append(append(make([]byte, 0, 64), send[:]...), receive[:]...)
	defer clear(both)
	secret, err := hkdf.Extract(newBLAKE2s, both, []byte(exportSalt))
	if err != nil {
		return out, fmt.Errorf("session: derive the exporter: %w", err)
	}
	copy(out[:], secret)
	clear(secret)
	return out, nil
}

// newBLAKE2s is the hash of the handshake, as HKDF takes it.
func newBLAKE2s() stdhash.Hash {
	h, err := blake2s.New256(nil)
	if err != nil { // it refuses keys that are too long, and there is none
		panic("session: " + err.Error())
	}
	return h
}
