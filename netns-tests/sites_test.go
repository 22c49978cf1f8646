package netnstests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// Three clouds with the same private addresses, each with a host that nobody outside can see and one that has a way out: the
// first by a public address, the others by NATs. Everybody reaches everybody, by address and by name; what is between reads
// nothing.
//
//	c2 ── 10.99.0.2 ═ 10.99.0.1 ── c1     site 1: public
//	                     ║
//	site 2 ═ NAT ════════╬════════ NAT ═ site 3: the same, behind NATs
func TestSites(t *testing.T) {
	const sites = 3
	var labs []*lab.Lab
	for range sites {
		labs = append(labs, newLab(t, lab.Config{Hosts: 2}))
	}
	wan, err := lab.NewWAN(labs[0])
	must(t, err)
	t.Cleanup(func() { must(t, wan.Close()) })
	must(t, wan.Connect(labs[0].Hosts[0], 1))
	for i := 1; i < sites; i++ {
		must(t, wan.ConnectNAT(labs[i].Hosts[0], i+1))
	}
	var conts []*lab.Container
	for i, l := range labs {
		gate, inner := l.Hosts[0], l.Hosts[1]
		to := []string{lab.WANAddress(1)}
		if i == 0 {
			to = nil
		}
		nick := func(which string) []string {
			return []string{"--password", "clouds", "--nickname", fmt.Sprintf("site%d-%s", i+1, which)}
		}
		launch(t, gate, append(nick("gate"), to...)...)
		launch(t, inner, append(nick("inner"), gate.IP)...)
		for j, h := range l.Hosts {
			c, err := h.NewContainer()
			must(t, err)
			run(t, h, "attach", fmt.Sprintf("10.2.1.%d/24", 10*(i+1)+j), "--name", fmt.Sprintf("c%d%d", i+1, j), c.Name)
			conts = append(conts, c)
		}
	}
	sniff, err := wan.Sniff("", "between clouds, a secret")
	must(t, err)
	for n, c := range conts {
		for i := range sites {
			for j := range 2 {
				if to := fmt.Sprintf("10.2.1.%d", 10*(i+1)+j); n != 2*i+j {
					pings(t, c, to, settle)
				}
			}
		}
		resolves(t, c, "c30.weave.local.", "10.2.1.30")
	}
	echo, err := conts[5].EchoTCP("10.2.1.31:7")
	must(t, err)
	defer echo.Close()
	must(t, conts[3].AskTCP("10.2.1.31:7", []byte(strings.Repeat("between clouds, a secret ", 50)), soon))
	tcp := hold(t, conts[1].NS, conts[3].NS, "10.2.1.21:8")
	done, err := lab.Transfer(conts[3].NS, conts[5].NS, "10.2.1.31:5001", 16<<20, time.Minute)
	must(t, err)
	t.Logf("from an inner host of one cloud to one of another: %.2f Gb/s", done.Gbps())
	if seen := sniff.Stop(); seen.Marked > 0 || seen.Frames < 100 {
		t.Errorf("%d frames between the clouds, %d with the secret", seen.Frames, seen.Marked)
	}
	tcp.asks(t, soon)
	// The one that all the others dialled goes away for a while; its cloud comes back by itself.
	run(t, labs[0].Hosts[0], "stop")
	launch(t, labs[0].Hosts[0], "--password", "clouds", "--nickname", "site1-gate")
	tcp.asks(t, 2*settle)
	pings(t, conts[0], "10.2.1.31", settle)
}
