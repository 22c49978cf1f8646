package runtime

import (
	"net/netip"
	"slices"
)

// Family is what packets a chain sees.
type Family uint8

const (
	// IPv4, IPv6 and Inet (both) are nftables' families ip, ip6 and inet.
	IPv4 Family = iota + 1
	IPv6
	Inet
)

// Carries tells that packets a rule is for come by chains of this family.
func (f Family) Carries(r Rule) bool {
	v4, v6 := r.Families()
	return f == Inet || f == IPv4 && v4 || f == IPv6 && v6
}

// Chain is another's chain that decides what passes the host, or reaches it.
type Chain struct {
	Place  Place // Foreign or ForeignInput
	Family Family
	Closed bool     // what its rules say nothing of is dropped or rejected
	Ours   []string // labels of our rules in it
}

// PacketFilter is the host's packet filter as far as it concerns us.
type PacketFilter struct {
	Own    map[Place][]string // labels of the rules in our table, in their order; nil: there is no such table
	Others []Chain
}

// Repair says what of a PacketFilter is not as it should be.
type Repair struct {
	Own    bool  // our table has to be written anew
	Others []int // the places in PacketFilter.Others of chains in which our rules have to be
}

// None tells that everything is as it should be.
func (r Repair) None() bool { return !r.Own && len(r.Others) == 0 }

// CheckFilter compares the rules wanted with what is seen. Without rules nothing of ours is wanted anywhere. In an open
// chain none are: what accepts there would change nothing.
func CheckFilter(want []Rule, seen PacketFilter) Repair {
	var r Repair
	for _, place := range []Place{Postrouting, Forward, Prerouting, Output} {
		r.Own = r.Own || !slices.Equal(labels(want, place, Inet), seen.Own[place])
	}
	r.Own = r.Own || (seen.Own != nil) != (len(want) > 0)
	for i, c := range seen.Others {
		ours := slices.Sorted(slices.Values(c.Ours))
		if !slices.Equal(ours, slices.Sorted(slices.Values(c.labels(want)))) {
			r.Others = append(r.Others, i)
		}
	}
	return r
}

// Wanted are the rules that belong in a chain of another.
func (c Chain) Wanted(rules []Rule) []Rule {
	if !c.Closed {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.Place != c.Place || !c.Family.Carries(r) })
}

func (c Chain) labels(rules []Rule) []string { return labels(c.Wanted(rules), c.Place, c.Family) }

func labels(rules []Rule, place Place, f Family) []string {
	var out []string
	for _, r := range rules {
		if r.Place == place && f.Carries(r) {
			out = append(out, r.Label)
		}
	}
	return out
}

// HostAddress is an address of one of the host's interfaces, with its subnet.
type HostAddress struct {
	Prefix netip.Prefix
	Device string
}

// Conflict finds the address by which the host is in a subnet already that an exposed address would put on the bridge:
// what it reaches there it would lose. A larger network that an exposed subnet is a part of is such a case; one that is
// part of the exposed subnet is not, since the closer route wins. Addresses of the bridge itself do not count.
func Conflict(exposed netip.Prefix, bridge string, host []HostAddress) (HostAddress, bool) {
	for _, a := range host {
		same := a.Prefix.Addr() == exposed.Addr()
		inside := a.Prefix.Bits() <= exposed.Bits() && a.Prefix.Masked().Contains(exposed.Addr()) && !a.Prefix.IsSingleIP()
		if a.Device != bridge && (same || inside) {
			return a, true
		}
	}
	return HostAddress{}, false
}
