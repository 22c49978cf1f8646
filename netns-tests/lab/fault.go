package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// nft loads a ruleset inside a namespace.
func (n *NS) nft(rules string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := n.Run(ctx, nil, rules, "nft", "-f", "-")
	if errors.Is(r.Err, exec.ErrNotFound) {
		return fmt.Errorf("faults need nft, package nftables: %w", r.Err)
	}
	if r.RC != 0 || r.Err != nil {
		return fmt.Errorf("nft in %s: %v", n.Name, r)
	}
	return nil
}

// replaceTable puts a table in place of an earlier one of the same name; an
// empty body only removes it.
func (n *NS) replaceTable(family, name, body string) error {
	rules := fmt.Sprintf("table %s %s {}\ndelete table %s %s\n", family, name, family, name)
	if body != "" {
		rules += fmt.Sprintf("table %s %s {\n%s\n}\n", family, name, body)
	}
	return n.nft(rules)
}

// Loss drops this percentage of the packets that arrive at the host; 0 ends it.
// It acts at ingress: at egress the sender would notice and try again.
func (h *Host) Loss(percent float64) error {
	body := ""
	if percent > 0 {
		some := fmt.Sprintf("numgen random mod 10000 < %d", int(percent*100))
		if percent >= 100 {
			some = ""
		}
		body = fmt.Sprintf("chain in { type filter hook ingress device \"eth0\" priority 0; %s drop; }", some)
	}
	return h.replaceTable("netdev", "labloss", body)
}

// Loss drops this percentage of the frames that cross the underlay bridge, in
// either direction and each by its own; 0 ends it. The bridge joins no packets
// meanwhile: one roll of the dice would drop several.
func (l *Lab) Loss(percent float64) error {
	for _, h := range l.Hosts {
		if err := SetFeatures(l.Under, h.port(), map[string]bool{"rx-gro": percent == 0}); err != nil {
			return err
		}
	}
	body := ""
	if percent > 0 {
		body = fmt.Sprintf("chain f { type filter hook forward priority 0; numgen random mod 10000 < %d drop; }", int(percent*100))
	}
	return l.Under.replaceTable("bridge", "labloss", body)
}

// BlackHole silently drops arriving packets longer than size bytes (from the
// network header on); 0 ends it. This is a path with a small MTU and no ICMP.
// Meanwhile the host joins no packets on arrival: the rule would take several
// that were joined for a long one.
func (h *Host) BlackHole(size int) error {
	if err := SetFeatures(h.NS, "eth0", map[string]bool{"rx-gro": size == 0}); err != nil {
		return err
	}
	body := ""
	if size > 0 {
		body = fmt.Sprintf("chain in { type filter hook ingress device \"eth0\" priority 0; meta length > %d drop; }", size)
	}
	return h.replaceTable("netdev", "labhole", body)
}

// BlockUDP drops all UDP that arrives at the host.
func (h *Host) BlockUDP(block bool) error {
	body := ""
	if block {
		body = "chain in { type filter hook input priority 0; meta l4proto udp drop; }"
	}
	return h.replaceTable("inet", "labudp", body)
}

// BlockUDPPort drops the UDP that arrives at the host for one port; 0 ends it.
func (h *Host) BlockUDPPort(port int) error {
	body := ""
	if port > 0 {
		body = fmt.Sprintf("chain in { type filter hook input priority 0; udp dport %d drop; }", port)
	}
	return h.replaceTable("inet", "labudpport", body)
}

// SetMTU sets the MTU of the host's link to the underlay, both ends.
func (h *Host) SetMTU(mtu int) error {
	return errors.Join(h.SetLinkMTU("eth0", mtu), h.lab.Under.SetLinkMTU(h.port(), mtu))
}

// SetLinkMTU sets the MTU of one interface, and not that of its other end.
func (n *NS) SetLinkMTU(dev string, mtu int) error {
	return n.WithLink(dev, func(nl *netlink.Handle, l netlink.Link) error { return nl.LinkSetMTU(l, mtu) })
}

// Cut pulls the host's cable out of the underlay bridge, or puts it back.
func (h *Host) Cut(cut bool) error {
	return h.lab.Under.WithLink(h.port(), func(nl *netlink.Handle, l netlink.Link) error {
		if cut {
			return nl.LinkSetDown(l)
		}
		return nl.LinkSetUp(l)
	})
}

// Partition stops all traffic between the groups of hosts; hosts of one group
// still reach each other. No groups heal the underlay.
func (l *Lab) Partition(groups ...[]*Host) error {
	var rules strings.Builder
	for i, a := range groups {
		for j, b := range groups {
			if i != j {
				fmt.Fprintf(&rules, "iifname { %s } oifname { %s } drop;\n", ports(a), ports(b))
			}
		}
	}
	body := ""
	if rules.Len() > 0 {
		body = "chain f { type filter hook forward priority 0;\n" + rules.String() + "}"
	}
	return l.Under.replaceTable("bridge", "labpart", body)
}

func ports(hosts []*Host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, fmt.Sprintf("%q", h.port()))
	}
	return strings.Join(names, ", ")
}
