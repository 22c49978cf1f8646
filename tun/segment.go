package tun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// header is a virtio-net header at the start of a packet.
type header []byte

func (h header) needsCsum() bool { return h[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 }
func (h header) gsoType() byte   { return h[1] &^ unix.VIRTIO_NET_HDR_GSO_ECN }
func (h header) gsoSize() int    { return int(binary.NativeEndian.Uint16(h[4:])) }
func (h header) csumStart() int  { return int(binary.NativeEndian.Uint16(h[6:])) }
func (h header) csumOffset() int { return int(binary.NativeEndian.Uint16(h[8:])) }
func (h header) plain() bool     { return !h.needsCsum() && h.gsoType() == unix.VIRTIO_NET_HDR_GSO_NONE }

// segmenter finishes in software what the sender left to its network card: checksums and the cutting of super-frames. Only
// the fallback needs it, so it is simple, and copies. One goroutine at a time.
type segmenter struct {
	frame []byte    // the whole frame
	out   []byte    // the frame to send
	parts [1][]byte // out, as Queue.send wants it
	super super
	index int // of the next segment
	at    int // where in frame its payload starts; len(frame) when there is none
}

func newSegmenter() *segmenter {
	return &segmenter{frame: make([]byte, 0, MaxPacket), out: make([]byte, 0, MaxPacket)}
}

// load takes a packet. It reports false if the header does not fit the frame.
func (s *segmenter) load(parts [][]byte) bool {
	h := header(parts[0][:HeaderLen])
	s.frame = append(s.frame[:0], parts[0][HeaderLen:]...)
	for _, p := range parts[1:] {
		s.frame = append(s.frame, p...)
	}
	l4, sum := h.csumStart(), h.csumStart()+h.csumOffset()
	if !h.needsCsum() || l4 < 14+20 || sum+2 > len(s.frame) || len(s.frame) > MaxPacket-HeaderLen {
		return false
	}
	s.index = 0
	if h.gsoType() != unix.VIRTIO_NET_HDR_GSO_NONE {
		var ok bool
		s.super, ok = newSuper(h, s.frame)
		s.at = s.super.payload
		return ok
	}
	s.super, s.at = super{}, 0
	binary.BigEndian.PutUint16(s.frame[sum:], ^fold(add(0, s.frame[l4:])))
	return true
}

// next is the next finished frame of the loaded packet, valid until the next call; nil if there is none.
func (s *segmenter) next() [][]byte {
	switch {
	case s.at >= len(s.frame):
		return nil
	case s.super.size == 0:
		s.at = len(s.frame)
		s.parts[0] = s.frame
	default:
		start, end := s.at, min(s.at+s.super.size, len(s.frame))
		s.out = append(append(s.out[:0], s.frame[:s.super.payload]...), s.frame[start:end]...)
		s.super.finish(s.out, s.index, start-s.super.payload, end == len(s.frame))
		s.index, s.at = s.index+1, end
		s.parts[0] = s.out
	}
	return s.parts[:]
}

// super is the geometry of a super-frame: offsets in bytes from the start of the frame.
type super struct {
	l3, l4, payload int
	size            int // payload bytes in each segment but the last
	v6, udp         bool
}

func newSuper(h header, frame []byte) (super, bool) {
	g := super{l4: h.csumStart(), size: h.gsoSize(), l3: 14}
	for g.l3+2 <= len(frame) && binary.BigEndian.Uint16(frame[g.l3-2:]) == 0x8100 {
		g.l3 += 4
	}
	if g.size == 0 || g.l3+40 > len(frame) || g.l4 < g.l3+20 || g.l4+20 > len(frame) {
		return g, false
	}
	g.v6 = frame[g.l3]>>4 == 6
	switch h.gsoType() {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.VIRTIO_NET_HDR_GSO_TCPV6:
		g.payload = g.l4 + max(20, int(frame[g.l4+12]>>4)*4)
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		g.udp, g.payload = true, g.l4+8
	default:
		return g, false
	}
	return g, g.payload < len(frame) && (!g.v6 || g.l4 >= g.l3+40)
}

// finish makes the copied headers those of segment i, whose payload starts skipped bytes into the super-frame's.
func (g super) finish(out []byte, i, skipped int, last bool) {
	ip, l4 := out[g.l3:], out[g.l4:]
	var pseudo uint32
	if g.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		pseudo = add(pseudo, ip[8:40])
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(i))
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^fold(add(0, ip[:g.l4-g.l3])))
		pseudo = add(pseudo, ip[12:20])
	}
	pseudo += uint32(len(l4))
	sum := 6
	if g.udp {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		pseudo += unix.IPPROTO_UDP
	} else {
		sum = 16
		pseudo += unix.IPPROTO_TCP
		binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(skipped))
		if i > 0 {
			l4[13] &^= 0x80 // CWR belongs to the first segment
		}
		if !last {
			l4[13] &^= 0x09 // FIN and PSH to the last
		}
	}
	binary.BigEndian.PutUint16(l4[sum:], 0)
	check := ^fold(add(pseudo, l4))
	if g.udp && check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(l4[sum:], check)
}

// add sums b into a ones' complement sum (RFC 1071) whose carries are not folded yet; enough for 128 KiB.
func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
