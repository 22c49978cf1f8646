package dns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"weave/peer"
)

var (
	alice = peer.Name{2, 0, 0, 0, 0, 1}
	bob   = peer.Name{2, 0, 0, 0, 0, 2}
	start = time.Unix(1_700_000_000, 0)
)

const local Domain = "weave.local"

func rec(name, ident, addr string) Record {
	return Record{Name: name, Ident: ident, Addr: netip.MustParseAddr(addr)}
}

func newCore(n peer.Name, run uint64) *Core {
	return New(Config{Name: n, Run: run, Domain: local, Rand: rand.NewPCG(run, uint64(n[5]))})
}

// history has an origin change names at random, and cuts what it would have
// told at each moment into deltas of all kinds.
func history(t *rapid.T, run uint64) []Delta {
	c := newCore(alice, run)
	var all []Delta
	steps := rapid.IntRange(1, 30).Draw(t, "steps")
	for i := range steps {
		r := rec(fmt.Sprintf("n%d.weave.local", rapid.IntRange(0, 3).Draw(t, "name")), "c", fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 2).Draw(t, "addr")))
		now := start.Add(time.Duration(i) * 10 * time.Minute) // so that dead ones are forgotten
		if rapid.Bool().Draw(t, "add") {
			c.Step(now, Add{Records: []Record{r}})
		} else {
			c.Step(now, Remove{Name: r.Name, Addr: r.Addr})
		}
		since := rapid.Uint64Range(c.own.floor, c.own.version).Draw(t, "since")
		all = append(all, c.chunk(c.own.told), c.chunk(since), c.chunk(0))
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func merge(t *rapid.T, run uint64, deltas []Delta) *Catalogue {
	c := NewCatalogue(local, 1)
	c.Admit(alice, run)
	for _, d := range deltas {
		if _, err := c.Merge(start, d); err != nil {
			t.Fatal(err)
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func same(t *rapid.T, what string, a, b *Catalogue) {
	if diff := cmp.Diff(a.Snapshot(), b.Snapshot(), cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
		t.Fatalf("%s: %s", what, diff)
	}
}

// Deltas are joins: any order, any grouping, any number of times.
func TestMergeIsAJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := history(t, 7)
		some := rapid.SliceOfDistinct(rapid.IntRange(0, len(all)-1), func(i int) int { return i }).Draw(t, "which")
		var picked []Delta
		for _, i := range some {
			picked = append(picked, all[i])
		}
		a := merge(t, 7, picked)
		b := merge(t, 7, rapid.Permutation(picked).Draw(t, "order"))
		same(t, "another order", a, b)
		for _, d := range picked {
			news, err := b.Merge(start, d)
			if news || err != nil {
				t.Fatalf("once more: news %v, err %v", news, err)
			}
		}
		same(t, "once more", a, b)
		cut := rapid.IntRange(0, len(picked)).Draw(t, "cut")
		left, right := merge(t, 7, picked[:cut]), merge(t, 7, picked[cut:])
		for _, d := range right.Snapshot() {
			if _, err := left.Merge(start, d); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "grouped otherwise", a, left)
	})
}

// Whoever knows all versions knows the truth, whatever came before or after.
func TestNothingResurrects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := history(t, 7)
		last := all[len(all)-1]
		c := merge(t, 7, append(rapid.Permutation(all).Draw(t, "order"), last))
		truth := merge(t, 7, []Delta{last})
		same(t, "after everything", truth, c)
		for _, d := range history(t, 8) {
			if news, err := c.Merge(start, d); news || err != ErrStale {
				t.Fatalf("another run's delta: news %v, err %v", news, err)
			}
		}
		c.Admit(alice, 9)
		for _, d := range all {
			if news, _ := c.Merge(start, d); news {
				t.Fatal("an earlier run's delta is news")
			}
		}
		if c.index.Len() != 0 || len(c.Snapshot()) != 0 {
			t.Fatal("names of an earlier run are there")
		}
	})
}

// The spans equal a set of numbers.
func TestSpansEqualASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		set := map[uint64]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			since := rapid.Uint64Range(0, 30).Draw(t, "since")
			version := rapid.Uint64Range(since, 30).Draw(t, "version")
			overlaps, news := false, false
			for v := since + 1; v <= version; v++ {
				overlaps, news = overlaps || set[v], news || !set[v]
				set[v] = true
			}
			if s.overlaps(since, version) != overlaps {
				t.Fatalf("%v overlaps (%d, %d]: not %v", s, since, version, overlaps)
			}
			after := s.after(since, version)
			if since == version {
				after = len(s)
			}
			if s.add(since, version) != news || len(s) != after {
				t.Fatalf("add (%d, %d]: %v", since, version, s)
			}
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
		}
		for v := uint64(1); v <= 31; v++ {
			if s.has(v) != set[v] {
				t.Fatalf("%v has %d: not %v", s, v, set[v])
			}
		}
	})
}

func TestMergeRefuses(t *testing.T) {
	good := Entry{Record: rec("a.weave.local", "c", "10.0.0.1"), Version: 1}
	for name, spoil := range map[string]func(*Delta){
		"a version twice":  func(d *Delta) { d.Entries = append(d.Entries, good) },
		"a version beyond": func(d *Delta) { d.Entries[0].Version = 3 },
		"a turned span":    func(d *Delta) { d.Since = 5 },
		"another domain":   func(d *Delta) { d.Entries[0].Name = "a.example.com" },
		"an empty label":   func(d *Delta) { d.Entries[0].Name = "a..weave.local" },
		"a strange letter": func(d *Delta) { d.Entries[0].Name = "a b.weave.local" },
		"no holder":        func(d *Delta) { d.Entries[0].Ident = "" },
		"no address":       func(d *Delta) { d.Entries[0].Addr = netip.Addr{} },
		"port 0":           func(d *Delta) { d.Entries[0].Services = []Service{{Proto: "tcp"}} },
	} {
		c := NewCatalogue(local, 1)
		c.Admit(alice, 1)
		d := Delta{Origin: alice, Run: 1, Version: 2, Head: 2, Entries: []Entry{good}}
		spoil(&d)
		if news, err := c.Merge(start, d); news || err == nil || c.index.Len() != 0 {
			t.Errorf("%s: news %v, err %v", name, news, err)
		}
	}
}
