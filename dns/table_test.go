package dns

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// A table is a map.
func TestTableEqualsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, want := table[int]{seed: rapid.Uint64().Draw(t, "seed")}, map[string]int{}
		for i := range rapid.IntRange(0, 1000).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 300).Draw(t, "key"))
			if rapid.IntRange(0, 3).Draw(t, "do") == 0 {
				x.remove(key)
				delete(want, key)
			} else {
				x.set(key, i)
				want[key] = i
			}
			v, ok := x.get([]byte(key))
			if w, has := want[key]; v != w || ok != has || x.count != len(want) {
				t.Fatalf("%s is %d, %v; %d keys", key, v, ok, x.count)
			}
		}
		n := 0
		x.each(func(int) { n++ })
		for key, v := range want {
			if got, ok := x.get([]byte(key)); !ok || got != v {
				t.Fatalf("%s is %d, %v", key, got, ok)
			}
		}
		if n != len(want) {
			t.Fatalf("%d values of %d keys", n, len(want))
		}
	})
}

// Chains stay short, also of keys that differ in their last bytes only, as
// addresses of one subnet and numbered names do.
func TestTableSpreads(t *testing.T) {
	for what, key := range map[string]func(i int) string{
		"addresses": func(i int) string { return string([]byte{10, 32, byte(i >> 8), byte(i)}) },
		"names":     func(i int) string { return fmt.Sprintf("host-%d", i) },
		"domain":    func(i int) string { return fmt.Sprintf("host-%d.weave.local", i) },
	} {
		x := table[int]{seed: rand.Uint64()}
		for i := range 60_000 {
			x.set(key(i), i)
		}
		longest := 0
		b := x.now.Load()
		for i := range b.heads {
			n := 0
			for l := b.heads[i].Load(); l != nil; l = l.next {
				n++
			}
			longest = max(longest, n)
		}
		if longest > 15 || len(b.heads) < 60_000/chain {
			t.Errorf("%s: a chain of %d, %d buckets", what, longest, len(b.heads))
		}
	}
}

// Who reads while somebody writes finds each key that stays, with a value that
// it had.
func TestTableIsReadMeanwhile(t *testing.T) {
	var x table[int]
	x.set("stays", 0)
	var reading sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			last := 0
			for {
				v, ok := x.get([]byte("stays"))
				if !ok || v < last {
					t.Errorf("%d, %v after %d", v, ok, last)
					return
				}
				last = v
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 20_000 {
		x.set(fmt.Sprint(i), i)
		x.remove(fmt.Sprint(i / 2))
		x.set("stays", i)
	}
	close(done)
	reading.Wait()
}
