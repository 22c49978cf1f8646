package runtime

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// What ESP needs (RFC 4303) with AES-256-GCM (RFC 4106).
const (
	// ESPLabel and ESPSecretLen say what a session is to export for DeriveESP.
	ESPLabel     = "weave v1 vxlan in esp"
	ESPSecretLen = 32
	// ESPKeyLen is the key's 32 bytes and the salt's four.
	ESPKeyLen = 36
	// espAround is what ESP puts around: SPI and sequence number, vector, tag; espInside what it encrypts with a container's packet,
	// as a multiple of four bytes: the heads of UDP, VXLAN and Ethernet, the length of the padding, what the packet is.
	espAround = 8 + 8 + 16
	espInside = 8 + 8 + 14 + 2
	// espReserved are SPIs that IANA keeps: none of them may be used.
	espReserved = 256
	// espSettle is how long the keys of a handshake are known before anything is sealed with them: by then the other end
	// has told its kernel of them too.
	espSettle = 2 * time.Second
	// espSpent is how long the state that sealed stays after another has taken its place: a packet that has found it is lost
	// if it goes before the packet is sealed.
	espSpent = 2 * time.Second
	// espAdopt is how long after the first handshake of a daemon's life what an earlier life left is taken still: until then
	// the other end seals with the new keys too.
	espAdopt = 15 * time.Second
)

// ESPKey protects what goes in one direction.
type ESPKey struct {
	SPI uint32
	Key [ESPKeyLen]byte
}

// Generation is the keys that one handshake gave.
type Generation struct {
	Out, In   ESPKey
	Since     time.Time // when the handshake ended here
	Confirmed bool      // the other end is known to have them too
}

// DeriveESP makes the keys of both directions from a secret that both ends have, and no one else: one end's Out is the
// other's In. The initiator is the end that began the handshake.
func DeriveESP(secret []byte, initiator bool) (out, in ESPKey, err error) {
	if len(secret) != ESPSecretLen {
		return out, in, fmt.Errorf("derive ESP keys: a secret of %d bytes, want %d", len(secret), ESPSecretLen)
	}
	if out, err = deriveESP(secret, "from initiator"); err == nil {
		in, err = deriveESP(secret, "from responder")
	}
	if err != nil {
		return ESPKey{}, ESPKey{}, fmt.Errorf("derive ESP keys: %w", err)
	}
	if !initiator {
		out, in = in, out
	}
	return out, in, nil
}

func deriveESP(secret []byte, direction string) (k ESPKey, err error) {
	b, err := hkdf.Expand(sha256.New, secret, "weave v1 esp "+direction, 4+ESPKeyLen)
	if err != nil {
		return k, err
	}
	k.SPI = binary.BigEndian.Uint32(b)
	if k.SPI < espReserved {
		k.SPI |= espReserved
	}
	copy(k.Key[:], b[4:])
	clear(b)
	return k, nil
}

// ShieldOf says which of a peer's generations, oldest first, are used at a moment. All are taken from the other end. We seal
// with the newest that is confirmed and has settled; before one has, with the oldest confirmed, so that at a change of keys
// each end has the new ones before the other seals with them.
func ShieldOf(s Shield, generations []Generation, now time.Time) Shield {
	s.In, s.Out, s.Spent = nil, nil, nil
	for _, g := range generations {
		s.In = append(s.In, g.In)
		if !g.Confirmed || s.Out != nil && now.Sub(g.Since) < espSettle {
			continue
		}
		if s.Out != nil && now.Sub(g.Since) < espSettle+espSpent {
			s.Spent = append(s.Spent, *s.Out)
		}
		out := g.Out
		s.Out = &out
	}
	return s
}

// Adopting tells whether what an earlier life of the daemon, or of a session, left in the kernel is to stay.
func Adopting(generations []Generation, now time.Time) bool {
	return len(generations) == 0 || now.Sub(generations[0].Since) < espAdopt
}

// ESPFit is the largest packet of a container that VXLAN in ESP carries in one IP packet of a size.
func ESPFit(size int, v6 bool) int {
	head := 20
	if v6 {
		head = 40
	}
	return (size-head-espAround)&^3 - espInside
}
