package wire

import "encoding/binary"

// headers says where the headers of a super-frame lie, in bytes from the start of the frame.
type headers struct {
	ip  int // first byte of the IP header
	l4  int // first byte of the TCP or UDP header
	end int // first byte of payload
	v6  bool
	tcp bool
}

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100 // IEEE 802.1Q
	etherQinQ = 0x88a8 // IEEE 802.1ad

	protoTCP = 6
	protoUDP = 17

	// Extension headers (RFC 8200 section 4.1) that can stand before a segmented TCP or UDP header.
	extHopByHop = 0
	extRouting  = 43
	extOptions  = 60
	maxExt      = 8 // more of them is an attack

	tcpSeq, tcpDataOffset, tcpFlags, tcpCsum = 4, 12, 13, 16
	udpLength, udpCsum                       = 4, 6

	tcpFIN, tcpPSH, tcpCWR = 0x01, 0x08, 0x80
)

// parseHeaders finds the headers of a super-frame and holds them against its offload fields. frame may end with its
// headers. ok means that everything up to headers.end lies inside frame and that addresses, lengths and checksum can be
// rewritten there.
func parseHeaders(frame []byte, gsoType uint8, csumStart, csumOffset uint16) (h headers, ok bool) {
	ether, ip := networkHeader(frame)
	h.ip, h.l4 = ip, int(csumStart)
	switch gsoType {
	case gsoTCPv4, gsoTCPv4 | gsoECN:
		h.tcp, ok = true, ether == etherIPv4
	case gsoTCPv6, gsoTCPv6 | gsoECN:
		h.tcp, h.v6, ok = true, true, ether == etherIPv6
	case gsoUDP:
		h.v6, ok = ether == etherIPv6, ether == etherIPv4 || ether == etherIPv6
	}
	if !ok || h.l4 > len(frame) {
		return h, false
	}
	var proto uint8
	var l4 int
	if h.v6 {
		proto, l4, ok = walkIPv6(frame, h.ip, h.l4)
	} else {
		proto, l4, ok = readIPv4(frame, h.ip)
	}
	if !ok || l4 != h.l4 {
		return h, false
	}
	return h, h.transport(frame, proto, csumOffset)
}

// transport checks the TCP or UDP header and sets where it ends.
func (h *headers) transport(frame []byte, proto uint8, csumOffset uint16) bool {
	if h.tcp {
		if proto != protoTCP || csumOffset != tcpCsum || h.l4+20 > len(frame) {
			return false
		}
		size := int(frame[h.l4+tcpDataOffset]>>4) * 4
		h.end = h.l4 + size
		return size >= 20 && h.end <= len(frame)
	}
	h.end = h.l4 + 8
	return proto == protoUDP && csumOffset == udpCsum && h.end <= len(frame)
}

// networkHeader looks behind VLAN tags. The ethertype is zero when the frame ends before it does.
func networkHeader(frame []byte) (ether uint16, ip int) {
	at := EthernetLen - 2
	for range maxTags + 1 {
		if at+2 > len(frame) {
			return 0, 0
		}
		ether = binary.BigEndian.Uint16(frame[at:])
		if ether != etherVLAN && ether != etherQinQ {
			return ether, at + 2
		}
		at += 4
	}
	return 0, 0
}

// readIPv4 (RFC 791) refuses fragments of IP packets, which nobody segments.
func readIPv4(frame []byte, ip int) (proto uint8, l4 int, ok bool) {
	if ip+20 > len(frame) || frame[ip]>>4 != 4 {
		return 0, 0, false
	}
	size := int(frame[ip]&15) * 4
	if size < 20 || ip+size > len(frame) || binary.BigEndian.Uint16(frame[ip+6:])&0x3fff != 0 {
		return 0, 0, false
	}
	return frame[ip+9], ip + size, true
}

// walkIPv6 (RFC 8200) follows the extension headers as far as want.
func walkIPv6(frame []byte, ip, want int) (proto uint8, l4 int, ok bool) {
	if ip+40 > len(frame) || frame[ip]>>4 != 6 {
		return 0, 0, false
	}
	proto, l4 = frame[ip+6], ip+40
	for range maxExt {
		if proto != extHopByHop && proto != extRouting && proto != extOptions {
			return proto, l4, true
		}
		if l4+8 > want {
			return 0, 0, false
		}
		proto, l4 = frame[l4], l4+8+int(frame[l4+1])*8
		if l4 > want {
			return 0, 0, false
		}
	}
	return 0, 0, false
}

// ipLength is the length the IP header gives, counted from headers.ip.
func (h *headers) ipLength(frame []byte) int {
	if h.v6 {
		return 40 + int(binary.BigEndian.Uint16(frame[h.ip+4:]))
	}
	return int(binary.BigEndian.Uint16(frame[h.ip+2:]))
}

// maxPayload is what the IP length field leaves for payload behind these headers.
func (h *headers) maxPayload() int {
	n := maxIP - (h.end - h.ip)
	if h.v6 {
		n += 40
	}
	return n
}

// A stretch is a part of a super-frame: consecutive segments, the first of them number first.
type stretch struct {
	first   int  // index of its first segment
	last    bool // holds the super-frame's last segment
	gsoSize int  // bytes of payload in each segment, the last one's may be fewer
	payload int  // bytes of payload in all
}

// rewrite turns b, the headers of a whole super-frame, into those of a stretch of it, as the kernel's segmentation would
// (net/ipv4/tcp_offload.c, udp_offload.c): lengths, IPv4 identification and header checksum, TCP sequence number and
// flags. The transport checksum stays a partial one, over the pseudo-header with the new length; so the old length
// is taken out instead of summing the addresses anew, which is right with IPv6 routing headers too. A length beyond what IPv4
// can say is written as zero, see chain.go.
func (h *headers) rewrite(b []byte, s stretch) {
	old := h.ipLength(b) - (h.l4 - h.ip)
	size := h.end - h.l4 + s.payload
	if h.v6 {
		binary.BigEndian.PutUint16(b[h.ip+4:], uint16(h.l4-h.ip-40+size))
	} else {
		ip := b[h.ip:h.l4]
		total := len(ip) + size
		if total > maxIP {
			total = 0
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(total))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(s.first))
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(ip, 0)))
	}
	l4, csum := b[h.l4:], udpCsum
	if h.tcp {
		csum = tcpCsum
		seq := binary.BigEndian.Uint32(l4[tcpSeq:]) + uint32(s.first*s.gsoSize)
		binary.BigEndian.PutUint32(l4[tcpSeq:], seq)
		if !s.last {
			l4[tcpFlags] &^= tcpFIN | tcpPSH
		}
		if s.first != 0 {
			l4[tcpFlags] &^= tcpCWR
		}
	} else {
		binary.BigEndian.PutUint16(l4[udpLength:], uint16(size))
	}
	partial := uint64(binary.BigEndian.Uint16(l4[csum:])) + uint64(size) + uint64(^uint16(old))
	binary.BigEndian.PutUint16(l4[csum:], fold(partial))
}
