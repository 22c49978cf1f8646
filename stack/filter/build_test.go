package filter

import (
	"encoding/binary"
	"net/netip"
)

func ether(kind uint16, body []byte) []byte {
	f := append(make([]byte, 0, 64+len(body)), 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1)
	return append(binary.BigEndian.AppendUint16(f, kind), body...)
}

// raw is an IP packet in a frame.
func raw(src, dst string, proto byte, body []byte) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is4() {
		h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0}
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		h = append(append(h, s.AsSlice()...), d.AsSlice()...)
		return ether(etherIPv4, append(h, body...))
	}
	h := []byte{0x60, 0, 0, 0, 0, 0, proto, 64}
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h = append(append(h, s.AsSlice()...), d.AsSlice()...)
	return ether(etherIPv6, append(h, body...))
}

func tcp(src, dst string, sport, dport uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[12], b[13] = 0x50, flags
	return raw(src, dst, protoTCP, b)
}

func udp(src, dst string, sport, dport uint16) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	return raw(src, dst, protoUDP, b)
}

func echo(src, dst string, id uint16, reply bool) []byte {
	b, proto := []byte{8, 0, 0, 0, byte(id >> 8), byte(id), 0, 1}, byte(protoICMP)
	if netip.MustParseAddr(src).Is6() {
		b[0], proto = 128, protoICMPv6
	}
	if reply {
		b[0] = map[byte]byte{8: 0, 128: 129}[b[0]]
	}
	return raw(src, dst, proto, b)
}

// icmpError is a message that a packet could not be delivered.
func icmpError(src, dst string, about []byte) []byte {
	b := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, about[etherLen:]...)
	if netip.MustParseAddr(src).Is6() {
		b[0] = 1
		return raw(src, dst, protoICMPv6, b)
	}
	return raw(src, dst, protoICMP, b)
}

func tagged(kind uint16, frame []byte) []byte {
	f := append([]byte{}, frame[:12]...)
	f = binary.BigEndian.AppendUint16(f, kind)
	return append(append(f, 0, 5), frame[12:]...)
}

func cut(frame []byte, n int) []byte { return frame[:n:n] }

// fragment4 makes a frame's packet one fragment, at an offset of 8 bytes each.
func fragment4(frame []byte, offset uint16, more bool, id uint16) []byte {
	f := append([]byte{}, frame...)
	if more {
		offset |= 0x2000
	}
	binary.BigEndian.PutUint16(f[etherLen+4:], id)
	binary.BigEndian.PutUint16(f[etherLen+6:], offset)
	return f
}

// fragment6 does it with a header of its own.
func fragment6(frame []byte, offset uint16, more bool, id uint32) []byte {
	h := []byte{frame[etherLen+6], 0, 0, 0, 0, 0, 0, 0}
	if offset <<= 3; more {
		offset |= 1
	}
	binary.BigEndian.PutUint16(h[2:], offset)
	binary.BigEndian.PutUint32(h[4:], id)
	return behind(frame, 44, h)
}

// extended puts extension headers before what a packet carries, the first of the list first.
func extended(frame []byte, kinds ...byte) []byte {
	for i := len(kinds) - 1; i >= 0; i-- {
		h := make([]byte, 8)
		h[0] = frame[etherLen+6]
		if kinds[i] == 51 {
			h[1] = 0
		}
		frame = behind(frame, kinds[i], h)
	}
	return frame
}

func behind(frame []byte, kind byte, header []byte) []byte {
	f := append([]byte{}, frame[:etherLen+40]...)
	f[etherLen+6] = kind
	return append(append(f, header...), frame[etherLen+40:]...)
}
