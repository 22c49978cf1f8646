package filter

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Guard is what a port may call itself. It is not changed. Every frame of a container has its MAC as source, and in it ARP, neighbour
// discovery, IPv4 and IPv6 have the container's addresses, none, or the link-local address that follows from the MAC.
type Guard struct {
	mac   [6]byte
	addrs []netip.Addr
}

// NewGuard makes one.
func NewGuard(mac [6]byte, addrs []netip.Addr) *Guard {
	g := &Guard{mac: mac, addrs: slices.Clone(addrs)}
	g.addrs = append(g.addrs, LinkLocal(mac), netip.IPv4Unspecified(), netip.IPv6Unspecified())
	return g
}

// LinkLocal is the IPv6 address of an interface that has no other (RFC 4291, appendix A).
func LinkLocal(mac [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

// Check tells whether a frame says the truth about where it is from.
func (g *Guard) Check(frame []byte) bool {
	if len(frame) < etherLen || [6]byte(frame[6:12]) != g.mac {
		return false
	}
	body, kind := frame[etherLen:], binary.BigEndian.Uint16(frame[12:])
	if kind == etherVLAN || kind == etherQinQ { // one tag, as the kernel's bridge sees it
		if len(body) < 4 {
			return false
		}
		body, kind = body[4:], binary.BigEndian.Uint16(body[2:])
	}
	switch kind {
	case etherVLAN, etherQinQ:
		return false // what is behind a second one nobody looks at
	case etherARP:
		return g.arp(body)
	case etherIPv4:
		return len(body) >= 20 && g.owns(netip.AddrFrom4([4]byte(body[12:16])))
	case etherIPv6:
		return len(body) >= 40 && g.owns(netip.AddrFrom16([16]byte(body[8:24]))) && g.neighbour(body)
	}
	return true
}

func (g *Guard) owns(a netip.Addr) bool {
	for _, own := range g.addrs {
		if own == a {
			return true
		}
	}
	return false
}

// arp checks the sender's addresses (RFC 826): at 8 the MAC, at 14 the IPv4 address.
func (g *Guard) arp(b []byte) bool {
	return len(b) >= 28 && binary.BigEndian.Uint16(b[2:]) == etherIPv4 && b[4] == 6 && b[5] == 4 &&
		[6]byte(b[8:14]) == g.mac && g.owns(netip.AddrFrom4([4]byte(b[14:18])))
}

// Types of neighbour discovery (RFC 4861, section 4).
const (
	routerAdvert    = 134
	neighbourAsk    = 135
	neighbourAdvert = 136
	redirectMessage = 137
)

// neighbour checks messages of neighbour discovery: an advertisement is of an own address, MACs told are the own one, and a container
// is no router. It finds the message as the receiver does; one in pieces is heeded by nobody (RFC 6980).
func (g *Guard) neighbour(b []byte) bool {
	b = upper6(b)
	if b == nil {
		return true
	}
	switch b[0] {
	case routerAdvert, redirectMessage:
		return false
	case neighbourAsk:
		return len(b) < 24 || g.ownMAC(b[24:], 1)
	case neighbourAdvert:
		return len(b) >= 24 && g.owns(netip.AddrFrom16([16]byte(b[8:24]))) && g.ownMAC(b[24:], 2)
	}
	return true
}

// ownMAC looks at the first option, which is the only one that Linux sends: a MAC in it has to be ours.
func (g *Guard) ownMAC(options []byte, kind byte) bool {
	return len(options) < 8 || options[0] != kind || [6]byte(options[2:8]) == g.mac
}

// upper6 is the ICMPv6 message of an IPv6 packet, nil if it has none.
func upper6(b []byte) []byte {
	next := b[6]
	b = b[40:]
	for range maxExtensions {
		switch {
		case next == protoICMPv6 && len(b) > 0:
			return b
		case (next == 0 || next == 43 || next == 60) && len(b) >= 8 && len(b) >= 8+8*int(b[1]):
			next, b = b[0], b[8+8*int(b[1]):]
		default:
			return nil
		}
	}
	return nil
}
