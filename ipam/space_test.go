package ipam

import (
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A bitmap is a set; next and count are what a loop over all addresses says.
func TestBitmapEqualsSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b bitmap
		set := map[uint32]bool{}
		base := rapid.SampledFrom([]uint32{0, 0x0a200000, 0xfffffe00, 0x0a20ff00}).Draw(t, "base")
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			first := base + rapid.Uint32Range(0, 0x1ff).Draw(t, "first")
			last := rapid.Uint32Range(first, base+0x1ff).Draw(t, "last")
			add := rapid.Bool().Draw(t, "add")
			for a := first; ; a++ {
				if add {
					b.add(a)
					set[a] = true
				} else {
					b.remove(a)
					delete(set, a)
				}
				if a == last {
					break
				}
			}
		}
		if b.n != len(set) {
			t.Fatalf("%d in the set, want %d", b.n, len(set))
		}
		first := base + rapid.Uint32Range(0, 0x1ff).Draw(t, "from")
		last := rapid.Uint32Range(first, base+0x1ff).Draw(t, "to")
		n := 0
		found := map[bool]uint32{}
		for a := last; ; a-- {
			if set[a] {
				n++
			}
			found[set[a]] = a
			if b.has(a) != set[a] {
				t.Fatalf("has(%x) is %t", a, b.has(a))
			}
			if a == first {
				break
			}
		}
		if got := b.count(span{first, last}); got != n {
			t.Fatalf("count is %d, want %d", got, n)
		}
		for _, in := range []bool{true, false} {
			got, ok := b.next(first, last, in)
			want, there := found[in]
			if ok != there || ok && got != want {
				t.Fatalf("next(%t) is %x %t, want %x %t", in, got, ok, want, there)
			}
		}
	})
}

// What is given away is free, on CIDR borders, useful, and at most half; what
// is allocated is the lowest.
func TestSpareAndLowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := spanOf(netip.MustParsePrefix("10.32.0.0/25"))
		s := space{ranges: r}
		var own []span
		at := r.first
		for at < r.last {
			first := at + rapid.Uint32Range(0, 40).Draw(t, "gap")
			last := first + rapid.Uint32Range(0, 60).Draw(t, "size")
			if last > r.last {
				break
			}
			own = append(own, span{first, last})
			at = last + 2
		}
		s.setOwn(own)
		for range rapid.IntRange(0, 60).Draw(t, "used") {
			s.add(r.first + rapid.Uint32Range(0, 127).Draw(t, "address"))
		}
		subnet := netip.PrefixFrom(toAddr(r.first+rapid.Uint32Range(0, 127).Draw(t, "in")), rapid.IntRange(24, 30).Draw(t, "bits")).Masked()
		var free []uint32
		for a := hosts(subnet).first; a <= hosts(subnet).last; a++ {
			if s.owns(a) && !s.held.has(a) {
				free = append(free, a)
			}
		}
		if low, found := s.lowest(subnet); found != (len(free) > 0) || found && low != free[0] {
			t.Fatalf("lowest is %s %t, free are %d", toAddr(low), found, len(free))
		}
		b, some := s.spare(subnet)
		if some != (len(free) > 0) {
			t.Fatalf("spare says %t with %d free", some, len(free))
		}
		if !some {
			return
		}
		useful := 0
		for a := b.first; a <= b.last; a++ {
			if !s.owns(a) || s.held.has(a) {
				t.Fatalf("%s is to be given away and is not free", toAddr(a))
			}
			if slices.Contains(free, a) {
				useful++
			}
		}
		n := b.size()
		if bits.OnesCount64(n) != 1 || uint64(b.first)%n != 0 || useful == 0 || n > 1 && n > uint64(len(free)/2) {
			t.Fatalf("%s + %d of %d free, %d of them useful", toAddr(b.first), n, len(free), useful)
		}
	})
}

// The table is a map from addresses to idents.
func TestTableEqualsMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHoldings()
		want := map[netip.Addr]Holding{}
		for range rapid.IntRange(0, 300).Draw(t, "changes") {
			a := toAddr(rapid.Uint32Range(0, 60).Draw(t, "address"))
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				h.remove(a, true)
				delete(want, a)
				continue
			}
			w := Holding{
				Ident: strings.Repeat("x", rapid.IntRange(0, 200).Draw(t, "length")) + rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "ident"),
				CIDR:  netip.PrefixFrom(a, rapid.IntRange(8, 30).Draw(t, "bits")), Container: rapid.Bool().Draw(t, "container"),
			}
			h.set(w, true)
			want[a] = w
		}
		if h.len() != len(want) || len(h.all()) != len(want) {
			t.Fatalf("%d and %d holdings, want %d", h.len(), len(h.all()), len(want))
		}
		for a, w := range want {
			if got, there := h.get(a, true); !there || got != w || !slices.Contains(h.of(w.Ident), w) {
				t.Fatalf("%s: %v, of its ident %v, want %v", a, got, h.of(w.Ident), w)
			}
		}
	})
}
