package netnstests

import (
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// TestSmoke is the shortest way through everything; it is also what runs as an
// ordinary user when the rest has run as root.
//
//	c1 10.2.1.1            c2 10.2.1.2
//	 |                      |
//	host1 ═══════════════ host2     (═ weave, over the underlay)
func TestSmoke(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2}, "--password", "smoke")
	c1 := container(t, l.Hosts[0], "10.2.1.1/24")
	c2 := container(t, l.Hosts[1], "10.2.1.2/24")
	pings(t, c1, "10.2.1.2", soon)
	done, err := lab.Transfer(c1.NS, c2.NS, "10.2.1.2:5001", 32<<20, time.Minute)
	must(t, err)
	t.Logf("transfer: %.2f Gb/s", done.Gbps())
	for _, h := range l.Hosts {
		run(t, h, "stop")
	}
}
