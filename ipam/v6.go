package ipam

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
)

// DeriveV6 makes the network's IPv6 prefix of its IPv4 range, so that all peers
// have the same one without a word: a unique local /64 (RFC 4193, section 3.1)
// whose global id, instead of being drawn at random, is the beginning of
// SHA-256 over the range. Subnet id and interface id are zero.
func DeriveV6(r netip.Prefix) netip.Prefix {
	sum := sha256.Sum256([]byte("weave ula v1\x00" + r.Masked().String()))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// ParseV6 reads an --ipalloc-range-v6: a /64 of unicast addresses.
func ParseV6(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is6() || p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is no IPv6 range such as fd12:3456:789a:1::/64", text)
	case p.Bits() != 64 || p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("the IPv6 range %s has to be a /64, with all bits after the prefix zero", text)
	case p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() || p.Addr().Is6() && p.Addr().As16()[0] == 0 && p.Addr().As16()[1] == 0:
		return netip.Prefix{}, fmt.Errorf("the IPv6 range %s is none of unicast addresses", text)
	}
	return p, nil
}

// V6 is the IPv6 address beside an IPv4 address of the range, in the network's
// /64: its last 32 bits are the IPv4 address. The prefix is longer than that of
// the IPv4 subnet by 96, so that who shares a subnet in one family shares it in
// the other, and nobody else.
//
//	 0              64                  96            128
//	+----------------+-------------------+--------------+
//	| network's /64  | zero              | IPv4 address |
//	+----------------+-------------------+--------------+
func V6(network, v4 netip.Prefix) netip.Prefix {
	a := network.Addr().As16()
	b := v4.Addr().As4()
	copy(a[12:], b[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 96+v4.Bits())
}
