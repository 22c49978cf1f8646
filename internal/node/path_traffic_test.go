package node

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"

	"weave/peer/wire"
)

// given is one packet for the sender's TAP.
type given struct {
	packet  []byte
	what    recipe
	refused bool         // a malformed packet, of which nothing may come out
	frames  []plainFrame // what the oracle makes of it, once asked
	sound   bool         // TCP or UDP whose checksums are right once completed
}

// recipe describes a packet; make mixes it.
type recipe struct {
	proto    string // "raw", "arp", or tcp, udp, frag followed by 4 or 6
	super    bool
	partial  bool   // leave the checksum to be completed; always so with super
	vouched  bool   // claim that checksums were verified
	skew     uint16 // what a checksum is off by
	damage   string // how the packet is malformed; "": it is not
	dst      byte   // last byte of the destination's MAC; 0xff: broadcast
	tags     int    // VLAN tags
	options  int    // words of IPv4 options or number of IPv6 extension headers
	routing  bool   // the last extension header is a routing header
	tcpFlags byte
	tcpExtra int // words of TCP options
	size     int // gso_size
	payload  int
	follows  bool // where the packet before is a super-frame of TCP over IPv4, continue its stream
	seed     uint64
}

// damages are the ways in which the offload header and the frame can contradict each other. The first
// plainDamages of them need no super-frame.
var damages = []string{
	"no vnet header", "no ethernet header", "checksum outside", "checksum in ethernet",
	"unknown type", "UFO", "bare ECN", "no size", "no partial checksum", "start off", "offset off",
	"ip length", "headers cut", "no payload", "data offset", "other family", "fragment bits", "other protocol",
}

const plainDamages = 4

func drawRecipe(t *rapid.T) recipe {
	if rapid.IntRange(0, 4).Draw(t, "bulk") == 4 {
		return drawBulk(t)
	}
	d := recipe{
		proto: rapid.SampledFrom([]string{
			"tcp4", "tcp4", "tcp6", "udp4", "udp6", "frag4", "frag6", "raw", "arp",
		}).Draw(t, "proto"),
		dst:  rapid.SampledFrom([]byte{2, 2, 2, 7, 0xff}).Draw(t, "dst"),
		tags: rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "tags"),
		seed: rapid.Uint64().Draw(t, "seed"),

		follows: rapid.Bool().Draw(t, "follows"),
	}
	ceiling := rapid.SampledFrom([]int{0, 60, 600, 1500, 9000, 70000}).Draw(t, "ceiling")
	d.payload = rapid.IntRange(0, ceiling).Draw(t, "payload")
	if rapid.IntRange(0, 7).Draw(t, "damaged") == 7 {
		d.damage = rapid.SampledFrom(damages).Draw(t, "damage")
	}
	if transport := d.proto[:3] == "tcp" || d.proto[:3] == "udp"; transport {
		d.super = rapid.Bool().Draw(t, "super")
		d.partial = d.super || rapid.Bool().Draw(t, "partial")
		if rapid.IntRange(0, 9).Draw(t, "wrong") == 9 {
			d.skew = rapid.Uint16Range(1, 0xfffe).Draw(t, "skew")
		}
		d.options = rapid.SampledFrom([]int{0, 0, 1, 2, 6}).Draw(t, "options")
		d.routing = rapid.Bool().Draw(t, "routing")
		d.tcpFlags = 0x10 | rapid.Byte().Draw(t, "flags")&0xc9
		d.tcpExtra = rapid.SampledFrom([]int{0, 3, 10}).Draw(t, "tcp options")
		d.size = rapid.SampledFrom([]int{48, 400, 536, 1200, 1324, 1460, 8900}).Draw(t, "gso_size")
	}
	if !d.super {
		d.vouched = d.skew == 0 && rapid.Bool().Draw(t, "vouched")
	}
	if d.damage != "" && !slices.Contains(damages[:plainDamages], d.damage) {
		d.proto = rapid.SampledFrom([]string{"tcp4", "udp6"}).Draw(t, "damaged proto")
		d.super, d.partial, d.vouched, d.size, d.payload = true, true, false, 500, max(d.payload, 40)
	}
	return d
}

// drawBulk describes a super-frame of a stream of TCP, with segments that are all full.
func drawBulk(t *rapid.T) recipe {
	d := recipe{
		proto: "tcp4", super: true, partial: true, dst: 2, tcpFlags: 0x10, tcpExtra: 3,
		size: rapid.SampledFrom([]int{400, 536, 1200, 1324, 8900}).Draw(t, "gso_size"), seed: rapid.Uint64().Draw(t, "seed"),
		follows: rapid.IntRange(0, 3).Draw(t, "follows") > 0,
	}
	d.payload = d.size * rapid.IntRange(1, 60000/d.size).Draw(t, "segments")
	return d
}

// noise gives bytes that depend on the recipe's seed alone.
type noise struct{ rnd *rand.Rand }

func (n noise) bytes(size int) []byte {
	b := make([]byte, size, size+8)
	for i := 0; i < size; i += 8 {
		b = binary.NativeEndian.AppendUint64(b[:i], n.rnd.Uint64())
	}
	return b[:size]
}

// make builds the packet with addresses, ports and payload from the seed.
func (d recipe) make() given {
	n := noise{rand.New(rand.NewPCG(d.seed, 1))}
	frame := frame(d.dst, 1, nil)[:12]
	for i := range d.tags {
		frame = append(frame, [][]byte{{0x88, 0xa8, 0, 9}, {0x81, 0, 0x20, 7}}[(i+d.tags)&1]...)
	}
	g := given{what: d}
	o := offload{}
	switch d.proto {
	case "raw":
		frame = append(append(frame, 0x88, 0xb5), n.bytes(min(d.payload, wire.MaxFrame-len(frame)-2))...)
	case "arp":
		frame = append(append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1), n.bytes(20)...)
	case "frag4":
		body := n.bytes(min(d.payload, 65000))
		frame = append(d.appendIPv4(frame, n, len(body), 17, uint16(n.rnd.Uint32())|0x2000&0xbfff), body...)
	case "frag6":
		body := append([]byte{17, 0, byte(n.rnd.Uint32()), 1}, n.bytes(4+min(d.payload, 65000))...)
		frame = append(d.appendIPv6(frame, n, len(body), 44), body...)
	default:
		frame, o = d.appendTransport(frame, n)
		g.sound = d.skew == 0
	}
	if d.vouched {
		o.flags |= dataValid
	}
	g.packet = append(o.append(nil), frame...)
	if d.damage != "" {
		g.packet = d.spoil(g.packet)
		g.refused, g.sound = true, false
	}
	return g
}

// next is a packet that continues the stream of a super-frame, with at most as much payload as that has; false if there is none. PSH
// is for the last packet of a stream only here: where several are joined, it moves.
func (g *given) next(d recipe) (given, bool) {
	if g.what.proto != "tcp4" || !g.what.super || g.refused || g.what.tcpFlags&0x01 != 0 {
		return given{}, false
	}
	o, frame := readOffload(g.packet), bytes.Clone(g.packet[wire.VnetLen:])
	end := o.end(frame)
	segments := (len(frame) - end + o.size - 1) / o.size
	length := min(max(d.payload, 1), len(frame)-end)
	for i := range frame[end:] {
		frame[end+i] ^= byte(d.seed)
	}
	payload := len(frame) - end
	frame, o.gso = frame[:end+length], tcp4GSO // CWR was for the one before
	o.rewrite(frame, payload-length, segments, payload, true)
	before := g.packet[wire.VnetLen+o.start:]
	before[13] &^= 0x08
	what := g.what
	what.seed, what.payload = d.seed, length
	return given{packet: append(o.append(nil), frame...), what: what, sound: g.sound}, true
}

func (d recipe) appendTransport(frame []byte, n noise) ([]byte, offload) {
	head, proto := 8, byte(17)
	if d.proto[:3] == "tcp" {
		head, proto = 20+4*d.tcpExtra, 6
	}
	ext := 40
	if d.proto[3] == '6' {
		ext = 24 * d.options
	}
	// What a TAP hands out fits its reader's buffer: IPv6 super-frames, whose fixed header counts extra, too.
	room := min(65535-20, wire.MaxFrame-len(frame)-40) - ext - head - 8
	payload := max(min(d.payload, room), b2i(d.super))
	if d.proto[3] == '4' {
		frame = d.appendIPv4(frame, n, head+payload, proto, 0x4000)
	} else {
		frame = d.appendIPv6(frame, n, head+payload, proto)
	}
	o := offload{start: len(frame), csumOff: 6}
	frame = append(frame, n.bytes(head+payload)...)
	l4 := frame[o.start:]
	if proto == 6 {
		o.csumOff = 16
		l4[12], l4[13] = byte(head/4)<<4, d.tcpFlags
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	pseudo, _ := pseudoHeader(frame)
	binary.BigEndian.PutUint16(l4[o.csumOff:], slowSum(append(pseudo, byte(d.skew>>8), byte(d.skew))))
	if !d.partial {
		completeSum(l4, o.csumOff)
		return frame, offload{}
	}
	o.flags = needsChecksum
	if d.super {
		o.gso = map[string]byte{"tcp4": tcp4GSO, "tcp6": tcp6GSO, "udp4": udpGSO, "udp6": udpGSO}[d.proto]
		if proto == 6 && d.tcpFlags&0x80 != 0 {
			o.gso |= ecnGSO
		}
		o.size, o.hdrLen = d.size, int(uint16(n.rnd.Uint32())) // the kernel's hint may be anything
	}
	return frame, o
}

func (d recipe) appendIPv4(frame []byte, n noise, body int, proto byte, fragment uint16) []byte {
	h := n.bytes(20 + 4*d.options)
	h[0], h[9], h[10], h[11] = 0x40|byte(len(h)/4), proto, 0, 0
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+body))
	binary.BigEndian.PutUint16(h[6:], fragment)
	binary.BigEndian.PutUint16(h[10:], ^slowSum(h))
	return append(append(frame, 8, 0), h...)
}

// appendIPv6 puts hop-by-hop options first, then destination options, a routing header last.
func (d recipe) appendIPv6(frame []byte, n noise, body int, proto byte) []byte {
	h := n.bytes(40)
	h[0] = 0x60
	next := 6
	for i := range d.options {
		kind, e := byte(60), append([]byte{0, 1, 1, 12}, n.bytes(12)...)
		switch {
		case d.routing && i == d.options-1:
			kind, e = 43, append([]byte{0, 2, 2, byte(d.seed & 1), 0, 0, 0, 0}, n.bytes(16)...)
		case i == 0:
			kind = 0
		}
		h[next] = kind
		next = len(h)
		h = append(h, e...)
	}
	h[next] = proto
	binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40+body))
	return append(append(frame, 0x86, 0xdd), h...)
}

// spoil makes the packet one that no kernel gives.
func (d recipe) spoil(packet []byte) []byte {
	o, frame := readOffload(packet), bytes.Clone(packet[wire.VnetLen:])
	ip := ipStart(frame)
	var length []byte // the IP header's field
	if d.super {
		length = frame[ip+2+2*b2i(d.proto == "udp6"):]
	}
	switch d.damage {
	case "no vnet header":
		return packet[:1+d.seed%9]
	case "no ethernet header":
		return packet[:wire.VnetLen+int(d.seed%14)]
	case "checksum outside":
		o = offload{flags: needsChecksum, start: len(frame) - 3, csumOff: 2}
		if len(frame) > 0xffff {
			o.start, o.csumOff = 0xffff, 0xffff
		}
	case "checksum in ethernet":
		o = offload{flags: needsChecksum, start: int(d.seed % 14), csumOff: 0}
	case "unknown type":
		o.gso = []byte{2, 6, 7, 0x7f, 0x82}[d.seed%5]
	case "UFO":
		o.gso = ufoGSO
	case "bare ECN":
		o.gso = ecnGSO
	case "no size":
		o.size = 0
	case "no partial checksum":
		o.flags = dataValid
	case "start off":
		o.start += 4
	case "offset off":
		o.csumOff -= 2
	case "ip length":
		addTo(length, 1)
	case "headers cut":
		frame = frame[:o.start+int(d.seed%8)]
	case "no payload":
		addTo(length, o.end(frame)-len(frame))
		frame = frame[:o.end(frame)]
	case "data offset":
		frame[o.start+12], o.gso = 4<<4, tcp4GSO
	case "other family":
		o.gso = map[string]byte{"tcp4": tcp6GSO, "udp6": tcp4GSO}[d.proto]
	case "fragment bits":
		frame[ip+6], o.gso = 0x20, tcp4GSO
	case "other protocol":
		frame[ip+6+3*b2i(d.proto == "tcp4")] = 132
	}
	return append(o.append(nil), frame...)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
