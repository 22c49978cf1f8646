package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// sent is a plaintext on its way, with the frames its arrival alone is enough to deliver.
type sent struct {
	source    uint32
	plaintext []byte
	frames    [][]byte
	fragment  bool
}

// cutAll sends packets as a driver does: bundles of small frames, the rest through the cutter.
func cutAll(t *rapid.T, source uint32, packets [][]byte, limit int) (out []sent) {
	c := NewCutter(uint8(source), 0xfffffe)
	bundle := sent{source: source}
	flush := func() {
		if len(bundle.plaintext) > 0 {
			out = append(out, bundle)
			bundle = sent{source: source}
		}
	}
	for _, p := range packets {
		b, ok := AppendFrame(bundle.plaintext, p, limit)
		if !ok {
			flush()
			b, ok = AppendFrame(nil, p, limit)
		}
		if ok {
			bundle.plaintext = b
			bundle.frames = append(bundle.frames, wanted(t, p, limit)...)
			continue
		}
		out = append(out, cutOne(t, c, source, p, limit)...)
	}
	flush()
	return out
}

func cutOne(t *rapid.T, c *Cutter, source uint32, packet []byte, limit int) (out []sent) {
	buf := append(make([]byte, Headroom), packet...)
	if fault := c.Start(buf, limit); fault != FaultNone {
		t.Fatalf("start: %v", fault)
	}
	frames := wanted(t, packet, limit)
	for {
		b, ok := c.Next()
		if !ok {
			break
		}
		if len(b) > limit {
			t.Fatalf("plaintext of %d bytes, limit %d", len(b), limit)
		}
		s := sent{source: source, plaintext: bytes.Clone(b), fragment: Kind(b[0]) == KindFragment}
		if !s.fragment {
			s.frames = frames[len(out) : len(out)+1]
		}
		out = append(out, s)
	}
	if len(out) == 0 || !out[0].fragment && len(out) != len(frames) {
		t.Fatalf("%d plaintexts for %d frames", len(out), len(frames))
	}
	if out[0].fragment {
		out[len(out)-1].frames = frames
	}
	return out
}

// wanted is what the oracle makes of a packet, with TCP cut to the limit where that is possible.
func wanted(t *rapid.T, packet []byte, limit int) [][]byte {
	gso := int(binary.LittleEndian.Uint16(packet[4:]))
	if typ := packet[1] &^ 0x80; typ == 1 || typ == 4 {
		start := int(binary.LittleEndian.Uint16(packet[6:]))
		end := start + int(packet[10+start+12]>>4)*4
		if room := limit - 16 - end; room >= 64 {
			gso = min(gso, room)
		}
	}
	frames, err := oracle(packet, gso)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// collector is a sink that segments with the oracle what it gets.
type collector struct {
	t      *rapid.T
	plain  bool
	frames map[uint32][][]byte
}

func (c *collector) Packet(source uint32, parts [][]byte) {
	if len(parts[0]) < VnetLen+EthernetLen {
		c.t.Fatalf("first part has %d bytes", len(parts[0]))
	}
	if len(parts) > 2 {
		c.t.Fatalf("%d parts", len(parts))
	}
	packet := slices.Concat(parts...)
	if c.plain && !bytes.Equal(packet[:VnetLen], make([]byte, VnetLen)) {
		c.t.Fatalf("virtio header %x in plain mode", packet[:VnetLen])
	}
	frames, err := oracle(packet, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	c.frames[source] = append(c.frames[source], frames...)
}

// receive joins plaintexts in batches of random size.
func receive(t *rapid.T, in []sent, plain bool) *collector {
	c := &collector{t: t, plain: plain, frames: map[uint32][][]byte{}}
	j := NewJoiner(c, plain)
	takingLong(t, j)
	batch := rapid.IntRange(1, 200).Draw(t, "batch")
	for i, s := range in {
		if rapid.IntRange(0, 9).Draw(t, "forged") == 0 {
			forged := bytes.Repeat([]byte{0xff}, len(s.plaintext))
			if fault := arrive(j, s.source, forged, unsealed{forged: true}); fault != FaultNone {
				t.Fatalf("forged: %v", fault)
			}
		}
		fault := arrive(j, s.source, s.plaintext, unsealed{})
		if fault != FaultNone && fault != FaultDuplicate {
			t.Fatalf("add: %v", fault)
		}
		if i%batch == batch-1 {
			j.Flush()
		}
	}
	j.Flush()
	return c
}

// takingLong draws how often the receiver says that it takes long frames.
func takingLong(t *rapid.T, j *Joiner) {
	if never := rapid.IntRange(0, 3).Draw(t, "takes long"); never < 3 {
		n := 0
		j.Chain(func([]byte) bool { n++; return n%4 >= never })
	}
}

// drawBulk replaces packets by super-frames of one stream.
func drawBulk(t *rapid.T, packets [][]byte) {
	size := rapid.SampledFrom([]int{100, 400, 536}).Draw(t, "bulk size")
	packets[0] = traffic{
		proto: "tcp4", super: true, gsoSize: size, tcpFlags: 0x10, tcpExtra: 4 * rapid.IntRange(0, 3).Draw(t, "bulk options"),
		payload: size * rapid.IntRange(1, 64000/size).Draw(t, "bulk segments"), seed: rapid.Uint64().Draw(t, "bulk seed"),
	}.build()
	for i := range packets[1:] {
		packets[i+1] = follow(packets[i], rapid.SampledFrom([]int{65535, size, 1}).Draw(t, "bulk rest"))
	}
}

func drawSent(t *rapid.T) (all []sent) {
	limit := rapid.IntRange(600, 1440).Draw(t, "limit")
	for source := range uint32(rapid.IntRange(1, 3).Draw(t, "sources")) {
		packets := rapid.SliceOfN(rapid.Custom(draw), 1, 6).Draw(t, "packets")
		if len(packets) > 1 && rapid.Bool().Draw(t, "bulk") {
			drawBulk(t, packets[rapid.IntRange(0, len(packets)-2).Draw(t, "bulk begins"):])
		}
		all = append(all, cutAll(t, source, packets, limit)...)
	}
	return all
}

// Without loss, the far side gets exactly the frames a kernel would have sent, in order.
func TestJoinedEqualsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawSent(t)
		got := receive(t, all, rapid.Bool().Draw(t, "plain"))
		want := map[uint32][][]byte{}
		for _, s := range all {
			want[s.source] = append(want[s.source], s.frames...)
		}
		for source := range want {
			if len(got.frames[source]) != len(want[source]) {
				t.Fatalf("source %d: %d frames, want %d", source, len(got.frames[source]), len(want[source]))
			}
			for i, f := range want[source] {
				if !bytes.Equal(f, got.frames[source][i]) {
					t.Fatalf("source %d: frame %d of %d differs\n got %x\nwant %x", source, i, len(want[source]),
						got.frames[source][i], f)
				}
			}
		}
	})
}

// With loss, duplicates and disorder, every frame that arrives is one the oracle sends, and all segments and bundles
// that arrived are delivered, each once per arrival.
func TestLossDeliversSubset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var arrived []sent
		for _, s := range drawSent(t) {
			switch rapid.IntRange(0, 19).Draw(t, "fate") {
			case 0:
			case 1:
				arrived = append(arrived, s, s)
			case 2, 3:
				at := len(arrived) - min(len(arrived), rapid.IntRange(1, 5).Draw(t, "ahead"))
				arrived = slices.Insert(arrived, at, s)
			default:
				arrived = append(arrived, s)
			}
		}
		got := receive(t, arrived, rapid.Bool().Draw(t, "plain"))
		certain, possible := map[string]int{}, map[string]int{}
		for _, s := range arrived {
			for _, f := range s.frames {
				if s.fragment {
					possible[string(f)]++
				} else {
					certain[string(f)]++
				}
			}
		}
		for _, frames := range got.frames {
			for _, f := range frames {
				switch {
				case certain[string(f)] > 0:
					certain[string(f)]--
				case possible[string(f)] > 0:
					possible[string(f)]--
				default:
					t.Fatalf("a frame nobody sent, or twice: %x", f)
				}
			}
		}
		for f, n := range certain {
			if n > 0 {
				t.Fatalf("%d times not delivered although it arrived: %x", n, f)
			}
		}
	})
}

// Whatever bytes of a plaintext change, the joiner neither panics nor gives out a packet a TAP must not see.
func TestDamagedPlaintexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &checkingSink{t: t}
		j := NewJoiner(s, rapid.Bool().Draw(t, "plain"))
		takingLong(t, j)
		for _, p := range drawSent(t) {
			b := bytes.Clone(p.plaintext)
			for range rapid.IntRange(0, 3).Draw(t, "damages") {
				b[rapid.IntRange(0, min(len(b)-1, 150)).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
			b = b[:len(b)-min(len(b), rapid.SampledFrom([]int{0, 0, 0, 1, 40}).Draw(t, "short"))]
			arrive(j, p.source, b, unsealed{})
		}
		j.Flush()
	})
}

type failer interface{ Fatalf(string, ...any) }

// checkingSink holds packets against what a kernel demands of a writer.
type checkingSink struct {
	t       failer
	packets int
}

func (s *checkingSink) Packet(_ uint32, parts [][]byte) {
	s.packets++
	if len(parts) == 0 || len(parts) > 1024 || len(parts[0]) < VnetLen+EthernetLen {
		s.t.Fatalf("bad parts")
	}
	packet := slices.Concat(parts...)
	var v vnet
	v.get(packet)
	frame := packet[VnetLen:]
	if v.flags&vnetNeedsCsum != 0 && int(v.csumStart)+int(v.csumOffset)+2 > len(frame) {
		s.t.Fatalf("checksum outside the frame: %+v, %d bytes", v, len(frame))
	}
	if v.gsoType == gsoNone {
		return
	}
	if _, ok := parseHeaders(frame, v.gsoType, v.csumStart, v.csumOffset); !ok || v.gsoSize == 0 ||
		int(v.hdrLen) > len(frame) || len(packet) > LongestPacket+4 {
		s.t.Fatalf("bad super-frame: %+v, %d bytes", v, len(frame))
	}
}
