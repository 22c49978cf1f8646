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
	switch addr, ipErr := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(target, "["), "]")); {
	case ipErr == nil && (addr.Is6() || !strings.HasPrefix(target, "[")):
		return addr.String(), "", nil
	case !strings.Contains(target, ":"):
		host = target
	default:
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
	if _, err := netip.ParseAddr(host); err == nil {
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

// validHost accepts addresses (with an IPv6 zone) and anything that can be a host name, underscores included because
// people use them. What cannot be one is refused before it reaches a resolver, a log or a terminal.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "" || len(host) > 253 || strings.Contains(host, "..") || host[0] == '-' || host[0] == '.' {
		return false
	}
	for _, r := range host {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		default:
			return false
		}
	}
	return true
}
