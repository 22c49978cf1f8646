package peer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// NameLen is the length of a Name in bytes.
const NameLen = 6

// Name identifies a peer to users and in routes. It has the form of a unicast
// MAC address because the host's bridge takes it as its own. The zero Name
// means "no peer".
type Name [NameLen]byte

var errName = errors.New("should be six hexadecimal bytes such as 8a:3e:3e:3e:3e:3e, or short such as ::1")

// ParseName reads a name in MAC notation. As in IPv6 notation one "::" stands
// for as many zero bytes as are missing: "::1" is 00:00:00:00:00:01. The zero
// name and names with the multicast bit set are refused.
func ParseName(s string) (Name, error) {
	head, tail, short := strings.Cut(s, "::")
	front, err := parseOctets(head)
	if err != nil {
		return Name{}, fmt.Errorf("parse peer name %q: %w", s, err)
	}
	back, err := parseOctets(tail)
	if err != nil {
		return Name{}, fmt.Errorf("parse peer name %q: %w", s, err)
	}
	have := len(front) + len(back)
	if have > NameLen || (short && have == NameLen) || (!short && have != NameLen) {
		return Name{}, fmt.Errorf("parse peer name %q: %w", s, errName)
	}
	var n Name
	copy(n[:], front)
	copy(n[NameLen-len(back):], back)
	if n.IsZero() {
		return Name{}, fmt.Errorf("parse peer name %q: the zero name is reserved", s)
	}
	if n[0]&1 != 0 {
		return Name{}, fmt.Errorf("parse peer name %q: a multicast address cannot name a peer (first byte is odd)", s)
	}
	return n, nil
}

func parseOctets(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var out []byte
	for _, part := range strings.Split(s, ":") {
		if len(part) == 0 || len(part) > 2 || len(out) == NameLen {
			return nil, errName
		}
		v, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return nil, errName
		}
		out = append(out, byte(v))
	}
	return out, nil
}

// NameFromKey derives the name of a peer that was given none: the first six
// bytes of SHA-256 over the key, made a locally administered unicast address.
func NameFromKey(k PublicKey) Name {
	h := sha256.New()
	h.Write([]byte("weave peer name v1\x00"))
	h.Write(k[:])
	var n Name
	copy(n[:], h.Sum(nil))
	n[0] = n[0]&^1 | 2
	return n
}

// nameFromBytes accepts the wire form; ok is false for a wrong length or the
// zero name.
func nameFromBytes(b []byte) (n Name, ok bool) {
	if len(b) != NameLen {
		return Name{}, false
	}
	copy(n[:], b)
	return n, !n.IsZero()
}

// String returns the name in MAC notation.
func (n Name) String() string {
	const digits = "0123456789abcdef"
	var out [NameLen*3 - 1]byte
	for i, b := range n {
		if i > 0 {
			out[i*3-1] = ':'
		}
		out[i*3], out[i*3+1] = digits[b>>4], digits[b&15]
	}
	return string(out[:])
}

// IsZero reports whether n is the zero name, which no peer has.
func (n Name) IsZero() bool { return n == Name{} }

// Compare orders names by their bytes.
func (n Name) Compare(o Name) int { return bytes.Compare(n[:], o[:]) }

// MarshalText returns what String returns.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what MarshalText wrote, the zero name included.
func (n *Name) UnmarshalText(b []byte) error {
	if string(b) == (Name{}).String() {
		*n = Name{}
		return nil
	}
	v, err := ParseName(string(b))
	if err != nil {
		return err
	}
	*n = v
	return nil
}

// Label returns the name as users see a peer: mac(nickname).
func Label(n Name, nickname string) string { return n.String() + "(" + nickname + ")" }
