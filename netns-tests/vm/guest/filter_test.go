package guest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// nft runs nft on a host and returns what it prints.
func (e *end) nft(args ...string) string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := e.Run(ctx, nil, "", "nft", args...)
	if r.RC != 0 || r.Err != nil {
		e.t.Fatal(r)
	}
	return r.Stdout
}

// Where IPsec's policies are gone or passed by, the packet filter still lets nothing in clear pass, neither out nor in. It needs
// nf_tables, which User Mode Linux has not.
func TestDebianFilterBehindPolicies(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		a, b := handshake(t)
		p.a.shield(a)
		p.b.shield(b)
		p.a.tunnel()
		p.b.tunnel()
		p.a.reaches(p.b)
		p.b.reaches(p.a)
		if n := p.a.filtered("input") + p.a.filtered("output"); n != 0 {
			t.Errorf("%d packets dropped of those that are as they must be", n)
		}
		flush := p.a.Run(context.Background(), nil, "", "ip", "xfrm", "policy", "flush")
		if flush.RC != 0 {
			t.Fatal(flush)
		}
		inside, err := p.a.Sniff("vx0", marker)
		must(t, err)
		p.a.silent(p.b)
		stranger := p.lab.Hosts[2]
		must(t, strangerAs(stranger, p.b))
		for range 5 {
			must(t, stranger.Do(func() error { return sendFrom(p.b, p.a) }))
		}
		eventually(t, func() error {
			if in, out := p.a.filtered("input"), p.a.filtered("output"); in < 5 || out < 3 {
				return fmt.Errorf("%d packets that came and %d that leave were dropped", in, out)
			}
			return nil
		})
		if n := inside.Stop().Marked; n > 0 {
			t.Errorf("%d packets in clear came in", n)
		}
		eventually(t, func() error { // the watch sees a packet at each of the ports of the underlay's bridge that it passes
			if n := p.wire.now().clear; n < 5 || n%5 != 0 {
				return fmt.Errorf("%d packets in clear on the wire, want the stranger's five alone", n)
			}
			return nil
		})
		p.a.shield(a) // and all is made anew
		p.a.has(2, 2)
		p.a.reaches(p.b)
		p.a.stop()
		p.a.unshield()
		if out := p.a.nft("list", "tables"); strings.Contains(out, "esp") {
			t.Errorf("left: %s", out)
		}
	})
}

// strangerAs has a host send from another's address, and not answer for it.
func strangerAs(stranger *lab.Host, e *end) error {
	bits := "/32"
	if e.local.Is6() {
		bits = "/128"
	}
	return errors.Join(stranger.Sysctl("net/ipv4/conf/all/arp_ignore", "1"), stranger.Sysctl("net/ipv4/conf/all/arp_announce", "2"),
		stranger.AddAddr("lo", e.local.String()+bits))
}

// filtered counts what the rules of a chain have dropped.
func (e *end) filtered(chain string) int {
	e.t.Helper()
	sum := 0
	for line := range strings.Lines(e.nft("list", "chain", "inet", "weave-esp", chain)) {
		var n int
		if _, after, found := strings.Cut(line, "counter packets "); found {
			_, err := fmt.Sscan(after, &n)
			must(e.t, err)
			sum += n
		}
	}
	return sum
}
