package lab

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
)

// Join lets only these pairs of hosts talk to each other; no pairs let all.
func (l *Lab) Join(pairs ...[2]int) error {
	if len(pairs) == 0 {
		return l.Under.replaceTable("bridge", "labjoin", "")
	}
	var rules strings.Builder
	for _, p := range pairs {
		a, b := l.Hosts[p[0]-1].port(), l.Hosts[p[1]-1].port()
		fmt.Fprintf(&rules, "iifname %q oifname %q accept;\niifname %q oifname %q accept;\n", a, b, b, a)
	}
	// Neighbour solicitations of others must not be answered for by the bridge, so all else is dropped.
	body := "chain f { type filter hook forward priority 1;\n" + rules.String() + "drop;\n}"
	return l.Under.replaceTable("bridge", "labjoin", body)
}

// NAT puts the host behind a port-restricted cone NAT (RFC 3489 section 5):
// its UDP port appears as another one, the same to everybody, and whoever the
// host has not sent to does not get in, by TCP or UDP. 0 ends it.
func (h *Host) NAT(port int) error {
	body := ""
	if port > 0 {
		body = fmt.Sprintf(`
chain post { type nat hook postrouting priority 100; oifname "eth0" meta nfproto ipv4 udp sport 6783 snat ip to %s:%d; }
chain in { type filter hook input priority 0;
	iifname "eth0" ct state established,related accept;
	iifname "eth0" meta l4proto { tcp, udp } drop;
}`, h.IP, port)
	}
	return h.replaceTable("inet", "labnat", body)
}

// Readdress gives the host's link another address in place of the one it has.
func (h *Host) Readdress(ip string) error {
	if err := h.DelAddr("eth0", h.IP+"/24"); err != nil {
		return err
	}
	h.IP = ip
	return h.AddAddr("eth0", h.IP+"/24")
}

// BlockUDPBetween drops the UDP between two hosts, and nothing else.
func (l *Lab) BlockUDPBetween(a, b *Host) error {
	var rules strings.Builder
	for _, p := range [][2]*Host{{a, b}, {b, a}} {
		fmt.Fprintf(&rules, "iifname %q oifname %q meta l4proto udp drop;\n", p[0].port(), p[1].port())
	}
	return l.Under.replaceTable("bridge", "labudp", "chain f { type filter hook forward priority 2;\n"+rules.String()+"}")
}

// Refuse drops what arrives at the host by UDP for addresses of a subnet.
func (h *Host) Refuse(cidr string) error {
	family := "ip"
	if strings.Contains(cidr, ":") {
		family = "ip6"
	}
	return h.replaceTable(family, "labrefuse", fmt.Sprintf(
		"chain in { type filter hook input priority 0; %s daddr %s meta l4proto udp drop; }", family, cidr))
}

// gateway is the router's address on every host's link of a routed underlay.
const gateway = "10.99.254.1"

// route joins each host to a router by a link of its own. A hundred hosts on one
// bridge would overflow the kernel's neighbour table, which is one for the
// machine; here each knows its router only.
func (l *Lab) route() error {
	var err error
	if l.Under, err = NewNS(l.ID+"-u", "underlay"); err != nil {
		return err
	}
	if err := l.Under.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	for _, h := range l.Hosts {
		if err := Veth(l.Under, h.port(), h.NS, "eth0", l.cfg.MTU); err != nil {
			return err
		}
		if err := errors.Join(l.Under.AddAddr(h.port(), gateway+"/32"), h.AddAddr("eth0", h.IP+"/32")); err != nil {
			return err
		}
		if err := errors.Join(
			l.Under.addRoute(h.port(), h.IP+"/32", ""),
			h.addRoute("eth0", gateway+"/32", ""),
			h.addRoute("eth0", "0.0.0.0/0", gateway),
		); err != nil {
			return err
		}
	}
	return nil
}

// addRoute adds a route by a link: on it, or over a gateway.
func (n *NS) addRoute(dev, cidr, via string) error {
	_, dst, err := net.ParseCIDR(cidr)
	if err != nil {
		return err
	}
	return n.WithLink(dev, func(h *netlink.Handle, l netlink.Link) error {
		r := netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: net.ParseIP(via), Scope: netlink.SCOPE_LINK}
		if via != "" {
			r.Scope = netlink.SCOPE_UNIVERSE
		}
		return h.RouteAdd(&r)
	})
}
