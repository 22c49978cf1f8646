package node

import (
	"context"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"weave/internal/api"
	"weave/internal/store"
	"weave/ipam"
	"weave/peer"
)

// newIPAMLoop runs an allocator alone, on a real state file.
func newIPAMLoop(tb testing.TB) *ipamLoop {
	tb.Helper()
	st, err := store.Open(filepath.Join(tb.TempDir(), "weave.db"))
	if err != nil {
		tb.Fatal(err)
	}
	cfg, err := ParseAddressFlags(AddressFlags{Range: DefaultRange})
	if err != nil {
		tb.Fatal(err)
	}
	mesh := &meshLoop{in: make(chan peer.Input, 256)}
	mesh.view.Store(&peer.View{Self: peer.PeerView{}})
	l := &ipamLoop{
		core: ipam.New(ipam.Config{Name: peer.Name{2, 1}, Range: cfg.Range, Rand: mathrand.NewPCG(1, 1)}),
		cfg:  cfg, store: st, mesh: mesh, log: slog.New(slog.DiscardHandler),
		in: make(chan ipamCall, ipamQueue), look: make(chan struct{}, 1), waiting: map[ipam.ReqID]chan<- ipam.Reply{},
	}
	l.glance()
	ctx, stop := context.WithCancel(tb.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.run(ctx); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		stop()
		running.Wait()
		st.Close()
	})
	if err := l.Prime(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return l
}

// What a reply says is on the disk, however many ask at once.
func TestAllocationsAreDurable(t *testing.T) {
	l := newIPAMLoop(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			id := fmt.Sprint("c", i)
			p, err := l.Allocate(t.Context(), id, netip.Prefix{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, there, err := l.store.Get(ipamPrefix + "holding/" + p.Addr().String()); err != nil || !there {
				t.Errorf("%s is not on the disk: %v", p, err)
			}
		})
	}
	wg.Wait()
	all, err := l.Owned(t.Context())
	if err != nil || len(all) != 20 {
		t.Errorf("%d holders, %v", len(all), err)
	}
}

// A caller that goes away leaves nothing behind.
func TestCallerGivesUp(t *testing.T) {
	l := newIPAMLoop(t)
	small := netip.MustParsePrefix("10.32.0.0/30")
	for i := range 2 {
		if _, err := l.Allocate(t.Context(), fmt.Sprint("c", i), small); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if p, err := l.Allocate(ctx, "late", small); err == nil {
		t.Errorf("a full subnet gave %s", p)
	}
	if v := l.view.Load(); len(v.Pending) != 0 {
		t.Errorf("it still waits: %+v", v.Pending)
	}
	if err := l.Free(t.Context(), "c0", netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if p, err := l.Allocate(t.Context(), "next", small); err != nil || p.String() != "10.32.0.1/30" {
		t.Errorf("%s, %v", p, err)
	}
}

// Holders without an id are stored under their address.
func TestAnonymousHolders(t *testing.T) {
	l := newIPAMLoop(t)
	a, err := l.Allocate(t.Context(), api.Anonymous, netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Allocate(t.Context(), api.Anonymous, netip.Prefix{})
	if err != nil || a == b {
		t.Errorf("%s and %s, %v", a, b, err)
	}
	if err := l.Claim(t.Context(), api.Anonymous, netip.MustParsePrefix("10.32.0.9/12"), false); err != nil {
		t.Error(err)
	}
	if err := l.Free(t.Context(), api.Anonymous, a.Addr()); err != nil {
		t.Error(err)
	}
	all, err := l.Owned(t.Context())
	if err != nil || len(all) != 2 || all[0].ContainerID != "10.32.0.2" {
		t.Errorf("%v, %v", all, err)
	}
}

func TestElectors(t *testing.T) {
	failed := func(addr string, retry time.Time) peer.ConnView {
		return peer.ConnView{Address: addr, State: peer.StateFailed, Retry: retry}
	}
	soon := time.Unix(1, 0)
	for _, c := range []struct {
		targets []string
		conns   []peer.ConnView
		want    int
	}{
		{nil, nil, 1},
		{[]string{"a", "b"}, nil, 3},
		{[]string{"a", "b"}, []peer.ConnView{failed("a:6783", time.Time{}), failed("b:6783", soon)}, 2},
		{[]string{"10.0.0.1:7000", "[fd00::1]", "fd00::2"}, []peer.ConnView{
			failed("10.0.0.1:7000", time.Time{}), failed("[fd00::1]:6783", time.Time{}), failed("[fd00::2]:6783", time.Time{}),
		}, 1},
		{[]string{"a"}, []peer.ConnView{failed("found:6783", time.Time{})}, 2},
	} {
		v := &peer.View{Self: peer.PeerView{Port: DefaultPort}, Targets: c.targets, Connections: c.conns}
		if got := electors(v); got != c.want {
			t.Errorf("%v, %v: %d, want %d", c.targets, c.conns, got, c.want)
		}
	}
}

// BenchmarkDurableAllocate counts allocations that are on the disk, of one
// caller and of many at once.
func BenchmarkDurableAllocate(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(callers, "-callers"), func(b *testing.B) {
			l := newIPAMLoop(b)
			var wg sync.WaitGroup
			todo := make(chan int)
			for range callers {
				wg.Go(func() {
					for i := range todo {
						if _, err := l.Allocate(b.Context(), fmt.Sprint("c", i), netip.Prefix{}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			n := 0
			for b.Loop() {
				n++
				todo <- n
			}
			close(todo)
			wg.Wait()
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "allocations/s")
		})
	}
}
