package dns

import (
	"fmt"
	"net/netip"
	goruntime "runtime"
	"testing"

	"weave/peer"
)

func peersOf(n peer.Name, run uint64) map[peer.Name]uint64 { return map[peer.Name]uint64{n: run} }

func filled(n int) *Core {
	c := newCore(alice, 1)
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		c.Step(start, Add{Records: []Record{{Name: fmt.Sprintf("host-%d.weave.local", i), Ident: fmt.Sprintf("%064x", i), Addr: a}}})
	}
	return c
}

// An addition and a removal at their origin, with the messages that tell of them,
// in catalogues of two sizes.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := filled(n)
			r := rec("changing.weave.local", "c", "10.255.0.1")
			b.ReportAllocs()
			for b.Loop() {
				c.Step(start, Add{Records: []Record{r}})
				c.Step(start, Remove{Name: r.Name, Ident: r.Ident, Addr: r.Addr})
			}
		})
	}
}

func BenchmarkResolve(b *testing.B) {
	x := filled(100_000).Index()
	name := []byte("host-4711.weave.local")
	b.ReportAllocs()
	for b.Loop() {
		x.Resolve(local, name, TypeA)
	}
}

// A hundred thousand names take less than a hundred megabytes.
func TestMemory(t *testing.T) {
	var before, after goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	c := filled(100_000)
	goruntime.GC()
	goruntime.ReadMemStats(&after)
	used := (after.HeapAlloc - before.HeapAlloc) >> 20
	t.Logf("100,000 names: %d MB", used)
	if used > 100 || c.Index().Len() != 100_000 {
		t.Errorf("%d names take %d MB", c.Index().Len(), used)
	}
}
