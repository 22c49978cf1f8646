package filter

import (
	"net/netip"
	"testing"
)

var (
	ownMAC   = [6]byte{2, 0, 0, 0, 0, 1}
	otherMAC = [6]byte{2, 0, 0, 0, 0, 9}
)

func from(mac [6]byte, frame []byte) []byte {
	f := append([]byte{}, frame...)
	copy(f[6:], mac[:])
	return f
}

// arp has a sender and a target.
func arp(mac [6]byte, sender, target string) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(b, mac[:]...)
	b = append(b, netip.MustParseAddr(sender).AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return ether(etherARP, append(b, netip.MustParseAddr(target).AsSlice()...))
}

// nd is a message of neighbour discovery with a target and a MAC.
func nd(kind byte, src, target string, option byte, mac [6]byte) []byte {
	b := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...)
	if option > 0 {
		b = append(append(b, option, 1), mac[:]...)
	}
	return raw(src, "ff02::1", protoICMPv6, b)
}

func TestGuard(t *testing.T) {
	g := NewGuard(ownMAC, list("10.0.0.1", "fd00::1"))
	const linkLocal, theirs = "fe80::ff:fe00:1", "fe80::ff:fe00:9"
	for _, c := range []struct {
		pass  bool
		what  string
		frame []byte
	}{
		{true, "IPv4", udp("10.0.0.1", "10.0.0.2", 1, 2)},
		{false, "another's IPv4", udp("10.0.0.2", "10.0.0.3", 1, 2)},
		{true, "no address yet", udp("0.0.0.0", "255.255.255.255", 68, 67)},
		{false, "another's MAC", from(otherMAC, udp("10.0.0.1", "10.0.0.2", 1, 2))},
		{true, "IPv6", udp("fd00::1", "fd00::2", 1, 2)},
		{false, "another's IPv6", udp("fd00::2", "fd00::3", 1, 2)},
		{true, "link-local", udp(linkLocal, "ff02::1", 1, 2)},
		{false, "another's link-local", udp(theirs, "ff02::1", 1, 2)},
		{true, "ARP", arp(ownMAC, "10.0.0.1", "10.0.0.2")},
		{true, "ARP probe", arp(ownMAC, "0.0.0.0", "10.0.0.2")},
		{false, "ARP of another's address", arp(ownMAC, "10.0.0.2", "10.0.0.3")},
		{false, "ARP of another's MAC", arp(otherMAC, "10.0.0.1", "10.0.0.3")},
		{false, "ARP cut short", cut(arp(ownMAC, "10.0.0.1", "10.0.0.2"), 30)},
		{true, "solicitation", nd(135, linkLocal, "fd00::2", 1, ownMAC)},
		{true, "detection of duplicates", nd(135, "::", "fd00::1", 0, ownMAC)},
		{false, "solicitation with another's MAC", nd(135, linkLocal, "fd00::2", 1, otherMAC)},
		{true, "advertisement", nd(136, "fd00::1", "fd00::1", 2, ownMAC)},
		{false, "advertisement of another's address", nd(136, "fd00::1", "fd00::2", 2, ownMAC)},
		{false, "advertisement of another's MAC", nd(136, "fd00::1", "fd00::1", 2, otherMAC)},
		{false, "behind a header", extended(nd(136, "fd00::1", "fd00::2", 2, ownMAC), 0, 60)},
		{false, "as a router", nd(134, linkLocal, "fd00::2", 0, ownMAC)},
		{false, "redirect", nd(137, linkLocal, "fd00::2", 0, ownMAC)},
		{true, "in a VLAN", tagged(0x8100, udp("10.0.0.1", "10.0.0.2", 1, 2))},
		{false, "another's, in a VLAN", tagged(0x8100, udp("10.0.0.2", "10.0.0.3", 1, 2))},
		{false, "in two VLANs", tagged(0x88a8, tagged(0x8100, udp("10.0.0.1", "10.0.0.2", 1, 2)))},
		{true, "another protocol", ether(0x88b5, make([]byte, 40))},
		{false, "another protocol of another's", from(otherMAC, ether(0x88b5, make([]byte, 40)))},
		{false, "nothing", nil},
	} {
		if got := g.Check(c.frame); got != c.pass {
			t.Errorf("%s: passes is %v", c.what, got)
		}
	}
	for _, c := range []struct{ at int }{{0}, {7}, {13}, {20}} {
		if g.Check(cut(udp("10.0.0.1", "10.0.0.2", 1, 2), c.at)) {
			t.Errorf("a frame of %d bytes passes", c.at)
		}
	}
}
