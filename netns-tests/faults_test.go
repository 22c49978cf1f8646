package netnstests

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// Every twentieth packet is lost, both ways; what TCP carries arrives whole:
//
//	c1 ── host1 ══5%══ host2 ── c2
func TestLoss(t *testing.T) {
	p := newPair(t, lab.Config{Plain: true}, "--no-fastdp")
	for _, h := range p.Hosts {
		must(t, h.Loss(5))
	}
	done, err := lab.Transfer(p.c1.NS, p.c2.NS, "10.2.1.2:5001", 4<<20, 2*time.Minute)
	must(t, err)
	t.Logf("transfer at 5 %% loss: %.1f Mb/s", done.Gbps()*1000)
}

// Every fifth packet is lost, both ways: slow, and no reason to give a path up:
//
//	c1 ── host1 ══20%══ host2 ── c2
func TestHeavyLoss(t *testing.T) {
	p := newPair(t, lab.Config{Plain: true}, "--no-fastdp")
	for _, h := range p.Hosts {
		must(t, h.Loss(20))
	}
	tcp := hold(t, p.c1, p.c2, "10.2.1.2:7")
	for range 10 {
		tcp.asks(t, time.Minute)
	}
	shows(t, p.Hosts[0], settle, "(host2)", "direct", "loss=")
}

// Two hosts on different continents, 200 ms there and back:
//
//	c1 ── host1 ══100 ms══ host2 ── c2
func TestLatency(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	must(t, l.Hosts[1].Delay(100*time.Millisecond))
	launch(t, l.Hosts[0], "--no-fastdp")
	launch(t, l.Hosts[1], l.Hosts[0].IP, "--no-fastdp")
	waitMesh(t, l.Hosts...)
	p := pair{l, container(t, l.Hosts[0], "10.2.1.1/24"), container(t, l.Hosts[1], "10.2.1.2/24")}
	eventually(t, settle, func() error {
		took, err := p.c1.Ping("10.2.1.2", 56, time.Second)
		if err == nil && took < 200*time.Millisecond {
			return fmt.Errorf("a ping took only %v", took)
		}
		return err
	})
	shows(t, l.Hosts[0], settle, "(host2)", "direct", "rtt=2")
	tcp := hold(t, p.c1, p.c2, "10.2.1.2:7")
	for range 5 {
		tcp.asks(t, settle)
	}
	done, err := lab.Transfer(p.c1.NS, p.c2.NS, "10.2.1.2:5001", 4<<20, time.Minute)
	must(t, err)
	t.Logf("transfer at 200 ms: %.3f Gb/s", done.Gbps())
}

// The underlay carries 1,400 bytes, weave's own overhead included; containers
// have 1,376 all the same:
//
//	c1 ── host1 ══1400══ host2 ── c2
func TestSmallUnderlay(t *testing.T) {
	for _, c := range []struct {
		what string
		set  func(*lab.Lab) error
	}{
		{"both links", func(l *lab.Lab) error {
			if err := l.Hosts[0].SetMTU(1400); err != nil {
				return err
			}
			return l.Hosts[1].SetMTU(1400)
		}},
		{"one link", func(l *lab.Lab) error { return l.Hosts[1].SetMTU(1400) }},
		{"black hole", func(l *lab.Lab) error { return l.Hosts[1].BlackHole(1400) }},
	} {
		t.Run(c.what+" before", func(t *testing.T) {
			l := newLab(t, lab.Config{Hosts: 2, Plain: true})
			must(t, c.set(l))
			launch(t, l.Hosts[0], "--no-fastdp")
			launch(t, l.Hosts[1], l.Hosts[0].IP, "--no-fastdp")
			waitMesh(t, l.Hosts...)
			fullSize(t, joinPair(t, l))
		})
		t.Run(c.what+" later", func(t *testing.T) {
			p := newPair(t, lab.Config{Plain: true}, "--no-fastdp")
			fullSize(t, p)
			must(t, c.set(p.Lab))
			fullSize(t, p)
		})
	}
}

// fullSize wants packets as long as ethwe's MTU to pass, and TCP to flow.
func fullSize(t *testing.T, p pair) {
	t.Helper()
	for i, d := range p.both() {
		eventually(t, settle, func() error {
			_, err := d[0].Ping(fmt.Sprintf("10.2.1.%d", 2-i), overlayMTU-28, 500*time.Millisecond)
			return err
		})
	}
	u, err := p.c2.EchoUDP("10.2.1.2:8")
	must(t, err)
	defer u.Close()
	must(t, p.c1.AskUDP("10.2.1.2:8", bytes.Repeat([]byte{'u'}, overlayMTU-28), soon))
	for i, d := range p.both() {
		done, err := lab.Transfer(d[0].NS, d[1].NS, fmt.Sprintf("10.2.1.%d:5001", 2-i), 16<<20, time.Minute)
		must(t, err)
		t.Logf("transfer: %.2f Gb/s", done.Gbps())
	}
}

// The network falls in two and comes together again:
//
//	c1 ── host1 ═══ host2 ── c2   |   host3 ── c3
func TestPartitionAndHeal(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 3})
	h := l.Hosts
	var c []*lab.Container
	for i, x := range h {
		c = append(c, container(t, x, fmt.Sprintf("10.2.1.%d/24", i+1)))
	}
	pings(t, c[0], "10.2.1.2", soon)
	pings(t, c[0], "10.2.1.3", soon)
	must(t, l.Partition(h[:2], h[2:]))
	eventually(t, soon, func() error {
		if _, err := c[0].Ping("10.2.1.3", 56, 200*time.Millisecond); err == nil {
			return fmt.Errorf("host3 can still be reached")
		}
		return nil
	})
	pings(t, c[0], "10.2.1.2", soon)
	must(t, l.Partition())
	t.Logf("host3 is back after %v", pings(t, c[0], "10.2.1.3", settle).Round(time.Millisecond))
	pings(t, c[1], "10.2.1.3", settle)
	waitMesh(t, h...)
}

// A host that was unplugged and comes back:
//
//	c1 ── host1 ═══ ✂ host2 ── c2
func TestCableOutAndIn(t *testing.T) {
	p := newPair(t, lab.Config{})
	must(t, p.Hosts[1].Cut(true))
	if _, err := p.c1.Ping("10.2.1.2", 56, 500*time.Millisecond); err == nil {
		t.Error("an unplugged host answers")
	}
	must(t, p.Hosts[1].Cut(false))
	t.Logf("back after %v", pings(t, p.c1, "10.2.1.2", settle).Round(time.Millisecond))
}

// Hosts and containers without IPv6:
//
//	c1 ── host1 ═══ host2 ── c2     net.ipv6.conf.*.disable_ipv6 = 1
func TestWithoutIPv6(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	for _, h := range l.Hosts {
		must(t, h.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"), h.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	}
	launch(t, l.Hosts[0])
	launch(t, l.Hosts[1], l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	var c []*lab.Container
	for i, h := range l.Hosts {
		x, err := h.NewContainer()
		must(t, err, x.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"), x.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"))
		run(t, h, "attach", fmt.Sprintf("10.2.1.%d/24", i+1), x.Name)
		c = append(c, x)
	}
	pings(t, c[0], "10.2.1.2", soon)
	_, err := lab.Transfer(c[0].NS, c[1].NS, "10.2.1.2:5001", 8<<20, time.Minute)
	must(t, err)
}

// Peers that know each other by IPv6 only:
//
//	c1 ── host1 ═══ host2 ── c2     fd99::1, fd99::2
func TestOverIPv6(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	for _, h := range l.Hosts {
		r := h.Run(t.Context(), nil, "", "ip", "-4", "addr", "flush", "dev", "eth0")
		must(t, r.Err)
	}
	launch(t, l.Hosts[0])
	launch(t, l.Hosts[1], l.Hosts[0].IP6)
	waitMesh(t, l.Hosts...)
	p := joinPair(t, l)
	_, err := lab.Transfer(p.c1.NS, p.c2.NS, "10.2.1.2:5001", 8<<20, time.Minute)
	must(t, err)
}
