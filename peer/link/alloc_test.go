package link

import (
	"testing"
)

// Neither direction allocates once warm.
func TestNoAllocations(t *testing.T) {
	for _, network := range networks {
		for _, off := range []Config{{}, {DisableGSO: true, DisableGRO: true}} {
			t.Run(network+variant(off), func(t *testing.T) {
				a, b := open(t, network, off), open(t, network, off)
				x, r := a.NewSender(64), b.NewReceiver(64)
				run, single := fill(20*1400, 1), fill(100, 2)
				to := b.LocalAddr()
				got := 0
				allocs := testing.AllocsPerRun(200, func() {
					for range 3 {
						x.Add(to, run, 1400)
						x.Add(to, single, 0)
					}
					want := x.Flush().Sent
					for n := 0; n < want; {
						k, err := r.await()
						if err != nil {
							t.Fatal(err)
						}
						for i := range k {
							_, data, segment := r.Message(i)
							n += (len(data) + segment - 1) / segment
						}
					}
					got += want
				})
				if allocs != 0 {
					t.Errorf("%v allocations per batch", allocs)
				}
				if got == 0 {
					t.Error("nothing was sent")
				}
			})
		}
	}
}

// The rate of one sender and one receiver taking turns on one goroutine.
func BenchmarkLoopback(b *testing.B) {
	for _, c := range []struct {
		name    string
		cfg     Config
		segment int
	}{
		{"runs", Config{}, 1400},
		{"plain", Config{DisableGSO: true, DisableGRO: true}, 1400},
		{"small", Config{}, 100},
		{"small-plain", Config{DisableGSO: true, DisableGRO: true}, 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, d := open(b, "udp4", c.cfg), open(b, "udp4", c.cfg)
			x, r := s.NewSender(64), d.NewReceiver(64)
			run := fill(40*c.segment, 1)
			b.SetBytes(int64(len(run)))
			b.ReportAllocs()
			for b.Loop() {
				x.Add(d.LocalAddr(), run, c.segment)
				if res := x.Flush(); res.Sent != 40 {
					b.Fatalf("flush: %+v", res)
				}
				for n := 0; n < len(run); {
					k, err := r.await()
					if err != nil {
						b.Fatal(err)
					}
					for i := range k {
						_, data, _ := r.Message(i)
						n += len(data)
					}
				}
			}
		})
	}
}
