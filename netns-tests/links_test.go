package netnstests

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"weave/netns-tests/lab"

	"github.com/vishvananda/netlink"
)

// look describes one interface; ok is false when there is none of that name.
func look(t *testing.T, n *lab.NS, dev string) (l link, ok bool) {
	t.Helper()
	h, err := n.Links()
	must(t, err)
	defer h.Close()
	nl, err := h.LinkByName(dev)
	if err != nil {
		return link{}, false
	}
	a := nl.Attrs()
	l = link{Index: a.Index, MTU: a.MTU, MAC: a.HardwareAddr.String(), Up: a.Flags&net.FlagUp != 0}
	addrs, err := h.AddrList(nl, netlink.FAMILY_V4)
	must(t, err)
	for _, ad := range addrs {
		l.Addrs = append(l.Addrs, ad.IPNet.String())
	}
	slices.Sort(l.Addrs)
	return l, true
}

// ethwe describes the container's interface, which must be there.
func ethwe(t *testing.T, c *lab.Container) link {
	t.Helper()
	l, ok := look(t, c.NS, "ethwe")
	if !ok {
		t.Fatalf("no ethwe in %s", c.Name)
	}
	return l
}

// linkNames lists the interfaces of a namespace with their addresses.
func linkNames(t *testing.T, n *lab.NS) []string {
	t.Helper()
	h, err := n.Links()
	must(t, err)
	defer h.Close()
	links, err := h.LinkList()
	must(t, err)
	var out []string
	for _, l := range links {
		addrs, err := h.AddrList(l, netlink.FAMILY_V4)
		must(t, err)
		out = append(out, fmt.Sprintf("%s %s mtu %d %v", l.Attrs().Name, l.Type(), l.Attrs().MTU, addrs))
	}
	slices.Sort(out)
	return out
}

// multicastRoute tells whether 224.0.0.0/4 goes out by ethwe.
func multicastRoute(t *testing.T, c *lab.Container) bool {
	t.Helper()
	h, err := c.Links()
	must(t, err)
	defer h.Close()
	nl, err := h.LinkByName("ethwe")
	must(t, err)
	routes, err := h.RouteList(nl, netlink.FAMILY_V4)
	must(t, err)
	return slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return r.Dst != nil && r.Dst.String() == "224.0.0.0/4"
	})
}
