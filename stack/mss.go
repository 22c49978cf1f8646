package stack

import "encoding/binary"

// Offsets and numbers of TCP's header (RFC 9293, sections 3.1 and 3.2), in bytes.
const (
	tcpLen       = 20
	tcpFlags     = 13
	tcpSYN       = 2
	tcpSum       = 16
	tcpEnd       = 0 // an option that ends the list
	tcpNothing   = 1 // an option of one byte
	tcpMSS       = 2
	tcpMSSLen    = 4
	fixedHeaders = tcpLen // what the MSS does not count, beside the IP header (RFC 6691)
)

// OpensTCP tells whether a frame holds the first packet of a TCP connection, or the answer to it.
func OpensTCP(f Frame) bool { return synOf(f) != nil }

// synOf is the TCP header of a SYN with all that follows, nil of another frame. Of IPv6 packets with extension headers it
// knows nothing.
func synOf(f Frame) []byte {
	p := f.Payload()
	at := 0
	switch f.EtherType() {
	case EtherTypeIPv4:
		if len(p) < ipv4Len || p[9] != protoTCP || binary.BigEndian.Uint16(p[6:])&fragmentOffset != 0 {
			return nil
		}
		if at = int(p[0]&15) * 4; at < ipv4Len {
			return nil
		}
	case EtherTypeIPv6:
		if len(p) < ipv6Len || p[6] != protoTCP {
			return nil
		}
		at = ipv6Len
	default:
		return nil
	}
	if len(p) < at+tcpLen || p[at+tcpFlags]&tcpSYN == 0 {
		return nil
	}
	return p[at:]
}

// ClampMSS lowers the largest segment that the sender of a SYN says it takes to what fits packets of mtu bytes, in place, and
// tells whether it did. TCP's checksum must be complete, and stays so.
func ClampMSS(f Frame, mtu int) bool {
	h := synOf(f)
	if h == nil {
		return false
	}
	most := mtu - ipv4Len - fixedHeaders
	if f.EtherType() == EtherTypeIPv6 {
		most = mtu - ipv6Len - fixedHeaders
	}
	options := h[tcpLen:min(max(int(h[tcpDataOffset]>>4)*4, tcpLen), len(h))]
	at := tcpLen
	for len(options) >= tcpMSSLen && options[0] != tcpEnd {
		n := 1
		if options[0] != tcpNothing {
			n = int(options[1])
		}
		if options[0] == tcpMSS && n == tcpMSSLen {
			return lower(h, at+2, most)
		}
		if n < 1 || n > len(options) || options[0] != tcpNothing && n < 2 {
			return false
		}
		options, at = options[n:], at+n
	}
	return false
}

// lower replaces the 16 bits at an offset of a TCP header by a smaller value, and the checksum (RFC 1624, equation 3).
func lower(h []byte, at, to int) bool {
	was := binary.BigEndian.Uint16(h[at:])
	if to <= 0 || int(was) <= to {
		return false
	}
	binary.BigEndian.PutUint16(h[at:], uint16(to))
	old, fresh := was, uint16(to)
	if at%2 == 1 { // the sum is of 16 bits from even offsets on
		old, fresh = old<<8|old>>8, fresh<<8|fresh>>8
	}
	sum := uint32(^binary.BigEndian.Uint16(h[tcpSum:])) + uint32(^old) + uint32(fresh)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[tcpSum:], ^uint16(sum))
	return true
}
