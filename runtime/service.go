package runtime

import "net/netip"

// serviceRange is part of IPv4's link-local addresses (RFC 3927), away from
// those that clouds and node-local resolvers use.
var serviceRange = netip.MustParsePrefix("169.254.64.0/18")

// ServiceRange is where service addresses are from.
func ServiceRange() netip.Prefix { return serviceRange }

// ServiceAddress is the address at which a host answers its containers, by the
// MAC of its bridge. Two hosts rarely have the same; when they do, a container
// keeps to the first that answers, which is its own host.
func ServiceAddress(mac MAC) netip.Addr {
	h := uint32(2166136261) // FNV-1a
	for _, b := range mac {
		h = (h ^ uint32(b)) * 16777619
	}
	n := (h ^ h>>16) % (1<<14 - 2)
	base := serviceRange.Addr().As4()
	return netip.AddrFrom4([4]byte{base[0], base[1], base[2] + byte((n+1)>>8), byte(n + 1)})
}
