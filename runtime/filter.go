package runtime

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Filter says which IPv4 multicast a container takes from its interface: with On, only what comes from Sources, beside
// IGMP and what has no source address yet (DHCP). Sources are masked, sorted and differ; nil if there are none.
type Filter struct {
	On      bool
	Sources []netip.Prefix
}

const (
	noSources  = "none"
	sourcesSep = ","
)

// FilterFor is the filter of a container with these addresses: multicast stays in its subnets.
func FilterFor(addresses []netip.Prefix) Filter {
	f := Filter{On: true}
	for _, a := range addresses {
		if a.Addr().Is4() {
			f.Sources = append(f.Sources, a.Masked())
		}
	}
	slices.SortFunc(f.Sources, netip.Prefix.Compare)
	f.Sources = slices.Compact(f.Sources)
	return f
}

// String is the filter as FilterMulticast steps write it: "off", "none", or the sources with commas between.
func (f Filter) String() string {
	if !f.On {
		return off
	}
	if len(f.Sources) == 0 {
		return noSources
	}
	var b strings.Builder
	for i, s := range f.Sources {
		if i > 0 {
			b.WriteString(sourcesSep)
		}
		b.WriteString(s.String())
	}
	return b.String()
}

// ParseFilter reads what String wrote.
func ParseFilter(text string) (Filter, error) {
	switch text {
	case off:
		return Filter{}, nil
	case noSources:
		return Filter{On: true}, nil
	}
	var sources []netip.Prefix
	for s := range strings.SplitSeq(text, sourcesSep) {
		p, err := netip.ParsePrefix(s)
		if err != nil || !p.Addr().Is4() {
			return Filter{}, fmt.Errorf("parse filter: %q is no IPv4 prefix", s)
		}
		sources = append(sources, p)
	}
	return FilterFor(sources), nil
}
