package guest

import (
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// What ESP costs beside VXLAN in clear, on one processor that both hosts share and that has no instructions for AES: figures
// to compare with each other, not with a machine's. All that was sent has come, whichever way.
func TestCost(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		what := map[bool]string{false: "VXLAN in clear", true: "VXLAN in ESP"}[sealed]
		t.Run(what, func(t *testing.T) {
			p := newPair(t, false)
			if sealed {
				a, b := handshake(t)
				p.a.shield(a)
				p.b.shield(b)
			}
			p.a.tunnel()
			p.b.tunnel()
			p.a.reaches(p.b)
			best := time.Hour
			for range 20 {
				if d, err := p.a.Ping(p.b.overlay, 56, time.Second); err == nil {
					best = min(best, d)
				}
			}
			if now := p.wire.now(); sealed != (now.clear == 0) {
				t.Fatalf("%s: %+v", what, now)
			}
			must(t, p.wire.stop()) // it costs more than what it watches
			got, err := lab.Transfer(p.a.NS, p.b.NS, p.b.overlay+":5001", 32<<20, time.Minute)
			must(t, err)
			t.Logf("%s: %.2f Gbit/s, best round trip %v", what, got.Gbps(), best)
		})
	}
}
