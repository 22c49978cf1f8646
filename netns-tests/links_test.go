package netnstests

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

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

// Hosts with several queues, each with threads and sockets of its own, beside one with a single one:
//
//	c1 ── host1 (3 queues) ═══ host2 (1 queue) ── c2
func TestQueues(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	launch(t, l.Hosts[0], "--queues", "3", "--no-fastdp")
	launch(t, l.Hosts[1], "--queues", "1", "--no-fastdp", l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	p := joinPair(t, l)
	for i, d := range [][2]*lab.Container{{p.c1, p.c2}, {p.c2, p.c1}} {
		_, err := lab.Transfer(d[0].NS, d[1].NS, fmt.Sprintf("10.2.1.%d:5001", 2-i), 8<<20, time.Minute)
		must(t, err)
	}
	if got := run(t, l.Hosts[0], "report", "-f", "{{.Router.CaptureStats.Queues}}"); strings.TrimSpace(got) != "3" {
		t.Errorf("the report says %q queues", got)
	}
}
