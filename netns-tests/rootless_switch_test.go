package netnstests

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
)

// Containers of one user, and of another on another host, are on one Ethernet: broadcast and multicast reach those of the
// subnet and the group, on both hosts, and a container in a container is one more.
//
//	a 10.2.1.1, b 10.2.1.2, n 10.2.1.4 in a        c 10.2.1.3, other 10.2.9.3
//	 └──────────── host1, one ════════════ host2, two ──────────┘
func TestRootlessSwitch(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one := user(t, l.Hosts[0])
	two := user(t, l.Hosts[1], one.Address())
	a, _ := box(t, one, "10.2.1.1/24")
	b, _ := box(t, one, "10.2.1.2/24")
	c, _ := box(t, two, "10.2.1.3/24")
	other, _ := box(t, two, "10.2.9.3/24")
	nested, err := a.Nest()
	must(t, err)
	userRun(t, one.Weave("attach", "10.2.1.4/24", strconv.Itoa(nested.PID)))
	for _, to := range []string{"10.2.1.2", "10.2.1.3", "10.2.1.4"} {
		boxPings(t, a, to)
	}
	boxPings(t, nested, "10.2.1.3")
	if _, err := a.Ping("10.2.9.3", 56, time.Second); err == nil {
		t.Error("a container of another subnet is reached")
	}
	members := []*lab.Box{b, c, nested}
	hear := func(what string, open func(*lab.Box) (*lab.Inbox, error), to string) {
		var boxes []*lab.Inbox
		for _, m := range members {
			in, err := open(m)
			must(t, err)
			defer in.Close()
			boxes = append(boxes, in)
		}
		must(t, a.Send("ethwe", to, what))
		for i, in := range boxes {
			if _, err := in.Expect(what, soon); err != nil {
				t.Errorf("%s, %d: %v", what, i, err)
			}
		}
	}
	hear("to a group", func(b *lab.Box) (*lab.Inbox, error) { return b.Join("ethwe", "239.7.7.7:7000") }, "239.7.7.7:7000")
	hear("to all", func(b *lab.Box) (*lab.Inbox, error) { return b.Listen(":7001") }, "10.2.1.255:7001")
	in, err := other.Listen(":7002")
	must(t, err)
	defer in.Close()
	must(t, a.Send("ethwe", "10.2.1.255:7002", "not for all"))
	if _, err := in.Expect("not for all", time.Second); err == nil {
		t.Error("a broadcast reached a program in another subnet")
	}
}

// Connections between containers, of one host and of two, live on over a relaunch of the daemon.
func TestRootlessRelaunchKeepsConnections(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one := user(t, l.Hosts[0])
	two := user(t, l.Hosts[1], one.Address())
	a, addrA := box(t, one)
	b, addrB := box(t, one)
	c, addrC := box(t, two)
	boxPings(t, a, addrB)
	boxPings(t, a, addrC)
	near, far := hold(t, a.NS, b.NS, addrB+":7"), hold(t, c.NS, a.NS, addrA+":8")
	before := userRun(t, one.Weave("ps"))
	userRun(t, one.Weave("stop"))
	userRun(t, one.Launch())
	near.asks(t, settle)
	far.asks(t, settle)
	for _, pid := range one.Daemons() {
		must(t, kill(pid))
	}
	eventually(t, settle, func() error {
		if r := one.Launch(); r.RC != 0 && r.RC != 3 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	near.asks(t, settle)
	far.asks(t, settle)
	if after := userRun(t, one.Weave("ps")); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
}

// pester sends frames from a namespace's ethwe, as fast as it can, until stopped.
func pester(t *testing.T, n *lab.NS, next func(i uint32) []byte) (stop func() int) {
	t.Helper()
	tap, err := n.OpenTap("ethwe")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	sent := 0
	wg.Go(func() {
		for i := uint32(0); ctx.Err() == nil; i++ {
			switch err := tap.Send(next(i)); {
			case err == nil:
				sent++
			case !errors.Is(err, unix.ENOBUFS):
				t.Error(err)
				return
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		tap.Close()
		return sent
	}
}

// A container that sends frames from ever new addresses, or asks everybody, or both, as fast as it can, has its share of
// the table and of floods; the others go on, on this host and on others, and new ones come.
func TestRootlessFloods(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one := user(t, l.Hosts[0], "--status-addr", "127.0.0.1:6782")
	two := user(t, l.Hosts[1], one.Address())
	a, _ := box(t, one, "10.2.1.1/24")
	_, _ = box(t, one, "10.2.1.2/24")
	c, _ := box(t, two, "10.2.1.3/24")
	bad, _ := box(t, one, "10.2.1.9/24")
	boxPings(t, a, "10.2.1.2")
	boxPings(t, c, "10.2.1.1")
	const storms = `weave_dropped_total{reason="switch_storm"}`
	made := func(i uint32) net.HardwareAddr {
		return binary.BigEndian.AppendUint32(net.HardwareAddr{2, 7}, i)
	}
	attached := 3
	for name, frame := range map[string]func(uint32) []byte{
		"addresses": func(i uint32) []byte { return lab.Frame(made(i+1), made(i), 0x88b5, make([]byte, 46)) },
		"requests":  func(i uint32) []byte { return lab.GratuitousARP(made(0), net.IPv4(10, 3, byte(i>>8), byte(i))) },
		"groups": func(i uint32) []byte {
			return lab.Frame(net.HardwareAddr{1, 0, 0x5e, byte(i>>16) & 0x7f, byte(i >> 8), byte(i)}, made(0), 0x88b5, make([]byte, 46))
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := metric(t, l.Hosts[0], storms)
			stop := pester(t, bad.NS, frame)
			for range 20 {
				boxPings(t, a, "10.2.1.2")
				boxPings(t, c, "10.2.1.1")
			}
			attached++
			late, addr := box(t, one, fmt.Sprintf("10.2.1.%d/24", attached))
			boxPings(t, late, "10.2.1.3")
			boxPings(t, c, addr)
			eventually(t, soon, func() error {
				if n, _ := metric(t, l.Hosts[0], storms); n <= before {
					return fmt.Errorf("nothing of it was refused: %d, before %d", n, before)
				}
				return nil
			})
			sent := stop()
			if n, text := metric(t, l.Hosts[0], "weave_macs"); n > 1000 {
				t.Errorf("the container took all there was: %s", strings.TrimSpace(text))
			}
			t.Logf("%d frames sent", sent)
		})
	}
}

// Three users of one machine, two of them in one network: that of the third is another.
func TestUsersOfOneMachine(t *testing.T) {
	if lab.Ordinary() {
		t.Skip("it takes root to be three users")
	}
	l := newLab(t, lab.Config{Hosts: 1})
	h := l.Hosts[0]
	one := user(t, h, "--password", "ours")
	two := user(t, h, "--password", "ours", one.Address())
	three := user(t, h, "--password", "mine", one.Address())
	a, _ := box(t, one, "10.2.1.1/24")
	b, _ := box(t, two, "10.2.1.2/24")
	c, _ := box(t, three, "10.2.1.3/24")
	same, _ := box(t, three, "10.2.1.2/24") // addresses of one network are not another's
	boxPings(t, a, "10.2.1.2")
	boxPings(t, b, "10.2.1.1")
	boxPings(t, c, "10.2.1.2")
	boxPings(t, same, "10.2.1.3")
	for _, x := range []struct {
		from *lab.Box
		to   string
	}{{a, "10.2.1.3"}, {c, "10.2.1.1"}} {
		if _, err := x.from.Ping(x.to, 56, time.Second); err == nil {
			t.Errorf("%s of another network is reached", x.to)
		}
	}
	userRun(t, two.Weave("stop"))
	boxPings(t, c, "10.2.1.2")
	if _, err := a.Ping("10.2.1.2", 56, time.Second); err == nil {
		t.Error("a container is reached whose daemon is gone")
	}
}
