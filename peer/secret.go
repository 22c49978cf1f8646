package peer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// maxSecrets bounds the passwords that a peer accepts at a time.
const maxSecrets = 8

// SecretID names a password to those who know it. It is told to members only,
// and finding the password by it takes as much work as by trying to connect.
type SecretID uint64

// String returns the ID in 16 hexadecimal digits.
func (id SecretID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// Secret is what a password becomes.
type Secret struct {
	ID  SecretID
	PSK [32]byte // of control connections and data sessions
}

// SecretOf derives the secret of a password, which takes some 30 ms.
func SecretOf(password string) Secret { return secretFrom(PSK(password)) }

func secretFrom(psk [32]byte) Secret {
	sum := sha256.Sum256(append([]byte("weave secret id v1\x00"), psk[:]...))
	return Secret{ID: SecretID(binary.BigEndian.Uint64(sum[:])), PSK: psk}
}

// CommonSecret picks the secret of a data session: of those that both ends
// accept, the one with the lowest ID, so that both pick the same. Neither having
// any is fine: the zero PSK stands for no password. ok is false if both have some
// and none in common.
func CommonSecret(ours []Secret, theirs []SecretID) (psk [32]byte, ok bool) {
	if len(ours) == 0 && len(theirs) == 0 {
		return psk, true
	}
	best := SecretID(0)
	for _, s := range ours {
		if slices.Contains(theirs, s.ID) && (!ok || s.ID < best) {
			best, psk, ok = s.ID, s.PSK, true
		}
	}
	return psk, ok
}

// IDsOf lists the IDs of secrets, sorted.
func IDsOf(secrets []Secret) []SecretID {
	out := make([]SecretID, 0, len(secrets))
	for _, s := range secrets {
		out = append(out, s.ID)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// MarshalSecrets makes of secrets what UnmarshalSecrets reads, for a file that
// nobody else may.
func MarshalSecrets(secrets []Secret) []byte {
	var out []byte
	for _, s := range secrets {
		out = append(out, s.PSK[:]...)
	}
	return out
}

// UnmarshalSecrets is an error for bytes that MarshalSecrets did not write.
func UnmarshalSecrets(b []byte) ([]Secret, error) {
	if len(b)%32 != 0 || len(b) > 32*maxSecrets {
		return nil, fmt.Errorf("restore passwords: %d bytes", len(b))
	}
	var out []Secret
	for psk := range slices.Chunk(b, 32) {
		out = append(out, secretFrom([32]byte(psk)))
	}
	return out, nil
}

// AddSecret returns the list with one more secret behind the others. Errors: it
// is there already, or there are too many.
func AddSecret(list []Secret, s Secret) ([]Secret, error) {
	if slices.Contains(list, s) {
		return list, fmt.Errorf("password %s is accepted already", s.ID)
	}
	if len(list) >= maxSecrets {
		return list, fmt.Errorf("%d passwords are accepted, which is the most: retire one first", len(list))
	}
	return append(slices.Clip(list), s), nil
}

// RetireSecret returns the list without one. Errors: it is not there, or it is
// the last.
func RetireSecret(list []Secret, id SecretID) ([]Secret, error) {
	at := slices.IndexFunc(list, func(s Secret) bool { return s.ID == id })
	switch {
	case at < 0:
		return list, fmt.Errorf("password %s is not among those accepted", id)
	case len(list) == 1:
		return list, fmt.Errorf("password %s is the only one: add another first", id)
	}
	return slices.Delete(slices.Clone(list), at, at+1), nil
}
