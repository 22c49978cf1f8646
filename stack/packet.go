package stack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// groupAddr is a multicast address: IPv6, or IPv4 mapped into it.
type groupAddr [16]byte

func (g groupAddr) String() string { return netip.AddrFrom16(g).Unmap().String() }

func group4(b []byte) groupAddr {
	g := groupAddr{10: 0xff, 11: 0xff}
	copy(g[12:], b[:4])
	return g
}

// is4 tells the families apart.
func (g groupAddr) is4() bool { return g[0] == 0 }

// readGroup reads an address of 4 or 16 bytes; false means that it is not multicast: 224.0.0.0/4 (RFC 1112), ff00::/8 (RFC 4291).
func readGroup(b []byte, width int) (groupAddr, bool) {
	if width == 4 {
		return group4(b), b[0]>>4 == 0xe
	}
	return groupAddr(b[:16]), b[0] == 0xff
}

// isLinkScope says whether the group is one that is always flooded, because hosts need not report it (RFC 4541 section 2.1.2 point
// 2 and section 3): 224.0.0.0/24, and IPv6 of link scope or less, which has the solicited-node addresses in it.
func (g groupAddr) isLinkScope() bool {
	if g.is4() {
		return g[12] == 224 && g[13] == 0 && g[14] == 0
	}
	return g[1]&0xf <= 2
}

// segmentKey is a VLAN and an address family: a querier speaks for one of these.
type segmentKey uint32

func newSegmentKey(v VLAN, g groupAddr) segmentKey {
	if g.is4() {
		return segmentKey(v) << 1
	}
	return segmentKey(v)<<1 | 1
}

// String shows the key for people.
func (k segmentKey) String() string {
	return fmt.Sprintf("vlan %d.%d ipv%d", k>>13, k>>1&0xfff, 4+2*(k&1))
}

// IP protocol numbers (IANA).
const (
	protoHopByHop = 0
	protoIGMP     = 2
	protoICMPv6   = 58
	protoPIM      = 103
)

// packet is what snooping needs of an IP packet to a group.
type packet struct {
	dst      groupAddr
	src      groupAddr
	proto    uint8
	hopLimit uint8
	whole    bool   // neither a fragment nor longer than the frame
	alert    bool   // IPv6: carries the Router Alert option for MLD (RFC 2711)
	body     []byte // behind the header and, for IPv6, the hop-by-hop options
}

// parsePacket reads the IP header of a frame to a group. It is false for everything that is not IP for a group whose MAC the
// frame has (RFC 1112 section 6.4, RFC 2464 section 7); such frames are flooded.
func parsePacket(f Frame) (p packet, vlan VLAN, ok bool) {
	etherType, vlan, off := f.header()
	if off == 0 {
		return p, 0, false
	}
	dst := f.dstBits()
	switch etherType {
	case EtherTypeIPv4:
		ok = p.parse4(f[off:]) && dst == 0x0100_5e00_0000|uint64(binary.BigEndian.Uint32(p.dst[12:])&0x7fffff)
	case EtherTypeIPv6:
		ok = p.parse6(f[off:]) && dst == 0x3333_0000_0000|uint64(binary.BigEndian.Uint32(p.dst[12:]))
	}
	return p, vlan, ok
}

// parse4 reads an IPv4 header (RFC 791 section 3.1) and says whether there is one, to a group.
func (p *packet) parse4(b []byte) bool {
	if len(b) < 20 || b[0]>>4 != 4 {
		return false
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || header > len(b) {
		return false
	}
	p.src = group4(b[12:])
	dst, ok := readGroup(b[16:], 4)
	p.dst = dst
	p.hopLimit, p.proto = b[8], b[9]
	const moreFragmentsAndOffset = 0x3fff
	p.whole = binary.BigEndian.Uint16(b[6:])&moreFragmentsAndOffset == 0 && total >= header && total <= len(b)
	p.body = b[header:]
	if p.whole {
		p.body = b[header:total]
	}
	return ok
}

// parse6 reads an IPv6 header (RFC 8200 section 3) and hop-by-hop options, and says whether there is one, to a group. Behind other
// extension headers it does not look: MLD has none (RFC 3810 section 5).
func (p *packet) parse6(b []byte) bool {
	const header = 40
	if len(b) < header || b[0]>>4 != 6 {
		return false
	}
	p.src = groupAddr(b[8:24])
	dst, ok := readGroup(b[24:], 16)
	p.dst = dst
	p.proto, p.hopLimit = b[6], b[7]
	n := int(binary.BigEndian.Uint16(b[4:]))
	p.whole = n <= len(b)-header
	p.body = b[header:min(header+n, len(b))]
	if p.proto == protoHopByHop {
		p.hopByHop()
	}
	return ok
}

// hopByHop steps over the options (RFC 8200 section 4.3) and notes a Router Alert. Options that do not add up end the reading.
//
//	next header (1) | length in 8 bytes, less one (1) | options: type (1), length (1), value ...
func (p *packet) hopByHop() {
	const pad1, routerAlert = 0, 5
	b := p.body
	if len(b) < 8 || len(b) < 8+8*int(b[1]) {
		p.whole = false
		return
	}
	options := b[2 : 8+8*int(b[1])]
	for len(options) > 0 {
		if options[0] == pad1 {
			options = options[1:]
			continue
		}
		if len(options) < 2 || len(options) < 2+int(options[1]) {
			p.whole = false
			return
		}
		value := options[2 : 2+int(options[1])]
		if options[0] == routerAlert && len(value) == 2 && value[0] == 0 && value[1] == 0 {
			p.alert = true
		}
		options = options[2+len(value):]
	}
	p.proto, p.body = b[0], b[8+8*int(b[1]):]
}

// checksum is the Internet checksum (RFC 1071) of bytes, continued from a sum. Over a message with its own checksum in it the
// result is 0.
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudoSum is the unfolded sum of the IPv6 pseudo-header (RFC 8200 section 8.1).
func (p *packet) pseudoSum(length int) uint32 {
	sum := uint32(length)>>16 + uint32(length)&0xffff + protoICMPv6
	for i := 0; i < 16; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p.src[i:])) + uint32(binary.BigEndian.Uint16(p.dst[i:]))
	}
	return sum
}
