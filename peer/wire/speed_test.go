package wire

import (
	"testing"
)

// null is a sink that only counts, so that a benchmark measures this package.
type null struct{ packets, bytes int }

func (n *null) Packet(_ uint32, parts [][]byte) {
	n.packets++
	for _, p := range parts {
		n.bytes += len(p)
	}
}

const pathLimit = 1472 - DataOverhead

// loop cuts a packet and joins it again, with the plaintexts copied to where received datagrams lie and "decrypted" from there.
type loop struct {
	packet []byte
	buf    []byte
	batch  []byte
	cutter *Cutter
	joiner *Joiner
	sink   null
}

func newLoop(packet []byte, plain bool) *loop {
	l := &loop{packet: packet, buf: make([]byte, Headroom+len(packet)), batch: make([]byte, 1<<20)}
	l.cutter = NewCutter(0, 0)
	l.joiner = NewJoiner(&l.sink, plain)
	return l
}

func (l *loop) run(t testing.TB, limit int) {
	copy(l.buf[Headroom:], l.packet)
	if fault := l.cutter.Start(l.buf, limit); fault != FaultNone {
		t.Fatal(fault)
	}
	at := 0
	for b, ok := l.cutter.Next(); ok; b, ok = l.cutter.Next() {
		n := copy(l.batch[at+DataHeaderLen:], b) + DataOverhead
		plaintext, joined, _ := l.joiner.Open(1, unsealed{}, l.batch[at:at+n])
		if _, fault := l.joiner.Add(1, plaintext); !joined && fault != FaultNone {
			t.Fatal(fault)
		}
		at += n
	}
	l.joiner.Flush()
}

func superTCP() []byte {
	return traffic{proto: "tcp4", super: true, tcpExtra: 12, gsoSize: 1324, payload: 64000}.build()
}

func TestNoAllocations(t *testing.T) {
	small := traffic{proto: "udp4", needs: true, payload: 64}.build()
	for what, l := range map[string]*loop{
		"super-frame":       newLoop(superTCP(), false),
		"super-frame plain": newLoop(superTCP(), true),
		"tiny segments":     newLoop(traffic{proto: "tcp4", super: true, gsoSize: 50, payload: 60000}.build(), false),
		"fragments":         newLoop(traffic{proto: "udp6", super: true, gsoSize: 1450, payload: 60000}.build(), false),
		"fragments plain":   newLoop(traffic{proto: "udp6", super: true, gsoSize: 1450, payload: 60000}.build(), true),
		"frame":             newLoop(small, true),
	} {
		l.run(t, pathLimit)
		if n := testing.AllocsPerRun(50, func() { l.run(t, pathLimit) }); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
		if l.sink.packets == 0 {
			t.Errorf("%s: nothing arrived", what)
		}
	}
	sink := null{}
	j, b := NewJoiner(&sink, false), make([]byte, 0, pathLimit)
	if n := testing.AllocsPerRun(50, func() { bundle(b, small, j) }); n != 0 {
		t.Errorf("bundle: %v allocations", n)
	}
}

// bundle fills a plaintext with copies of one packet, and joins it.
func bundle(b, packet []byte, j *Joiner) int {
	n := 0
	for ok := true; ok; n++ {
		b, ok = AppendFrame(b, packet, pathLimit)
	}
	j.Add(1, b)
	j.Flush()
	return n - 1
}

func BenchmarkCut64K(b *testing.B) {
	l := newLoop(superTCP(), false)
	b.SetBytes(64000)
	for b.Loop() {
		copy(l.buf[Headroom:], l.packet[:VnetLen+66])
		if fault := l.cutter.Start(l.buf, pathLimit); fault != FaultNone {
			b.Fatal(fault)
		}
		for _, ok := l.cutter.Next(); ok; _, ok = l.cutter.Next() {
		}
	}
}

func BenchmarkJoin64K(b *testing.B) {
	for _, plain := range []bool{false, true} {
		name := "offload"
		if plain {
			name = "plain"
		}
		b.Run(name, func(b *testing.B) {
			var in [][]byte
			for _, p := range plaintexts(NewCutter(0, 0), superTCP(), pathLimit) {
				in = append(in, sealed(p))
			}
			j := NewJoiner(&null{}, plain)
			b.SetBytes(64000)
			for b.Loop() {
				for _, msg := range in {
					if plaintext, joined, _ := j.Open(1, unsealed{}, msg); !joined {
						j.Add(1, plaintext)
					}
				}
				j.Flush()
			}
		})
	}
}

func BenchmarkFragments64K(b *testing.B) {
	l := newLoop(traffic{proto: "udp4", super: true, gsoSize: 1450, payload: 64000}.build(), false)
	b.SetBytes(64000)
	for b.Loop() {
		l.run(b, pathLimit)
	}
}

func BenchmarkBundle64(b *testing.B) {
	packet := traffic{proto: "udp4", needs: true, payload: 64 - 42}.build()
	j, dst, frames := NewJoiner(&null{}, false), make([]byte, 0, pathLimit), 0
	for b.Loop() {
		frames += bundle(dst, packet, j)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(frames), "ns/frame")
}
