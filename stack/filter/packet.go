package filter

import (
	"encoding/binary"
	"net/netip"
)

// kind says what of the order in doc.go a frame meets first.
type kind uint8

const (
	kindOther   kind = iota // neither IP nor ARP
	kindPass                // what networks cannot do without
	kindTagged              // with a VLAN tag
	kindBroken              // IP whose headers cannot be read whole
	kindPiece               // a fragment but the first
	kindPacket              // a packet, or the first fragment of one
	kindICMPErr             // an ICMP error; about is what it is about
)

// tuple is what tells a flow from others, in the direction of its first packet. ICMP has the identifier of an echo as source port, and
// echoAsked or echoAnswered as the other.
type tuple struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
}

const (
	echoAsked    = 1
	echoAnswered = 2
	echoNever    = 3 // of what nothing answers, or is no answer
)

// reverse is the flow that a packet answers.
func (t tuple) reverse() tuple {
	r := tuple{src: t.dst, dst: t.src, proto: t.proto, sport: t.dport, dport: t.sport}
	if t.proto == protoICMP || t.proto == protoICMPv6 {
		r.sport, r.dport = t.sport, echoNever
		if t.dport == echoAnswered {
			r.dport = echoAsked
		}
	}
	return r
}

// packet is what a frame carries.
type packet struct {
	kind  kind
	tuple tuple
	about tuple // of kindICMPErr
	first bool  // the first fragment of several
	piece uint32
	flags uint8 // of TCP
}

// Flags of TCP (RFC 9293, section 3.1).
const tcpFIN, tcpSYN, tcpRST = 1, 2, 4

// ends tells that one end of a connection wants it to end.
func (p *packet) ends() bool { return p.flags&(tcpFIN|tcpRST) != 0 }

// begins tells whether a packet that is allowed begins a flow: answers of no other ICMP are known, and the end of a connection that nobody
// has seen is none.
func (p *packet) begins() bool {
	if t := &p.tuple; t.proto == protoICMP || t.proto == protoICMPv6 {
		return t.dport == echoAsked
	}
	return !p.ends()
}

// EtherTypes (IANA).
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherIPv6 = 0x86dd
	etherQinQ = 0x88a8
)

const etherLen = 14

// parse reads a frame. It never panics; what it cannot read it says so.
func parse(frame []byte) packet {
	if len(frame) < etherLen {
		return packet{kind: kindBroken}
	}
	body := frame[etherLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		return packet{kind: kindPass}
	case etherVLAN, etherQinQ:
		return packet{kind: kindTagged}
	case etherIPv4:
		return parse4(body)
	case etherIPv6:
		return parse6(body)
	}
	return packet{kind: kindOther}
}

// parse4 reads an IPv4 header (RFC 791, section 3.1).
func parse4(b []byte) packet {
	if len(b) < 20 || b[0]>>4 != 4 {
		return packet{kind: kindBroken}
	}
	header := int(b[0]&0xf) * 4
	if header < 20 || header > len(b) {
		return packet{kind: kindBroken}
	}
	p := packet{kind: kindPacket, tuple: tuple{
		src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])), proto: b[9],
	}}
	const moreFragments, offset = 0x2000, 0x1fff
	cut := binary.BigEndian.Uint16(b[6:])
	p.piece = uint32(binary.BigEndian.Uint16(b[4:]))
	if cut&offset != 0 {
		p.kind = kindPiece
		return p
	}
	p.first = cut&moreFragments != 0
	p.upper(b[header:])
	return p
}

// maxExtensions is more extension headers than any sane packet has.
const maxExtensions = 16

// parse6 reads an IPv6 header and the extension headers behind it (RFC 8200, sections 3 and 4; RFC 4302, section 2.2).
func parse6(b []byte) packet {
	if len(b) < 40 || b[0]>>4 != 6 {
		return packet{kind: kindBroken}
	}
	p := packet{kind: kindPacket, tuple: tuple{src: netip.AddrFrom16([16]byte(b[8:24])), dst: netip.AddrFrom16([16]byte(b[24:40]))}}
	next := b[6]
	b = b[40:]
	for range maxExtensions {
		size := 0
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			if len(b) >= 8 {
				size = 8 + 8*int(b[1])
			}
		case 51: // authentication
			if len(b) >= 8 {
				size = 8 + 4*int(b[1])
			}
		case 44: // fragment
			if len(b) >= 8 {
				size = 8
				cut := binary.BigEndian.Uint16(b[2:])
				p.piece = binary.BigEndian.Uint32(b[4:])
				p.first = cut&1 != 0
				if cut&0xfff8 != 0 {
					p.kind, p.tuple.proto = kindPiece, b[0]
					return p
				}
			}
		default:
			p.tuple.proto = next
			p.upper(b)
			return p
		}
		if size == 0 || size > len(b) {
			break
		}
		next, b = b[0], b[size:]
	}
	return packet{kind: kindBroken}
}

// upper reads what follows the IP headers.
func (p *packet) upper(b []byte) {
	t := &p.tuple
	switch t.proto {
	case protoTCP, protoUDP, protoSCTP:
		if len(b) < 4 {
			p.kind = kindBroken
			return
		}
		t.sport, t.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if t.proto == protoTCP && len(b) > 13 {
			p.flags = b[13]
		}
		if t.proto == protoUDP && isDHCP(t) {
			p.kind = kindPass
		}
	case protoIGMP:
		if t.src.Is4() {
			p.kind = kindPass
		}
	case protoICMP, protoICMPv6:
		p.icmp(b)
	}
}

// isDHCP tells a request to everybody, or an answer: RFC 2131, section 4.1; RFC 8415, section 7.2.
func isDHCP(t *tuple) bool {
	switch {
	case t.sport == 68 && t.dport == 67:
		return t.src == netip.IPv4Unspecified() && t.dst == broadcast4
	case t.sport == 546 && t.dport == 547:
		return t.dst == allDHCPServers
	}
	return t.sport == 67 && t.dport == 68 && t.src.Is4() || t.sport == 547 && t.dport == 546 && t.src.Is6()
}

var (
	broadcast4     = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	allDHCPServers = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 13: 1, 15: 2}) // ff02::1:2
)

// icmp reads a message: RFC 792, RFC 4443, RFC 4861, RFC 3810.
func (p *packet) icmp(b []byte) {
	if len(b) < 8 {
		return // no message; a protocol like any other
	}
	v6 := p.tuple.src.Is6()
	if v6 != (p.tuple.proto == protoICMPv6) {
		return // the other family's: a protocol like any other
	}
	kind := b[0]
	switch {
	case !v6 && kind == 8, v6 && kind == 128:
		p.tuple.sport, p.tuple.dport = binary.BigEndian.Uint16(b[4:]), echoAsked
	case !v6 && kind == 0, v6 && kind == 129:
		p.tuple.sport, p.tuple.dport = binary.BigEndian.Uint16(b[4:]), echoAnswered
	case !v6 && (kind == 3 || kind == 11 || kind == 12), v6 && kind >= 1 && kind <= 4:
		p.kind, p.about = kindICMPErr, parseAbout(b[8:], v6)
	case v6 && (kind >= 130 && kind <= 137 || kind == 143):
		p.kind = kindPass
	}
}

// parseAbout reads the head of the packet that an ICMP error is about. Headers behind options or extensions are not looked for: nftables
// does not either.
func parseAbout(b []byte, v6 bool) tuple {
	var t tuple
	switch {
	case !v6 && len(b) >= 20 && b[0] == 0x45:
		t = tuple{src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])), proto: b[9]}
		b = b[20:]
	case v6 && len(b) >= 40 && b[0]>>4 == 6:
		t = tuple{src: netip.AddrFrom16([16]byte(b[8:24])), dst: netip.AddrFrom16([16]byte(b[24:40])), proto: b[6]}
		b = b[40:]
	default:
		return t
	}
	switch {
	case hasPorts(t.proto) && len(b) >= 4:
		t.sport, t.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case t.proto == protoICMP && echoes(b, 8), t.proto == protoICMPv6 && echoes(b, 128):
		t.sport, t.dport = binary.BigEndian.Uint16(b[4:]), echoAsked
	case t.proto == protoICMP && echoes(b, 0), t.proto == protoICMPv6 && echoes(b, 129):
		t.sport, t.dport = binary.BigEndian.Uint16(b[4:]), echoAnswered
	}
	return t
}

// echoes tells whether a message is of this type, and has an identifier.
func echoes(b []byte, kind byte) bool { return len(b) >= 6 && b[0] == kind }
