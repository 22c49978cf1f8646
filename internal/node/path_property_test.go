package node

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"weave/peer/wire"
)

// weather is what the relay does to datagrams, in percent of them.
type weather struct {
	loss, copies, late int
	distance           int // how many others a late datagram lets pass
	batch              int // how many arrive at once
	seed               uint64
}

func drawWeather(t *rapid.T) weather {
	w := weather{batch: rapid.IntRange(0, 200).Draw(t, "batch"), seed: rapid.Uint64().Draw(t, "weather")}
	if rapid.Bool().Draw(t, "loses") {
		w.loss = rapid.IntRange(0, 30).Draw(t, "loss")
	}
	if rapid.Bool().Draw(t, "copies") {
		w.copies = rapid.IntRange(0, 30).Draw(t, "duplicates")
	}
	if rapid.Bool().Draw(t, "disorders") {
		w.late = rapid.IntRange(0, 30).Draw(t, "late")
		w.distance = rapid.IntRange(1, 60).Draw(t, "distance")
	}
	return w
}

// fate says which of n datagrams arrive in which order. Copies arrive somewhere after their original.
func (w weather) fate(n int) (order []int) {
	rnd := rand.New(rand.NewPCG(w.seed, 2))
	happens := func(percent int) bool { return rnd.IntN(100) < percent }
	for i := range n {
		if happens(w.loss) {
			continue
		}
		at := len(order)
		if happens(w.late) { // equally: others come early
			at -= rnd.IntN(min(w.distance, len(order)) + 1)
		}
		order = slices.Insert(order, at, i)
		if happens(w.copies) {
			order = append(order, i)
		}
	}
	return order
}

// pathMTUs are the smallest that a path may have, IPv6's smallest, Ethernet's, and jumbo frames.
var pathMTUs = []int{576, 1280, 1500, 9000}

// Whatever frames enter one TAP, and whatever the network does to the datagrams, the other TAP gets exactly what plain
// segmentation would have delivered of the datagrams that arrived: each frame once, byte for byte, with the same claim
// about its checksums; in order, unless the network changed the order. What is malformed is counted, once, and disturbs
// nothing else. Soak: go test -run PathEquals -rapid.checks 20000; -rapid.seed repeats a run.
func TestPathEqualsSegmentation(t *testing.T) {
	for _, aes := range []bool{false, true} {
		t.Run(map[bool]string{false: "chacha", true: "aes"}[aes], func(outer *testing.T) {
			rapid.Check(outer, func(t *rapid.T) {
				mtu := rapid.SampledFrom(pathMTUs).Draw(t, "mtu")
				plain := rapid.Bool().Draw(t, "plain")
				w := drawWeather(t)
				recipes := rapid.SliceOfN(rapid.Custom(drawRecipe), 1, 20).Draw(t, "packets")
				r := newPathRig(outer, t, aes, plain, mtu)
				m := &manifest{t: t, limit: newPath(r.nearA.LocalAddr(), mtu).limit, plain: plain, pieces: map[int]int{}}
				datagrams := r.send(m, recipes)
				if rapid.Bool().Draw(t, "takes long") {
					r.b.takeLong(m.given)
				}
				order := w.fate(len(datagrams))
				arriving := make([][]byte, len(order))
				for i, n := range order {
					arriving[i] = datagrams[n]
				}
				before := r.b.counted()
				got := r.expand(r.toB(arriving, w.batch), plain)
				r.judge(m.arrive(order), got, w.late > 0, before)
			})
		})
	}
}

// send gives the packets to a and returns the datagrams it makes of them, with their cargo in the manifest.
func (r *pathRig) send(m *manifest, recipes []recipe) (datagrams [][]byte) {
	for i, d := range recipes {
		g, ok := given{}, false
		if d.follows && i > 0 {
			g, ok = m.given[i-1].next(d)
		}
		if !ok {
			g = d.make()
		}
		m.given = append(m.given, g)
	}
	var refused uint64
	for _, g := range m.given {
		if m.dropsAtSender(&g) {
			refused++
		}
		if err := r.a.user.WriteV([][]byte{g.packet}); err != nil {
			r.t.Fatal(err)
		}
	}
	before := r.a.counted()
	for {
		moved, err := r.a.lane.turn()
		if err != nil {
			r.t.Fatal(err)
		}
		if moved == 0 {
			break
		}
		datagrams = append(datagrams, r.fromA()...)
	}
	for _, d := range datagrams {
		plaintext, err := r.twin.Open(bytes.Clone(d))
		if err != nil {
			r.t.Fatal(err)
		}
		m.load(plaintext)
	}
	if m.skip(); m.next != len(m.given) {
		r.t.Fatalf("nothing was sent of %+v", m.given[m.next].what)
	}
	if n := r.a.counted() - before; n != refused {
		r.t.Fatalf("%d drops at the sender, want %d", n, refused)
	}
	return datagrams
}

// takeLong has all receivers of packets take long frames.
func (h *host) takeLong(packets []given) {
	known := map[station]*verdict{}
	for _, g := range packets {
		if frame := g.packet[min(wire.VnetLen, len(g.packet)):]; len(frame) >= 34 {
			known[stationOf(frame)] = &verdict{takes: true}
		}
	}
	h.dp.long.known.Store(&known)
}

// expand makes plain frames of what b's TAP got, and holds its offload fields against what a kernel takes.
func (r *pathRig) expand(packets [][]byte, plain bool) (out []plainFrame) {
	for _, p := range packets {
		o := readOffload(p)
		if plain && !bytes.Equal(p[:wire.VnetLen], make([]byte, wire.VnetLen)) {
			r.t.Fatalf("offload header %x for a TAP without offloads", p[:wire.VnetLen])
		}
		if o.gso != noGSO {
			frame := p[wire.VnetLen:]
			cwr := o.gso&^ecnGSO != udpGSO && frame[o.start+13]&0x80 != 0
			if o.flags != needsChecksum || o.size == 0 || o.hdrLen != o.end(frame) || cwr != (o.gso&ecnGSO != 0) {
				r.t.Fatalf("super-frame with %+v, CWR %v", o, cwr)
			}
		}
		out = append(out, segment(p, o.size)...)
	}
	return out
}

// judge compares. Packets that came in pieces may have given way to others, if that was counted.
func (r *pathRig) judge(want outcome, got []plainFrame, disordered bool, before uint64) {
	evicted, replays := r.b.dropped(dropEvicted), r.b.dropped(dropOpen)
	if replays != want.replays {
		r.t.Fatalf("%d datagrams refused, want %d", replays, want.replays)
	}
	if n := r.b.counted() - before - evicted; n != want.replays+want.refused && (!disordered || evicted == 0) {
		r.t.Fatalf("%d drops at the receiver, want %d replays and %d malformed", n, want.replays, want.refused)
	}
	if !disordered {
		if len(got) != len(want.frames) {
			r.t.Errorf("%d frames, want %d", len(got), len(want.frames))
		}
		for i := range min(len(got), len(want.frames)) {
			if got[i] != want.frames[i] {
				r.t.Fatalf("frame %d of %d: got %v, want %v", i, len(want.frames), got[i], want.frames[i])
			}
		}
		return
	}
	left := map[plainFrame]int{}
	for _, f := range want.frames {
		left[f]++
	}
	for _, f := range got {
		if left[f]--; left[f] < 0 {
			r.t.Fatalf("a frame nobody sent, or once too often: %v", f)
		}
	}
	if evicted > 0 {
		for _, f := range want.whole {
			left[f]--
		}
	}
	for f, n := range left {
		if n > 0 {
			r.t.Fatalf("%d times not delivered although its datagrams arrived: %v", n, f)
		}
	}
}

// String shows the beginning in hexadecimal.
func (f plainFrame) String() string {
	return fmt.Sprintf("%d bytes, vouched %v: %x", len(f.bytes), f.vouched, f.bytes[:min(len(f.bytes), 120)])
}
