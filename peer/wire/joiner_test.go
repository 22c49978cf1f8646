package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// story is a sink that notes how long each frame is, and whose it is.
type story []string

func (s *story) Packet(source uint32, parts [][]byte) {
	n := -VnetLen
	for _, p := range parts {
		n += len(p)
	}
	*s = append(*s, fmt.Sprintf("%d:%d", source, n))
}

func (s *story) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(*s, want) {
		t.Errorf("got %v, want %v", *s, want)
	}
}

// segments cuts a super-frame of n segments of 100 bytes. Different seeds make different flows.
func segments(n int, seed uint64, c *Cutter) (out [][]byte) {
	p := traffic{proto: "tcp4", super: true, gsoSize: 100, payload: 100 * n, seed: seed}.build()
	return plaintexts(c, p, 1440)
}

func plaintexts(c *Cutter, packet []byte, limit int) (out [][]byte) {
	if fault := c.Start(append(make([]byte, Headroom), packet...), limit); fault != FaultNone {
		panic(fault.String())
	}
	for b, ok := c.Next(); ok; b, ok = c.Next() {
		out = append(out, bytes.Clone(b))
	}
	return out
}

func TestInterleavedFramesStayWhole(t *testing.T) {
	c, got := NewCutter(0, 0), story{}
	a, b := segments(4, 1, c), segments(3, 2, c)
	j := NewJoiner(&got, false)
	for _, p := range [][]byte{a[0], a[1], b[0], b[1], a[2], b[2]} {
		j.Add(1, p)
	}
	got.want(t) // b is complete, but a began first
	j.Add(1, a[3])
	got.want(t, "1:454", "1:354")
}

func TestFramesKeepTheirPlace(t *testing.T) {
	c, got := NewCutter(0, 0), story{}
	a := segments(4, 1, c)
	frame, _ := AppendFrame(nil, traffic{proto: "raw", payload: 50}.build(), 1440)
	pieces := plaintexts(c, traffic{proto: "raw", payload: 2000}.build(), 1440)
	j := NewJoiner(&got, false)
	j.Add(1, a[0])
	j.Add(1, a[1])
	j.Add(2, frame)
	got.want(t, "2:64")
	j.Add(1, frame)
	got.want(t, "2:64", "1:254", "1:64")
	j.Add(1, a[2])
	for _, p := range pieces {
		j.Add(1, p)
	}
	got.want(t, "2:64", "1:254", "1:64", "1:154", "1:2014")
	j.Add(1, a[3])
	j.Flush()
	got.want(t, "2:64", "1:254", "1:64", "1:154", "1:2014", "1:154")
}

func TestOnlyTheSameSuperFrameContinues(t *testing.T) {
	c, got := NewCutter(0, 0), story{}
	a := segments(4, 1, c)
	alien := bytes.Clone(a[1])
	alien[segmentLen+40]++ // TCP sequence number
	j := NewJoiner(&got, false)
	j.Add(1, a[0])
	j.Add(1, alien)
	j.Add(2, a[1])
	j.Add(1, a[1])
	j.Flush()
	got.want(t, "1:254", "1:154", "2:154")
}

func TestNothingContinuesTheLastSegment(t *testing.T) {
	c, got := NewCutter(0, 0), story{}
	a, b := segments(4, 1, c), segments(2, 2, c)
	j := NewJoiner(&got, false)
	j.Add(1, a[0]) // keeps b pending
	j.Add(1, b[0])
	j.Add(1, b[1])
	putIndex(b[1], 2)
	if _, fault := j.Add(1, b[1]); fault != FaultSegment {
		t.Errorf("index beyond count: %v", fault)
	}
	j.Flush()
	got.want(t, "1:154", "1:254")
}

func TestTooManyRuns(t *testing.T) {
	c, got := NewCutter(0, 0), story{}
	j := NewJoiner(&got, false)
	for i := range uint64(maxRuns + 1) {
		j.Add(uint32(i), segments(2, i, c)[0])
	}
	got.want(t, "0:154")
	j.Flush()
	if len(got) != maxRuns+1 {
		t.Errorf("%d packets", len(got))
	}
}

func TestLongFrames(t *testing.T) {
	c, got := NewCutter(0, 0), firsts{}
	j := NewJoiner(&got, false)
	j.Add(1, plaintexts(c, traffic{proto: "raw", payload: scratch - 14}.build(), 9000)[0])
	j.Add(1, plaintexts(c, traffic{proto: "raw", payload: scratch - 13}.build(), 9000)[0])
	if want := (firsts{VnetLen + scratch, VnetLen + eager}); !slices.Equal(got, want) {
		t.Errorf("first parts of %v bytes, want %v", got, want)
	}
}

// firsts is a sink that notes how long each packet's first part is.
type firsts []int

func (f *firsts) Packet(_ uint32, parts [][]byte) { *f = append(*f, len(parts[0])) }

// piece is a FRAGMENT of 8 bytes.
func piece(packet uint32, total, offset int) []byte {
	b := make([]byte, fragmentLen+fragmentUnit)
	f := fragment{packet: packet, total: uint32(total), offset: uint32(offset)}
	f.put(b)
	return b
}

func TestReassemblerBounds(t *testing.T) {
	var a reassembler
	check := func() {
		t.Helper()
		if len(a.sources) > maxSources {
			t.Fatalf("%d sources", len(a.sources))
		}
		for _, o := range a.sources {
			held := 0
			for i := range o.holds {
				held += len(o.holds[i].buf)
			}
			if held != o.held || held > maxHeld {
				t.Fatalf("holds %d bytes, notes %d", held, o.held)
			}
		}
	}
	for i := range uint32(200) { // large, small, alternating
		if _, fault := a.add(1, piece(i, []int{MaxPacket, 1000, 30000}[i%3], 0)); fault != FaultNone {
			t.Fatal(fault)
		}
		check()
	}
	if a.evicted != 200-maxInFlight && a.evicted != 200-maxInFlight+1 {
		t.Errorf("%d evicted", a.evicted)
	}
	for i := range uint32(2 * maxSources) {
		a.add(i, piece(7, 24, 0))
		check()
	}
	a.add(2*maxSources-1, piece(7, 24, 8))
	if packet, fault := a.add(2*maxSources-1, piece(7, 24, 16)); fault != FaultNone || len(packet) != 24 {
		t.Errorf("latest source lost its packet: %d bytes, %v", len(packet), fault)
	}
	a.forget(2*maxSources - 2)
	a.add(2*maxSources-2, piece(7, 24, 8))
	if packet, _ := a.add(2*maxSources-2, piece(7, 24, 16)); packet != nil {
		t.Error("forgotten source still had its piece")
	}
}

func TestReassemblerRefusesContradictions(t *testing.T) {
	var a reassembler
	a.add(1, piece(1, 40, 8))
	if _, fault := a.add(1, piece(1, 48, 16)); fault != FaultFragment {
		t.Errorf("other total: %v", fault)
	}
	overlap := append(piece(1, 40, 0), make([]byte, 8)...)
	if _, fault := a.add(1, overlap); fault != FaultDuplicate {
		t.Errorf("overlap: %v", fault)
	}
	if packet, fault := a.add(1, piece(1, 40, 0)); packet != nil || fault != FaultNone {
		t.Errorf("gap: %d bytes, %v", len(packet), fault)
	}
}

// A packet that travelled as fragments is no more trusted than one that did not.
func TestFragmentsHideNothing(t *testing.T) {
	good := traffic{proto: "udp4", super: true, gsoSize: 1400, payload: 4000}.build()
	for what, spoil := range map[string]func(b []byte){
		"segment size": func(b []byte) { b[4], b[5] = 0, 0 },
		"type":         func(b []byte) { b[1] = 1 },
		"csum_start":   func(b []byte) { b[6]++ },
		"IP length":    func(b []byte) { b[VnetLen+17]++ },
		"checksum of a plain frame": func(b []byte) {
			b[1] = 0
			binary.LittleEndian.PutUint16(b[6:], 4100)
		},
	} {
		p := bytes.Clone(good)
		spoil(p)
		var head [segmentLen]byte
		f := fragment{total: uint32(len(p))}
		f.put(head[:])
		got := story{}
		j := NewJoiner(&got, false)
		if _, fault := j.Add(1, append(head[:fragmentLen], p...)); fault != FaultOffload || len(got) != 0 {
			t.Errorf("%s: %v %v", what, fault, got)
		}
	}
}
