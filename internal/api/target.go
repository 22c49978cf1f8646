package api

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Resolver looks up the addresses of a host name; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ParseTarget splits a peer as users write it, host[:port], into its parts; port is "" when it is not given. IPv6
// addresses stand in brackets when a port follows. The error's text is the one users know.
func ParseTarget(target string) (host, port string, err error) {
	invalid := fmt.Errorf("invalid peer name %q, should be host[:port]", target)
	bare, bracketed := target, false
	if strings.HasPrefix(target, "[") && strings.HasSuffix(target, "]") {
		bare, bracketed = target[1:len(target)-1], true
	}
	if addr, ok := parseIP(bare); ok && (addr.Is6() || !bracketed) {
		return addr.String(), "", nil
	}
	host = target
	if strings.Contains(target, ":") {
		if host, port, err = net.SplitHostPort(target); err != nil {
			return "", "", invalid
		}
		if n, numErr := strconv.ParseUint(port, 10, 16); numErr != nil || n == 0 {
			return "", "", invalid
		}
	}
	if !validHost(host) {
		return "", "", invalid
	}
	return host, port, nil
}

// CheckTarget reports why target cannot be dialled: it is malformed, or its name has no address now. A nil resolver
// is the system's.
func CheckTarget(ctx context.Context, resolver Resolver, target string) error {
	host, _, err := ParseTarget(target)
	if err != nil {
		return err
	}
	if _, ok := parseIP(host); ok {
		return nil
	}
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	if _, err := resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return fmt.Errorf("cannot resolve peer %q: %w", target, err)
	}
	return nil
}

// validHost accepts addresses and anything that can be a host name, underscores included because people use them. What
// cannot be one is refused before it reaches a resolver, a log or a terminal.
func validHost(host string) bool {
	if _, ok := parseIP(host); ok {
		return true
	}
	return len(host) <= 253 && !strings.Contains(host, "..") && host != "" && host[0] != '-' && host[0] != '.' &&
		plain(host)
}

// parseIP reads an address; an IPv6 zone must look like the name of an interface.
func parseIP(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	return addr, err == nil && plain(addr.Zone())
}

// plain tells whether text has only letters, digits, hyphens, dots and underscores.
func plain(text string) bool {
	for _, r := range text {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		default:
			return false
		}
	}
	return true
}
