package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Limits of names and records (RFC 1035, 2.3.4, in text form).
const (
	MaxName     = 253 // bytes, without the dot at the end
	MaxLabel    = 63
	MaxIdent    = 128 // bytes
	MaxServices = 64  // of one record
)

// ErrRecord reports a record that cannot be.
var ErrRecord = errors.New("invalid record")

// Canonical is a name in lower case without the dot at its end.
func Canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Domain is the part of the name space that belongs to the network, such as
// "weave.local", canonical.
type Domain string

// ParseDomain reads a domain, with or without a dot at its end.
func ParseDomain(text string) (Domain, error) {
	d := Canonical(text)
	if err := checkName(d); err != nil {
		return "", fmt.Errorf("domain %q: %w", text, err)
	}
	return Domain(d), nil
}

// String is the domain with the dot at its end, as users see it.
func (d Domain) String() string { return string(d) + "." }

// Holds reports whether a canonical name is below the domain; the domain itself
// is not.
func (d Domain) Holds(name string) bool {
	cut := len(name) - len(d)
	return cut > 1 && name[cut-1] == '.' && name[cut:] == string(d)
}

// Qualify completes a name that has no dot with the domain, as resolvers do.
func (d Domain) Qualify(name string) string {
	if bare := strings.TrimSuffix(name, "."); !strings.Contains(bare, ".") && bare != "" {
		return bare + "." + string(d)
	}
	return strings.TrimSuffix(name, ".")
}

// checkName refuses what cannot be asked for in the text form: letters, digits,
// hyphens and underscores in labels.
func checkName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return fmt.Errorf("%w: a name has 1 to %d characters", ErrRecord, MaxName)
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return fmt.Errorf("%w: %q has an empty label", ErrRecord, name)
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("%w: %q has a character other than letters, digits, hyphens and underscores", ErrRecord, name)
		}
		if label++; label > MaxLabel {
			return fmt.Errorf("%w: a label of %q has more than %d characters", ErrRecord, name, MaxLabel)
		}
	}
	if label == 0 {
		return fmt.Errorf("%w: %q has an empty label", ErrRecord, name)
	}
	return nil
}

// Service is a port that a record's holder serves; SRV queries for
// _name._proto.NAME and _port._proto.NAME find it.
type Service struct {
	Name  string // "http"; may be empty
	Proto string // "tcp", "udp" or "sctp"
	Port  uint16
}

// Record is a name with one address.
type Record struct {
	Name     string // without the dot at its end, in the case it was given
	Ident    string // what holds it
	Addr     netip.Addr
	Services []Service
}

func (r Record) check() error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	if len(r.Ident) == 0 || len(r.Ident) > MaxIdent || strings.ContainsFunc(r.Ident, unprintable) {
		return fmt.Errorf("%w: a holder is named by 1 to %d printable characters", ErrRecord, MaxIdent)
	}
	if a := r.Addr; !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" {
		return fmt.Errorf("%w: %v is no address that a name can have", ErrRecord, a)
	}
	if len(r.Services) > MaxServices {
		return fmt.Errorf("%w: more than %d services", ErrRecord, MaxServices)
	}
	for _, s := range r.Services {
		if err := s.check(); err != nil {
			return err
		}
	}
	return nil
}

func (s Service) check() error {
	if s.Port == 0 || (s.Proto != "tcp" && s.Proto != "udp" && s.Proto != "sctp") {
		return fmt.Errorf("%w: service %d/%s should be a port of tcp, udp or sctp", ErrRecord, s.Port, s.Proto)
	}
	if s.Name == "" {
		return nil
	}
	if len(s.Name) > MaxLabel || strings.Contains(s.Name, ".") {
		return fmt.Errorf("%w: service name %q is no label", ErrRecord, s.Name)
	}
	return checkName(s.Name)
}

func unprintable(r rune) bool { return r < ' ' || r == 0x7f || r == '�' }
