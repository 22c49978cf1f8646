package guest

import (
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
	return newDaemonsOn(t, v6, func(*lab.Host) error { return nil }, args...)
}

// newDaemonsOn does so on hosts that something was done to before.
func newDaemonsOn(t *testing.T, v6 bool, before func(*lab.Host) error, args ...string) *daemons {
	t.Helper()
	p := newPair(t, v6)
	must(t, before(p.lab.Hosts[0]), before(p.lab.Hosts[1]))
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
		connections(t, h, patience, "established encrypted   fastdp")
	}
}

// replies waits until a full-size ping from one container to the other is answered.
func (d *daemons) replies(t *testing.T) {
	t.Helper()
	must(t, lab.Eventually(patience, func() error {
		_, err := d.c1.Ping("10.2.1.2", 1300, time.Second)
		return err
	}))
}

// travelIn sends pings, and waits until as many packets of a kind as they and their answers are were on the wire.
func (d *daemons) travelIn(t *testing.T, kind string, count func(crossed) int) {
	t.Helper()
	const pings = 20
	before := count(d.wire.now())
	for range pings {
		_, err := d.c1.Ping("10.2.1.2", 1300, 2*time.Second)
		must(t, err)
	}
	eventually(t, func() error {
		if n := count(d.wire.now()) - before; n < 2*pings {
			return fmt.Errorf("%d packets in %s", n, kind)
		}
		return nil
	})
}

// Two hosts with a password have an encrypted kernel path: what containers say is in ESP and nothing of it in clear, at no
// time from launch to reset, after which nothing is left.
func TestDebianEncryptedFastdp(t *testing.T) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			d := newDaemons(t, v6)
			d.onFast(t)
			d.replies(t)
			d.travelIn(t, "ESP", func(c crossed) int { return c.esp })
			d.a.has(2, 2)
			d.wire.neverClear(t)
			for _, h := range d.h {
				connections(t, h, patience, "fastdp", "shield=ipsec")
			}
			for _, h := range d.h {
				weave(t, h, "reset")
			}
			for _, e := range []*end{d.a, d.b} {
				e.hasNothing(soon)
				if out := e.nft("list", "ruleset"); strings.Contains(out, "weave") {
					t.Errorf("host%d is left with: %s", e.Index, out)
				}
			}
			d.wire.neverClear(t)
		})
	}
}

// hasNothing waits until there is no state and no policy any more.
func (e *end) hasNothing(limit time.Duration) {
	e.t.Helper()
	must(e.t, lab.Eventually(limit, func() error {
		if states, policies := e.left(); states+policies > 0 {
			return fmt.Errorf("host%d has %d states and %d policies", e.Index, states, policies)
		}
		return nil
	}))
}

// undisturbed runs a test in which the path must not be left, again if it was: on a machine that is busy with other things
// an emulated one may not answer for three seconds, and the daemons rightly leave the path then. It ends with whether it
// was left.
func undisturbed(t *testing.T, test func(*testing.T) (left bool)) {
	const attempts = 3
	for i := range attempts {
		left := false
		if !t.Run(fmt.Sprint("attempt ", i+1), func(t *testing.T) { left = test(t) }) || !left {
			return
		}
	}
	t.Errorf("the kernel path was left in each of %d attempts", attempts)
}

// seldom is lab.Eventually with one look a second: what an emulated processor does for more of them, it does not do for
// the daemons.
func seldom(limit time.Duration, check func() error) error {
	var next time.Time
	var err error
	return lab.Eventually(limit, func() error {
		if now := time.Now(); now.After(next) {
			next, err = now.Add(time.Second), check()
		}
		return err
	})
}

// left tells whether a daemon has left the kernel path.
func (d *daemons) left() bool { return len(d.why()) > 0 }

// why is what the daemons say of that.
func (d *daemons) why() (lines []string) {
	for _, h := range d.h {
		for line := range strings.Lines(h.Log()) {
			if strings.Contains(line, "off the kernel path") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// The session's keys change after two minutes, and with them those of the kernel, under traffic: none is lost. Then the one
// end does without the path, and the other has nothing left of it.
func TestDebianFastdpRekeyed(t *testing.T) {
	undisturbed(t, func(t *testing.T) bool {
		d := newDaemons(t, false)
		d.onFast(t)
		s := newStream(t, d.c1.NS, d.c2.NS, "10.2.1.2:7", 5*time.Millisecond)
		s.passes(t)
		before := d.wire.now().spis
		must(t, seldom(4*time.Minute, func() error {
			fresh := 0
			for spi := range d.wire.now().spis {
				if _, old := before[spi]; !old {
					fresh++
				}
			}
			if fresh < 2 && !d.left() { // one of either end
				return fmt.Errorf("%d new SPIs", fresh)
			}
			return nil
		}))
		if d.left() {
			t.Log(d.why())
			d.wire.neverClear(t)
			return true
		}
		s.passes(t)
		s.lostNone(t, "a change of the session's keys")
		d.onFast(t)
		weave(t, d.h[1], "stop")
		weave(t, d.h[1], "launch", "--host", d.b.local.String(), "--password", "word", "--no-fastdp", d.a.local.String())
		connections(t, d.h[0], patience, "established encrypted   sleeve", "no fastdp: not offered by the other end")
		d.a.hasNothing(soon)
		d.b.hasNothing(soon)
		must(t, lab.Eventually(soon, func() error {
			_, err := d.c1.Ping("10.2.1.2", 1300, time.Second)
			return err
		}))
		d.wire.neverClear(t)
		return false
	})
}

// A daemon that is killed leaves an encrypted path that works, and the one that comes after takes it over: no packet is lost.
func TestDebianFastdpOutlivesDaemon(t *testing.T) {
	undisturbed(t, func(t *testing.T) bool {
		d := newDaemons(t, false, "--no-restart")
		d.onFast(t)
		s := newStream(t, d.c1.NS, d.c2.NS, "10.2.1.2:7", 5*time.Millisecond)
		s.passes(t)
		ends := []*end{d.a, d.b}
		for i, h := range d.h {
			before := d.wire.now().spis
			must(t, h.KillAll())
			s.passes(t)
			weave(t, h, "launch", "--no-restart", "--host", ends[i].local.String(), "--password", "word", ends[1-i].local.String())
			must(t, seldom(patience, func() error { // it has keys of its own
				if n := len(d.wire.now().spis) - len(before); n < 2 && !d.left() {
					return fmt.Errorf("%d new SPIs", n)
				}
				return nil
			}))
			d.onFast(t)
			if d.left() {
				t.Log(d.why())
				d.wire.neverClear(t)
				return true
			}
			s.passes(t)
		}
		s.lostNone(t, "the death of either daemon")
		d.wire.neverClear(t)
		return false
	})
}
