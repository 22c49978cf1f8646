package netnstests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// back is how soon after a daemon answers again traffic should flow. Beyond
// tooLate a test fails; in between it only says so, since the machine may be busy.
const (
	back    = 2 * time.Second
	tooLate = 10 * time.Second
)

func flowsAgain(t *testing.T, c *lab.Container, addr string) {
	t.Helper()
	took := pings(t, c, addr, tooLate)
	t.Logf("traffic is back %v after the daemon answers", took.Round(time.Millisecond))
	if took > back {
		t.Logf("that is later than the %v promised", back)
	}
}

// A daemon is killed and launched again; its containers notice nothing:
//
//	c1 ── host1 ═══ host2 ── c2
//	       †
func TestKilledAndLaunchedAgain(t *testing.T) {
	p := newPair(t, lab.Config{}, "--no-restart")
	h1 := p.Hosts[0]
	before, ps := ethwe(t, p.c1), run(t, h1, "ps")
	for range 3 {
		pid, err := h1.DaemonPID()
		must(t, err, kill(pid))
		eventually(t, soon, func() error {
			if left := h1.PIDs(); len(left) > 0 {
				return fmt.Errorf("processes %v still run", left)
			}
			return nil
		})
		if now := ethwe(t, p.c1); !equal(now, before) {
			t.Fatalf("ethwe without a daemon: %+v, before %+v", now, before)
		}
		launch(t, h1, "--no-restart")
		flowsAgain(t, p.c1, "10.2.1.2")
		if now := ethwe(t, p.c1); !equal(now, before) {
			t.Fatalf("ethwe after launch: %+v, before %+v", now, before)
		}
		if now := run(t, h1, "ps"); now != ps {
			t.Errorf("ps prints %q, before %q", now, ps)
		}
	}
	done, err := lab.Transfer(p.c1.NS, p.c2.NS, "10.2.1.2:5001", 32<<20, time.Minute)
	must(t, err)
	t.Logf("transfer: %.2f Gb/s", done.Gbps())
}

func equal(a, b link) bool {
	return a.Index == b.Index && a.MAC == b.MAC && a.MTU == b.MTU && a.Up == b.Up && slices.Equal(a.Addrs, b.Addrs)
}

// A daemon that dies is started again by itself, with its arguments:
//
//	c1 ── host1 ═══ host2 ── c2
//	                  †↺
func TestSupervisorStartsAgain(t *testing.T) {
	p := newPair(t, lab.Config{}, "--password", "kept")
	h2 := p.Hosts[1]
	first, me := ethwe(t, p.c2), name(t, h2)
	pid, err := h2.DaemonPID()
	must(t, err, kill(pid))
	eventually(t, settle, func() error {
		if now, err := h2.DaemonPID(); err != nil || now == pid {
			return fmt.Errorf("no new daemon (pid %d): %w", now, err)
		}
		if r := h2.Weave("status"); r.RC != 0 {
			return fmt.Errorf("it does not answer: %v", r)
		}
		return nil
	})
	flowsAgain(t, p.c2, "10.2.1.1")
	if again := name(t, h2); again != me {
		t.Errorf("its name is %s, was %s", again, me)
	}
	if now := ethwe(t, p.c2); !equal(now, first) {
		t.Errorf("ethwe: %+v, before %+v", now, first)
	}
	// stop means stop
	run(t, h2, "stop")
	if left := h2.PIDs(); len(left) > 0 {
		t.Errorf("processes %v run after stop", left)
	}
	if err := lab.Steadily(3*time.Second, func() error {
		if left := h2.PIDs(); len(left) > 0 {
			return fmt.Errorf("processes %v came back after stop", left)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// Stopping leaves the containers of a host connected among themselves:
//
//	c1, c3 ── host1 (stopped, launched) ═══ host2 ── c2
func TestStopLeavesInterfaces(t *testing.T) {
	p := newPair(t, lab.Config{})
	h1 := p.Hosts[0]
	c3 := container(t, h1, "10.2.1.3/24")
	pings(t, p.c1, "10.2.1.3", soon)
	before := ethwe(t, p.c1)
	run(t, h1, "stop")
	if now := ethwe(t, p.c1); !equal(now, before) {
		t.Errorf("ethwe: %+v, before %+v", now, before)
	}
	if _, err := c3.Ping("10.2.1.1", 56, time.Second); err != nil {
		t.Errorf("two containers of the stopped host: %v", err)
	}
	launch(t, h1)
	flowsAgain(t, p.c1, "10.2.1.2")
	flowsAgain(t, c3, "10.2.1.2")
}

// After a reset the host is as it was before the first launch:
//
//	c1, c3 ── host1 (reset) ═══ host2 ── c2
func TestResetRemovesEverything(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	h1, h2 := l.Hosts[0], l.Hosts[1]
	rules := func() string { return h1.Run(t.Context(), nil, "", "nft", "list", "ruleset").Stdout }
	links, filters := linkNames(t, h1.NS), rules()
	launch(t, h1)
	launch(t, h2, h1.IP)
	waitMesh(t, h1, h2)
	p := joinPair(t, l)
	c3 := container(t, h1, "10.2.1.3/24")
	me := name(t, h1)
	if out := run(t, h1, "reset"); out != "" {
		t.Errorf("reset printed %q", out)
	}
	if now := linkNames(t, h1.NS); !slices.Equal(now, links) {
		t.Errorf("links after reset:\n%s\nbefore launch:\n%s", strings.Join(now, "\n"), strings.Join(links, "\n"))
	}
	if now := rules(); now != filters {
		t.Errorf("nft rules after reset:\n%s\nbefore launch:\n%s", now, filters)
	}
	for _, c := range []*lab.Container{p.c1, c3} {
		if now := linkNames(t, c.NS); len(now) != 1 {
			t.Errorf("left in a container: %v", now)
		}
	}
	if left := h1.PIDs(); len(left) > 0 {
		t.Errorf("processes %v run after reset", left)
	}
	run(t, h1, "reset") // nothing to do is no error
	launch(t, h1, h2.IP)
	waitMesh(t, h1, h2)
	if again := name(t, h1); again == me {
		t.Errorf("the name %s survived the reset", me)
	}
	run(t, h1, "attach", "10.2.1.1/24", p.c1.Name)
	pings(t, p.c1, "10.2.1.2", soon)
}
