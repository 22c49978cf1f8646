package stack

import "encoding/binary"

// Sizes and offsets of RFC 791, RFC 792, RFC 8200 and RFC 4443, in bytes.
const (
	ipv4Len, ipv6Len = 20, 40
	icmpLen          = 8
	quotedIPv4       = 28   // of the packet in question: its header and 8 bytes more are asked for
	longestIPv6      = 1280 // of an ICMPv6 error

	protoTCP          = 6
	tcpDataOffset     = 12 // where it is in TCP's header (RFC 9293)
	udpLen            = 8
	protoICMP         = 1
	icmpUnreachable   = 3
	icmpTooBig        = 4 // a code: fragmentation needed
	icmpv6TooBig      = 2
	icmpv6Errors      = 128 // types below
	dontFragment      = 0x4000
	moreFragments     = 0x2000
	fragmentOffset    = 0x1fff
	fragmentUnit      = 8
	ttlOfErrors       = 64
	smallestIPv6MTU   = 1280
	icmpEcho          = 8
	icmpEchoReply     = 0
	icmpFirstQuestion = 8 // ICMP types from here on are questions and answers, but for 11, 12
)

// PacketLen is the length of the IP packet in a frame as its sender sees it, in bytes; 0 if there is none. Of a frame that is to
// be cut in segments with so many bytes of payload it is that of a segment.
func PacketLen(f Frame, segment int) int {
	p := f.Payload()
	at, proto := 0, byte(0)
	switch f.EtherType() {
	case EtherTypeIPv4:
		if len(p) < ipv4Len {
			return 0
		}
		at, proto = int(p[0]&15)*4, p[9]
	case EtherTypeIPv6:
		if len(p) < ipv6Len {
			return 0
		}
		at, proto = ipv6Len, p[6]
	default:
		return 0
	}
	switch {
	case segment == 0:
		return len(p)
	case proto == protoTCP && len(p) > at+tcpDataOffset:
		return min(at+int(p[at+tcpDataOffset]>>4)*4+segment, len(p))
	}
	return min(at+udpLen+segment, len(p))
}

// TooBig makes the frame that tells the sender of an IP packet in f that packets of at most mtu bytes pass (RFC 1191, RFC 8201).
// It comes from whom the packet is for, as a path's routers are not to be seen here. There is none for a packet that may
// be cut on the way, that is itself an error, or that must not be answered with one.
func TooBig(f Frame, mtu int) (reply []byte, ok bool) {
	if len(f) < HeaderLen || f.IsMulticast() {
		return nil, false
	}
	switch f.EtherType() {
	case EtherTypeIPv4:
		return tooBig4(f, mtu)
	case EtherTypeIPv6:
		return tooBig6(f, max(mtu, smallestIPv6MTU))
	}
	return nil, false
}

// backTo begins a frame to the sender of f.
func backTo(f Frame, ethertype uint16) []byte {
	dst, src := f.Dst(), f.Src()
	out := make([]byte, 0, HeaderLen+longestIPv6)
	out = append(append(out, src[:]...), dst[:]...)
	if at := f.PayloadOffset(); at > HeaderLen {
		return append(out, f[HeaderLen-2:at]...) // with the tags, and the type behind them
	}
	return binary.BigEndian.AppendUint16(out, ethertype)
}

func tooBig4(f Frame, mtu int) ([]byte, bool) {
	p := f.Payload()
	if len(p) < ipv4Len || p[0]>>4 != 4 {
		return nil, false
	}
	flags, head := binary.BigEndian.Uint16(p[6:]), int(p[0]&15)*4
	if flags&dontFragment == 0 || flags&fragmentOffset != 0 || head < ipv4Len || len(p) < head+icmpLen {
		return nil, false
	}
	if kind := p[head]; p[9] == protoICMP && kind != icmpEcho && kind != icmpEchoReply && (kind < icmpFirstQuestion || kind == 11 || kind == 12) {
		return nil, false
	}
	quoted := p[:min(len(p), head+quotedIPv4-ipv4Len)]
	out := backTo(f, EtherTypeIPv4)
	at := len(out)
	out = append(out, make([]byte, ipv4Len+icmpLen)...)
	out = append(out, quoted...)
	ip, icmp := out[at:at+ipv4Len], out[at+ipv4Len:]
	ip[0], ip[8], ip[9] = 0x45, ttlOfErrors, protoICMP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(out)-at))
	copy(ip[12:], p[16:20])
	copy(ip[16:], p[12:16])
	binary.BigEndian.PutUint16(ip[10:], checksum(0, ip))
	icmp[0], icmp[1] = icmpUnreachable, icmpTooBig
	binary.BigEndian.PutUint16(icmp[6:], uint16(mtu))
	binary.BigEndian.PutUint16(icmp[2:], checksum(0, icmp))
	return out, true
}

func tooBig6(f Frame, mtu int) ([]byte, bool) {
	p := f.Payload()
	if len(p) < ipv6Len || p[0]>>4 != 6 || p[8] == 0xff || isUnspecified(p[8:24]) {
		return nil, false
	}
	if p[6] == protoICMPv6 && len(p) > ipv6Len && p[ipv6Len] < icmpv6Errors {
		return nil, false
	}
	out := backTo(f, EtherTypeIPv6)
	at := len(out)
	out = append(out, make([]byte, ipv6Len+icmpLen)...)
	out = append(out, p[:min(len(p), longestIPv6-ipv6Len-icmpLen)]...)
	ip, icmp := out[at:at+ipv6Len], out[at+ipv6Len:]
	ip[0], ip[6], ip[7] = 0x60, protoICMPv6, ttlOfErrors
	binary.BigEndian.PutUint16(ip[4:], uint16(len(icmp)))
	copy(ip[8:], p[24:40])
	copy(ip[24:], p[8:24])
	icmp[0] = icmpv6TooBig
	binary.BigEndian.PutUint32(icmp[4:], uint32(mtu))
	sum := uint32(len(icmp)) + protoICMPv6
	for i := 8; i < ipv6Len; i += 2 { // the pseudo-header (RFC 8200, section 8.1)
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(icmp[2:], checksum(sum, icmp))
	return out, true
}

// Cut cuts an IPv4 packet that may be cut into frames whose packets have at most mtu bytes (RFC 791, section 3.2); nil if it
// may not, or has options. Its checksums must be complete.
func Cut(f Frame, mtu int) [][]byte {
	at, p := f.PayloadOffset(), f.Payload()
	if f.EtherType() != EtherTypeIPv4 || len(p) < ipv4Len || p[0] != 0x45 || mtu < ipv4Len+fragmentUnit {
		return nil
	}
	flags, total := binary.BigEndian.Uint16(p[6:]), int(binary.BigEndian.Uint16(p[2:]))
	if flags&dontFragment != 0 || total > len(p) || total < ipv4Len {
		return nil
	}
	var out [][]byte
	body, piece := p[ipv4Len:total], (mtu-ipv4Len)/fragmentUnit*fragmentUnit
	for from := 0; from < len(body); from += piece {
		part := body[from:min(from+piece, len(body))]
		frame := make([]byte, 0, at+ipv4Len+len(part))
		frame = append(append(append(frame, f[:at]...), p[:ipv4Len]...), part...)
		ip := frame[at : at+ipv4Len]
		place := flags&^uint16(moreFragments) + uint16(from/fragmentUnit)
		if from+len(part) < len(body) || flags&moreFragments != 0 {
			place |= moreFragments
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+len(part)))
		binary.BigEndian.PutUint16(ip[6:], place)
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], checksum(0, ip))
		out = append(out, frame)
	}
	return out
}

func isUnspecified(a []byte) bool {
	for _, b := range a {
		if b != 0 {
			return false
		}
	}
	return true
}
