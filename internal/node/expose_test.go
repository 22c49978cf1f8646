package node

import (
	"net/netip"
	"slices"
	"testing"

	"weave/internal/api"
)

// What was said of an address follows it to the one that takes its place.
func TestReaddress(t *testing.T) {
	a, b, c := netip.MustParsePrefix("10.2.1.1/24"), netip.MustParsePrefix("10.2.2.1/24"), netip.MustParsePrefix("10.2.1.2/24")
	x := exposed{
		Places: []placement{{AddressSpec: api.AddressSpec{Prefix: a}, Got: a}, {AddressSpec: api.AddressSpec{Prefix: b}, Got: b}},
		Plain:  []netip.Prefix{a, b}, Named: []named{{"one", a}, {"two", b}},
	}
	x.readdress(0, c)
	if x.Places[0].Got != c || x.Places[1].Got != b || !slices.Equal(x.Plain, []netip.Prefix{c, b}) || !slices.Equal(x.Named, []named{{"one", c}, {"two", b}}) {
		t.Errorf("%+v", x)
	}
}
