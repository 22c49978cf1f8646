package main

import (
	"errors"
	"fmt"
	"net"

	"weave/netns-tests/lab"

	"github.com/vishvananda/netlink"
)

// bareCable has the cable itself as a port of the bridges: nothing is faster.
func bareCable(c *contender) error { return c.bridged("eth0", c.mtu) }

// bareBridge is a bridge with two containers on one host.
func bareBridge(c *contender) error {
	c.addr = "10.31.0.2"
	h := c.lab.Hosts[0]
	if err := lab.Bridge(h.NS, "br", c.mtu); err != nil {
		return err
	}
	for i := range 2 {
		n, err := h.NewContainer()
		if err != nil {
			return err
		}
		port := fmt.Sprintf("veth%d", i)
		err = errors.Join(
			lab.Veth(h.NS, port, n.NS, "ethwe", c.mtu),
			lab.Enslave(h.NS, port, "br"),
			n.AddAddr("ethwe", fmt.Sprintf("10.31.0.%d/24", i+1)))
		if err != nil {
			return err
		}
		c.ends(i, n.NS)
	}
	return nil
}

// vxlanOverhead: IPv4 20, UDP 8, VXLAN 8, the inner Ethernet header 14.
const vxlanOverhead = 50

// kernelVXLAN bridges the kernel's own tunnel, which does not encrypt.
func kernelVXLAN(c *contender) error {
	for i, h := range c.lab.Hosts {
		other := net.ParseIP(c.lab.Hosts[1-i].IP)
		err := h.WithLink("eth0", func(nl *netlink.Handle, l netlink.Link) error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "vxlan"
			return nl.LinkAdd(&netlink.Vxlan{
				LinkAttrs: attrs, VxlanId: 42, VtepDevIndex: l.Attrs().Index,
				Group: other, Port: 4789, Learning: true, UDPCSum: true, // as `ip link add` has it
			})
		})
		if err != nil {
			return fmt.Errorf("make vxlan: %w", err)
		}
	}
	return c.bridged("vxlan", c.mtu-vxlanOverhead)
}
