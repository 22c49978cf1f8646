package node

import (
	"encoding/binary"

	"pgregory.net/rapid"

	"weave/peer/wire"
)

// manifest says what each datagram carries: it holds the sender's packets and the plaintexts it made of them side by
// side. A wrong number of records, segments or pieces fails the test here, before any is lost.
type manifest struct {
	t      *rapid.T
	limit  int
	plain  bool
	given  []given
	next   int // of given, the one that the next plaintext continues or begins
	cargos []cargo
	pieces map[int]int // of packets that went as fragments
}

// cargo is what one datagram carries.
type cargo struct {
	frames   []plainFrame // delivered for its arrival alone
	fragment bool         // one of the pieces of packet
	packet   int          // index in given
}

// dropsAtSender says whether nothing of a packet may be sent. Of plain frames too long for a datagram only the receiver
// sees that their offload fields are wrong.
func (m *manifest) dropsAtSender(g *given) bool {
	return g.refused && (len(g.packet) < wire.VnetLen+14 || wire.IsSuper(g.packet) || wire.RecordLen(g.packet) <= m.limit)
}

// wanted is what the oracle makes of a packet. TCP whose segments would not fit is cut to what fits, as long as that is
// 64 bytes and the headers are not too long to be repeated.
func (m *manifest) wanted(g *given) []plainFrame {
	if g.refused || g.frames != nil {
		return g.frames
	}
	o, frame := readOffload(g.packet), g.packet[wire.VnetLen:]
	if o.gso != noGSO && o.gso != udpGSO {
		if room := m.limit - 16 - o.end(frame); room >= 64 {
			o.size = min(o.size, room)
		}
	}
	frames := segment(g.packet, o.size)
	for i := range frames {
		if g.sound {
			if err := verify([]byte(frames[i].bytes)); err != nil {
				m.t.Fatalf("oracle: %v", err)
			}
		}
		frames[i].vouched = frames[i].vouched && !m.plain // a TAP without offloads has no way to say it
	}
	g.frames = frames
	return frames
}

// load notes what the next plaintext carries.
func (m *manifest) load(b []byte) {
	if len(b) > m.limit {
		m.t.Fatalf("plaintext of %d bytes, limit %d", len(b), m.limit)
	}
	var c cargo
	switch wire.Kind(b[0]) {
	case wire.KindFrame:
		for len(b) > 0 {
			g := m.current()
			if wire.IsSuper(g.packet) {
				m.t.Fatalf("super-frame sent as a frame: %+v", g.what)
			}
			c.frames = append(c.frames, m.wanted(g)...)
			b = b[8+int(binary.BigEndian.Uint16(b[2:])):]
			m.next++
		}
	case wire.KindSegment:
		frames := m.wanted(m.current())
		index, count := int(binary.BigEndian.Uint16(b[12:])), int(binary.BigEndian.Uint16(b[14:]))
		if count != len(frames) || index >= count {
			m.t.Fatalf("segment %d of %d, want %d: %+v", index, count, len(frames), m.current().what)
		}
		c.frames = frames[index : index+1]
		m.next += b2i(index == count-1)
	case wire.KindFragment:
		g := m.current()
		total := int(binary.BigEndian.Uint32(b) & 0xffffff)
		if total != len(g.packet) {
			m.t.Fatalf("fragment of %d bytes, want %d", total, len(g.packet))
		}
		c.fragment, c.packet = true, m.next
		m.pieces[m.next]++
		m.next += b2i(int(binary.BigEndian.Uint32(b[8:]))+len(b)-12 == total)
	default:
		m.t.Fatalf("plaintext of kind %d", b[0])
	}
	m.cargos = append(m.cargos, c)
}

// current is the next packet of which something is sent.
func (m *manifest) current() *given {
	m.skip()
	if m.next == len(m.given) {
		m.t.Fatal("more was sent than given")
	}
	return &m.given[m.next]
}

func (m *manifest) skip() {
	for m.next < len(m.given) && m.dropsAtSender(&m.given[m.next]) {
		m.next++
	}
}

// outcome is what must come of datagrams that arrive, by their numbers, in that order.
type outcome struct {
	frames  []plainFrame
	whole   []plainFrame
	replays uint64
	refused uint64
}

// arrive computes it. frames holds everything, whole the part that came as fragments.
func (m *manifest) arrive(numbers []int) (o outcome) {
	seen, pieces := map[int]bool{}, map[int]int{}
	for _, n := range numbers {
		c := &m.cargos[n]
		if seen[n] {
			o.replays++
			continue
		}
		seen[n] = true
		o.frames = append(o.frames, c.frames...)
		if !c.fragment {
			continue
		}
		if pieces[c.packet]++; pieces[c.packet] < m.pieces[c.packet] {
			continue
		}
		g := &m.given[c.packet]
		o.refused += uint64(b2i(g.refused))
		o.frames = append(o.frames, m.wanted(g)...)
		o.whole = append(o.whole, m.wanted(g)...)
	}
	return o
}
