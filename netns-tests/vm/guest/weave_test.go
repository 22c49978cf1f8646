package guest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

const patience = 90 * time.Second // an emulated processor is slow

// weave runs a command that must succeed.
func weave(t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	r := h.Weave(args...)
	if r.RC != 0 || r.Err != nil {
		t.Fatalf("on host%d: %v", h.Index, r)
	}
	return r.Stdout
}

// connections waits until a line of status connections has these words.
func connections(t *testing.T, h *lab.Host, limit time.Duration, words ...string) {
	t.Helper()
	must(t, lab.Eventually(limit, func() error {
		out := h.Weave("status", "connections").Stdout
		for line := range strings.Lines(out) {
			has := true
			for _, w := range words {
				has = has && strings.Contains(line, w)
			}
			if has {
				return nil
			}
		}
		return fmt.Errorf("host%d has no connection with %q: %s", h.Index, words, out)
	}))
}

// daemons are two hosts with a container each, and a watch on the wire between them.
type daemons struct {
	*pair
	h      []*lab.Host
	c1, c2 *lab.Container
}

// newDaemons launches weave with a password over one family of addresses.
func newDaemons(t *testing.T, v6 bool, args ...string) *daemons {
	t.Helper()
	p := newPair(t, v6)
	d := &daemons{pair: p, h: p.lab.Hosts[:2]}
	t.Cleanup(func() {
		for _, h := range d.h {
			if bad := h.Complaints(); len(bad) > 0 {
				t.Errorf("host%d's log: %s", h.Index, strings.Join(bad, "\n"))
			}
			if t.Failed() {
				log := h.Log()
				t.Logf("end of host%d's log:\n%s", h.Index, log[max(0, len(log)-8000):])
			}
		}
	})
	for i, e := range []*end{p.a, p.b} {
		all := append([]string{"launch", "--host", e.local.String(), "--password", "word"}, args...)
		if i == 1 {
			all = append(all, p.a.local.String())
		}
		weave(t, d.h[i], all...)
	}
	for i, c := range []**lab.Container{&d.c1, &d.c2} {
		var err error
		*c, err = d.h[i].NewContainer()
		must(t, err)
		weave(t, d.h[i], "attach", fmt.Sprintf("10.2.1.%d/24", i+1), (*c).Name)
	}
	return d
}

// onFast waits until both are on the kernel path, encrypted.
func (d *daemons) onFast(t *testing.T) {
	t.Helper()
	for _, h := range d.h {
		connections(t, h, patience, "established", "encrypted", "fastdp")
	}
}

// Two hosts with a password have an encrypted kernel path: what containers say is in ESP and nothing of it in clear, at no
// time from launch to reset; one daemon after the other dies and comes back without a lost packet; and after a reset
// nothing is left.
func TestDebianEncryptedFastdp(t *testing.T) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			d := newDaemons(t, v6)
			d.onFast(t)
			must(t, lab.Eventually(patience, func() error {
				_, err := d.c1.Ping("10.2.1.2", 1300, time.Second)
				return err
			}))
			before := d.wire.now()
			for range 20 {
				_, err := d.c1.Ping("10.2.1.2", 1300, 2*time.Second)
				must(t, err)
			}
			eventually(t, func() error {
				if n := d.wire.now().esp - before.esp; n < 40 {
					return fmt.Errorf("%d packets in ESP", n)
				}
				return nil
			})
			d.a.has(2, 2)
			d.wire.neverClear(t)
			for _, h := range d.h {
				weave(t, h, "reset")
			}
			must(t, lab.Eventually(soon, func() error {
				for _, e := range []*end{d.a, d.b} {
					if states, policies := e.left(); states+policies > 0 {
						return fmt.Errorf("host%d has %d states and %d policies", e.Index, states, policies)
					}
					if out := e.nft("list", "ruleset"); strings.Contains(out, "weave") {
						return errors.New("left: " + out)
					}
				}
				return nil
			}))
			d.wire.neverClear(t)
		})
	}
}
