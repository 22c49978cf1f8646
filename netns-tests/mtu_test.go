package netnstests

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"

	"golang.org/x/sys/unix"
)

// hasMTU waits until the containers' interfaces have an MTU.
func hasMTU(t *testing.T, limit time.Duration, mtu int, containers ...*lab.Container) {
	t.Helper()
	for _, c := range containers {
		eventually(t, limit, func() error {
			if got := ethwe(t, c).MTU; got != mtu {
				return fmt.Errorf("%s has an MTU of %d, not %d", c.Name, got, mtu)
			}
			return nil
		})
	}
}

// passesWhole wants packets of a size to pass, both ways, with the don't-fragment bit.
func passesWhole(t *testing.T, p pair, mtu int) {
	t.Helper()
	for i, d := range p.both() {
		eventually(t, settle, func() error {
			_, err := d[0].Ping(fmt.Sprintf("10.2.1.%d", 2-i), mtu-28, 500*time.Millisecond)
			return err
		})
	}
}

// With --mtu auto all hosts take the largest MTU that all of their paths carry, and another one when that changes; the
// TCP connections of containers live through it. Both ways to carry frames do:
//
//	c1 ── host1 ══1500, then 1400, then 1500══ host2 ── c2
func TestMTUAuto(t *testing.T) {
	for _, args := range [][]string{{"--mtu", "auto"}, {"--mtu", "auto", "--no-fastdp"}} {
		t.Run(fmt.Sprint(args[1:]), func(t *testing.T) {
			l := mesh(t, lab.Config{Hosts: 2, Plain: true}, args...)
			p := joinPair(t, l)
			// IPv6, which may be the faster, 40, UDP 8, the data message 32, a frame's record 8, Ethernet 14
			hasMTU(t, comeBack, 1500-102, p.c1, p.c2)
			if len(args) == 2 {
				onFast(t, l.Hosts...)
			}
			passesWhole(t, p, 1500-102)
			tcp := hold(t, p.c1.NS, p.c2.NS, "10.2.1.2:7")
			tcp.asks(t, soon)
			must(t, l.Hosts[1].SetMTU(1400))
			hasMTU(t, settle, 1400-102, p.c1, p.c2)
			tcp.asks(t, settle)
			passesWhole(t, p, 1400-102)
			if len(args) == 2 {
				onFast(t, l.Hosts...)
			}
			late := container(t, l.Hosts[0], "10.2.1.3/24")
			hasMTU(t, soon, 1400-102, late)
			must(t, l.Hosts[1].SetMTU(1500))
			tcp.asks(t, settle)
		})
	}
}

// A jumbo underlay is made use of, and a host with a plain one that joins has all others follow:
//
//	c1 ── host1 ══9000══ host2 ── c2,   host3 ══1500══
func TestMTUAutoJumbo(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3, MTU: 9000, Plain: true})
	launch(t, l.Hosts[0], "--mtu", "auto")
	launch(t, l.Hosts[1], "--mtu", "auto", l.Hosts[0].IP)
	waitMesh(t, l.Hosts[:2]...)
	p := joinPair(t, l)
	hasMTU(t, comeBack, 9000-102, p.c1, p.c2)
	passesWhole(t, p, 9000-102)
	launch(t, l.Hosts[2], "--mtu", "1300", l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	hasMTU(t, settle, 1300, p.c1, p.c2)
	c3 := container(t, l.Hosts[2], "10.2.1.3/24")
	eventually(t, settle, func() error {
		_, err := p.c2.Ping("10.2.1.3", 1300-28, 500*time.Millisecond)
		return err
	})
	pings(t, c3, "10.2.1.1", soon)
	run(t, l.Hosts[2], "reset")
	hasMTU(t, comeBack, 9000-102, p.c1, p.c2) // and when it has gone they grow again
	passesWhole(t, p, 9000-102)
}

// Hosts with MTUs of their own: who sends more than the receiver takes is told so, IPv4 and IPv6, and sends less then. The
// kernel's path would let it vanish, and is not used towards the smaller:
//
//	c1 1376 ── host1 ═══ host2 ── 1280 c2
func TestMTUTold(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	launch(t, l.Hosts[0])
	launch(t, l.Hosts[1], "--mtu", "1280", l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	p := joinPair(t, l)
	shows(t, l.Hosts[0], settle, "sleeve", "(host2)", "no fastdp: its containers take packets of 1280 bytes only")
	for addr, headers := range map[string]int{"10.2.1.2": 28, "fd02::2": 48} {
		eventually(t, settle, func() error {
			_, err := p.c1.Ping(addr, 1376-headers, 500*time.Millisecond)
			if err == nil {
				return errors.New("a packet passed that is larger than its receiver's MTU")
			}
			if !errors.Is(err, unix.EMSGSIZE) { // only once the kernel of c1 was told
				return err
			}
			return nil
		})
		if _, err := p.c1.Ping(addr, 1280-headers, time.Second); err != nil {
			t.Errorf("to %s: %v", addr, err)
		}
	}
	raw := func(df string) (string, error) { // a datagram of 1376 bytes, whatever its kernel has heard
		r := p.c1.Run(t.Context(), nil, "", "ping", "-c", "1", "-W", "1", "-M", df, "-s", "1348", "10.2.1.2")
		return r.Stdout, r.Err
	}
	if _, err := raw("dont"); err == nil {
		eventually(t, settle, func() error {
			if out, _ := raw("dont"); !strings.Contains(out, " 0% packet loss") {
				return fmt.Errorf("a packet that may be cut does not pass:\n%s", out)
			}
			return nil
		})
	}
	s, err := p.c2.EchoTCP("10.2.1.2:7")
	must(t, err)
	defer s.Close()
	must(t, p.c1.AskTCP("10.2.1.2:7", bytes.Repeat([]byte("0123456789abcdef"), 1<<14), soon))
}

// Somebody gives both containers' interfaces an MTU that nothing between them has. TCP does not stall, IPv4 and IPv6, on the kernel's
// path, through user space, and there also when the path falls below what containers are told:
//
//	c1 (1500) ── host1 ══1500, then 1300══ host2 ── (1500) c2
func TestMTURaisedInside(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2, Plain: true})
	onFast(t, l.Hosts...)
	p := joinPair(t, l)
	for i, c := range []*lab.Container{p.c1, p.c2} {
		must(t, c.SetLinkMTU("ethwe", 1500))
		for _, addr := range []string{fmt.Sprintf("10.2.1.%d:7", i+1), fmt.Sprintf("[fd02::%d]:7", i+1)} {
			s, err := c.EchoTCP(addr)
			must(t, err)
			t.Cleanup(func() { _ = s.Close() })
		}
	}
	streams := func(where string) {
		t.Helper()
		bulk := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
		for i, d := range p.both() {
			for _, addr := range []string{fmt.Sprintf("10.2.1.%d:7", 2-i), fmt.Sprintf("[fd02::%d]:7", 2-i)} {
				for _, size := range []int{1400, len(bulk)} { // the first is a packet by itself if it is not cut, which the kernel drops
					if err := d[0].AskTCP(addr, bulk[:size], soon); err != nil {
						t.Errorf("%s: %d bytes to %s: %v", where, size, addr, err)
					}
				}
			}
		}
	}
	streams("in the kernel")
	onFast(t, l.Hosts...)
	for _, h := range l.Hosts {
		must(t, h.SetMTU(1300))
	}
	onSleeve(t, settle, l.Hosts...)
	streams("through user space")
	run(t, l.Hosts[0], "reset")
	if r := p.c1.Run(t.Context(), nil, "", "nft", "list", "tables"); r.RC != 0 || r.Stdout != "" {
		t.Errorf("rules outlive the attachment: %v", r)
	}
}
