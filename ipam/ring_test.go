package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weave/peer"
)

var testGenesis = Genesis{
	Range: netip.MustParsePrefix("10.32.0.0/26"), Seeds: []peer.Name{simName(0), simName(1), simName(2)},
}

func drawMember(t *rapid.T) Member {
	return Member{simName(rapid.IntRange(0, 4).Draw(t, "name")), rapid.Uint32Range(1, 3).Draw(t, "life")}
}

// drawDelta makes any part of a ring, also such as no honest peer would.
func drawDelta(t *rapid.T) Delta {
	s := spanOf(testGenesis.Range)
	d := Delta{Genesis: testGenesis, Tombs: map[Member]Member{}}
	for range rapid.IntRange(0, 20).Draw(t, "entries") {
		a := s.first + rapid.Uint32Range(0, 63).Draw(t, "start")
		d.Entries = append(d.Entries, Entry{a, rapid.Uint32Range(a, s.last).Draw(t, "last"), rapid.Uint32Range(1, 3).Draw(t, "version"), drawMember(t)})
	}
	for range rapid.IntRange(0, 4).Draw(t, "tombs") {
		if gone, heir := drawMember(t), drawMember(t); gone.Name != heir.Name {
			d.Tombs[gone] = heir
		}
	}
	d.Settled = rapid.SliceOfN(rapid.Uint64Range(1, 3), 0, 2).Draw(t, "settled")
	return d
}

func merged(t *rapid.T, deltas ...Delta) *Ring {
	r := NewRing(testGenesis)
	for _, d := range deltas {
		if _, err := r.Merge(d); err != nil {
			t.Fatal(err)
		}
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func same(a, b *Ring) bool {
	x, y := a.Snapshot(), b.Snapshot()
	return fmt.Sprint(x) == fmt.Sprint(y) && a.Sum() == b.Sum()
}

func TestRingIsAJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawDelta(t), drawDelta(t), drawDelta(t)
		ab := merged(t, a, b)
		if !same(ab, merged(t, b, a)) {
			t.Fatal("merge does not commute")
		}
		if !same(merged(t, ab.Snapshot(), c), merged(t, a, merged(t, b, c).Snapshot())) {
			t.Fatal("merge is not associative")
		}
		news, err := ab.Merge(ab.Snapshot())
		if err != nil || !news.Empty() || !same(ab, merged(t, a, b, a, b)) {
			t.Fatalf("merge is not idempotent: %v, %v", news, err)
		}
		// News alone is as good as the whole.
		other := merged(t, a)
		news, err = other.Merge(b)
		if err != nil {
			t.Fatal(err)
		}
		if !same(merged(t, a, news), ab) {
			t.Fatal("news leaves something out")
		}
	})
}

// Many entries at once take another way than few.
func TestMergeOfManyEqualsMergeOfFew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDelta(t)
		one := NewRing(testGenesis)
		for _, e := range d.Entries {
			if _, err := one.Merge(Delta{Genesis: testGenesis, Entries: []Entry{e}}); err != nil {
				t.Fatal(err)
			}
		}
		d.Tombs, d.Settled = nil, nil
		if !same(one, merged(t, d)) {
			t.Fatal("they differ")
		}
	})
}

// Whoever removed whom: everybody comes to the same owner, and that one lives.
func TestHeirsLive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := merged(t, drawDelta(t), drawDelta(t))
		for _, s := range r.Segments() {
			if r.Buried(s.Owner) {
				t.Fatalf("%s owns %s and is removed: %v", s.Owner, toAddr(s.Start), r.tombs)
			}
		}
	})
}

// Giving changes the owner of the block and of nothing else.
func TestGive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewRing(testGenesis)
		for range rapid.IntRange(1, 30).Draw(t, "gifts") {
			before := r.Segments()
			from := before[rapid.IntRange(0, len(before)-1).Draw(t, "from")].Owner
			run := rapid.SampledFrom(spansOf(before, from)).Draw(t, "run")
			first := rapid.Uint32Range(run.first, run.last).Draw(t, "first")
			block := span{first, rapid.Uint32Range(first, run.last).Draw(t, "last")}
			to := Member{simName(rapid.IntRange(0, 4).Draw(t, "to")), 1}
			changed := r.give(from, to, block)
			if err := r.check(); err != nil {
				t.Fatal(err)
			}
			for a := r.span.first; a <= r.span.last; a++ {
				was, _ := ownerAt(before, a)
				is, known := ownerAt(r.Segments(), a)
				want := was.Owner
				if block.has(a) {
					want = to
				}
				if !known || is.Owner != want {
					t.Fatalf("%s: owner %s, want %s, after giving %v", toAddr(a), is.Owner, want, block)
				}
			}
			// Who knows of nothing else knows this.
			alone := emptyRing(testGenesis)
			if _, err := alone.Merge(Delta{Genesis: testGenesis, Entries: changed}); err != nil {
				t.Fatal(err)
			}
			if own := spansOf(alone.Segments(), to); to != from && !slices.Equal(own, []span{block}) {
				t.Fatalf("the change alone says that %s owns %v, want %v", to, own, block)
			}
		}
	})
}

func TestFirstRing(t *testing.T) {
	for _, c := range []struct {
		r     string
		seeds int
		want  string
	}{
		{"10.32.0.0/12", 1, "10.32.0.0-10.47.255.255"},
		{"10.32.0.0/12", 2, "10.32.0.0-10.39.255.255 10.40.0.0-10.47.255.255"},
		{"10.32.0.0/12", 3, "10.32.0.0-10.39.255.255 10.40.0.0-10.43.255.255 10.44.0.0-10.47.255.255"},
		{"10.0.0.0/30", 3, "10.0.0.0-10.0.0.1 10.0.0.2-10.0.0.2 10.0.0.3-10.0.0.3"},
		{"10.0.0.0/30", 9, "10.0.0.0-10.0.0.0 10.0.0.1-10.0.0.1 10.0.0.2-10.0.0.2 10.0.0.3-10.0.0.3"},
		{"255.255.255.0/24", 2, "255.255.255.0-255.255.255.127 255.255.255.128-255.255.255.255"},
		{"0.0.0.0/0", 1, "0.0.0.0-255.255.255.255"},
	} {
		g := Genesis{Range: netip.MustParsePrefix(c.r)}
		for i := range c.seeds {
			g.Seeds = append(g.Seeds, simName(i))
		}
		r := NewRing(g)
		var got string
		for _, s := range r.Segments() {
			got += fmt.Sprintf(" %s-%s", toAddr(s.Start), toAddr(s.Last))
		}
		if got[1:] != c.want {
			t.Errorf("%s among %d: %s, want %s", c.r, c.seeds, got[1:], c.want)
		}
		if err := r.check(); err != nil {
			t.Error(err)
		}
	}
}

func TestRingRefuses(t *testing.T) {
	owner := Member{simName(0), 1}
	base := spanOf(testGenesis.Range).first
	for _, d := range []Delta{
		{Genesis: Genesis{Range: testGenesis.Range, Seeds: testGenesis.Seeds[:1]}},
		{Genesis: testGenesis, Entries: []Entry{{base + 1, base, 1, owner}}},
		{Genesis: testGenesis, Entries: []Entry{{base - 1, base, 1, owner}}},
		{Genesis: testGenesis, Entries: []Entry{{base, base + 64, 1, owner}}},
		{Genesis: testGenesis, Entries: []Entry{{base, base, 0, owner}}},
		{Genesis: testGenesis, Entries: []Entry{{base, base, maxVersion + 1, owner}}},
		{Genesis: testGenesis, Entries: []Entry{{base, base, 1, Member{}}}},
		{Genesis: testGenesis, Tombs: map[Member]Member{owner: {owner.Name, 2}}},
		{Genesis: testGenesis, Tombs: map[Member]Member{{}: owner}},
	} {
		r := NewRing(testGenesis)
		before := r.Snapshot()
		if _, err := r.Merge(d); err == nil || fmt.Sprint(before) != fmt.Sprint(r.Snapshot()) {
			t.Errorf("%+v was taken", d)
		}
	}
}

// largeRing has n peers with k entries each.
func largeRing(n, k int, version uint32) Delta {
	g := Genesis{Range: netip.MustParsePrefix("10.32.0.0/12"), Seeds: []peer.Name{simName(0)}}
	d := Delta{Genesis: g}
	step := uint32(1<<20) / uint32(n*k)
	for i := range n * k {
		at := spanOf(g.Range).first + uint32(i)*step
		d.Entries = append(d.Entries, Entry{at, at + step - 1, version, Member{simName(i % n), 1}})
	}
	return d
}

func BenchmarkMerge1000Peers10Ranges(b *testing.B) {
	first, second := largeRing(1000, 10, 1), largeRing(1000, 10, 2)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		r := NewRing(first.Genesis)
		if _, err := r.Merge(first); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := r.Merge(second); err != nil {
			b.Fatal(err)
		}
		if len(r.Segments()) != 10000 {
			b.Fatal("not all there")
		}
	}
}

// The bound, with room for a busy machine.
func TestMergeIsFast(t *testing.T) {
	first, second := largeRing(1000, 10, 1), largeRing(1000, 10, 2)
	best := time.Hour
	for range 5 {
		r := NewRing(first.Genesis)
		if _, err := r.Merge(first); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := r.Merge(second); err != nil {
			t.Fatal(err)
		}
		r.Segments()
		best = min(best, time.Since(start))
	}
	if best > 50*time.Millisecond {
		t.Errorf("merging 10,000 entries takes %v", best)
	}
	if size := len(marshal(second.wire(nil))); size > 240<<10 {
		t.Errorf("10,000 entries take %d bytes", size)
	}
}
