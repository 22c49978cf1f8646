package peer

import (
	"fmt"
	"strconv"
	"strings"
)

// Keys of Save effects.
const (
	keyVersion   = "version"
	keyTargets   = "targets"
	keyAddresses = "addresses"
	keyPinPrefix = "pin/"
)

// Saved is what Save effects kept, for the next start.
type Saved struct {
	Pins      map[Name]PublicKey
	Version   uint64
	Targets   []string // give them to Connect when the start is a resumption
	Addresses []string // for Config.KnownAddresses after a crash
}

// Restore reads back one saved pair. Keys it does not know are ignored; values
// it cannot read are reported and leave s unchanged.
func (s *Saved) Restore(key string, value []byte) error {
	switch {
	case key == keyVersion:
		v, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return fmt.Errorf("restore %s: %w", key, err)
		}
		s.Version = v
	case key == keyTargets:
		s.Targets = splitLines(value)
	case key == keyAddresses:
		s.Addresses = splitLines(value)
	case strings.HasPrefix(key, keyPinPrefix):
		n, err := ParseName(strings.TrimPrefix(key, keyPinPrefix))
		if err != nil {
			return fmt.Errorf("restore %s: %w", key, err)
		}
		if len(value) != KeyLen {
			return fmt.Errorf("restore %s: %w", key, ErrBadKey)
		}
		if s.Pins == nil {
			s.Pins = make(map[Name]PublicKey)
		}
		s.Pins[n] = PublicKey(value)
	}
	return nil
}

func pinKey(n Name) string { return keyPinPrefix + n.String() }

func joinLines(lines []string) []byte { return []byte(strings.Join(lines, "\n")) }

func splitLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\n")
}
