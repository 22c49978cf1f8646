package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	goruntime "runtime"
	"testing"
	"time"
)

func benchCore(r string) *Core {
	c := New(Config{Name: simName(0), Range: netip.MustParsePrefix(r), Rand: rand.NewPCG(1, 1)})
	c.Step(time.Unix(1e9, 0), Reachable{Electors: 1})
	c.Step(time.Unix(1e9, 0), Prime{ID: 1})
	return c
}

// BenchmarkAllocate gives out one address after the other, from none to a
// million, each to another container.
func BenchmarkAllocate(b *testing.B) {
	r := netip.MustParsePrefix("10.32.0.0/12")
	now := time.Unix(1e9, 0)
	c := benchCore(r.String())
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if n++; n == 1<<20-2 {
			b.StopTimer()
			c, n = benchCore(r.String()), 1
			b.StartTimer()
		}
		fx := c.Step(now, Allocate{ID: ReqID(n), Ident: fmt.Sprintf("c%09d", n), Subnet: r})
		if len(fx.Replies) != 1 || fx.Replies[0].Fault != "" {
			b.Fatalf("%+v", fx.Replies)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "allocations/s")
}

// heldMemory is what a core takes whose million addresses are all in use, each
// by another container.
func heldMemory(n int) uint64 {
	var before, after goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	c := benchCore("10.32.0.0/12")
	for i := range n { // as Allocate does, without what it saves and says
		a, _ := c.space.lowest(c.cfg.Range)
		c.hold(Holding{Ident: fmt.Sprintf("c%09d", i), CIDR: netip.PrefixFrom(toAddr(a), 12)})
		c.out.Effects = Effects{}
	}
	goruntime.GC()
	goruntime.ReadMemStats(&after)
	goruntime.KeepAlive(c)
	return after.HeapAlloc - before.HeapAlloc
}

// The bound: a million addresses in 50 MB.
func TestMillionAddressesFit(t *testing.T) {
	const n = 1000000
	got := heldMemory(n)
	t.Logf("%d addresses in use take %.1f MB", n, float64(got)/1e6)
	if got > 50e6 {
		t.Errorf("%d addresses take %.1f MB", n, float64(got)/1e6)
	}
}
