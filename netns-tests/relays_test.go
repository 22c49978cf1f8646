package netnstests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// joined launches a host for each of n, joined as the pairs say; each host's
// peers are those of its pairs with a lower number. Containers are 10.2.1.N.
func joined(t *testing.T, cfg lab.Config, n int, pairs [][2]int, args ...string) (*lab.Lab, []*lab.Container) {
	t.Helper()
	cfg.Hosts = n
	l := newLab(t, cfg)
	must(t, l.Join(pairs...))
	degree := make([]int, n+1)
	for _, h := range l.Hosts {
		peers := append([]string{}, args...)
		for _, p := range pairs {
			if p[1] == h.Index {
				peers = append(peers, l.Hosts[p[0]-1].IP)
				degree[p[0]]++
				degree[p[1]]++
			}
		}
		launch(t, h, peers...)
	}
	for _, h := range l.Hosts {
		waitConnected(t, h, degree[h.Index])
	}
	var cs []*lab.Container
	for _, h := range l.Hosts {
		cs = append(cs, container(t, h, fmt.Sprintf("10.2.1.%d/24", h.Index)))
	}
	return l, cs
}

// shows waits until the host's status of connections has a line with all of the
// words.
func shows(t *testing.T, h *lab.Host, limit time.Duration, words ...string) {
	t.Helper()
	eventually(t, limit, func() error {
		text := run(t, h, "status", "connections")
		for line := range strings.Lines(text) {
			missing := 0
			for _, w := range words {
				if !strings.Contains(line, w) {
					missing++
				}
			}
			if missing == 0 {
				return nil
			}
		}
		return fmt.Errorf("host%d: no line with %q in:\n%s", h.Index, words, text)
	})
}

// held is a TCP connection that must live through what a test does.
type held struct{ net.Conn }

func hold(t *testing.T, from, to *lab.NS, addr string) held {
	t.Helper()
	echo, err := to.EchoTCP(addr)
	must(t, err)
	t.Cleanup(func() { echo.Close() })
	c, err := from.Dial(addr, soon)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return held{c}
}

// asks sends something on the held connection and wants it back.
func (h held) asks(t *testing.T, limit time.Duration) {
	t.Helper()
	text := bytes.Repeat([]byte("weave"), 1000)
	_ = h.SetDeadline(time.Now().Add(limit))
	go func() { _, _ = h.Write(text) }()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(h, got); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("the connection from before did not live: %v", err)
	}
}

// Four hosts in a row; everybody reaches everybody, and those between cannot
// read what they pass on:
//
//	c1 ── host1 ═══ host2 ═══ host3 ═══ host4 ── c4
func TestChain(t *testing.T) {
	l, c := joined(t, lab.Config{}, 4, [][2]int{{1, 2}, {2, 3}, {3, 4}}, "--password", "word")
	for i, from := range c {
		for k := range c {
			if i != k {
				pings(t, from, fmt.Sprintf("10.2.1.%d", k+1), settle)
			}
		}
	}
	shows(t, l.Hosts[0], soon, "no connection", "(host4)", "relayed via", "(host2)")
	eventually(t, settle, func() error { // as long as ethwe allows, once the MTU of the ways is known
		_, err := c[0].Ping("10.2.1.4", overlayMTU-28, time.Second)
		return err
	})
	const unknown = `weave_dropped_total{reason="relay_unknown"}`
	before, _ := metric(t, l.Hosts[1], unknown) // a route may come after the first message for it
	done, err := lab.Transfer(c[0].NS, c[3].NS, "10.2.1.4:5001", 32<<20, time.Minute)
	must(t, err)
	t.Logf("transfer over two relays: %.2f Gb/s", done.Gbps())
	done, err = lab.Transfer(c[3].NS, c[0].NS, "10.2.1.1:5001", 8<<20, time.Minute)
	must(t, err)
	t.Logf("and back: %.2f Gb/s", done.Gbps())
	if n, text := metric(t, l.Hosts[1], unknown); n > before {
		t.Errorf("host2 could not pass on: %s", text)
	}
}

// What is sent to everybody arrives at each host once, however many ways lead
// there:
//
//	host1 ═══ host2
//	  ║         ║
//	host4 ═══ host3
func TestBroadcastInARing(t *testing.T) {
	_, c := joined(t, lab.Config{}, 4, [][2]int{{1, 2}, {2, 3}, {3, 4}, {1, 4}})
	for i := range c {
		pings(t, c[0], fmt.Sprintf("10.2.1.%d", i+1), settle)
	}
	var boxes []*lab.Inbox
	for _, x := range c[1:] {
		in, err := x.Listen(":9")
		must(t, err)
		defer in.Close()
		boxes = append(boxes, in)
	}
	for n := range 20 {
		must(t, c[0].Send("ethwe", "10.2.1.255:9", fmt.Sprintf("to all, %d", n)))
		for _, in := range boxes {
			_, err := in.Expect(fmt.Sprintf("to all, %d", n), soon) // in order, nothing twice
			must(t, err)
		}
	}
	for i, in := range boxes {
		if _, err := in.Expect("", 300*time.Millisecond); err == nil {
			t.Errorf("host%d got something twice", i+2)
		}
	}
}

// When a relay dies, or says goodbye, traffic takes the other one:
//
//	          host2
//	c1 ── host1   host4 ── c4
//	          host3
func TestRelayDies(t *testing.T) {
	for what, end := range map[string]func(*testing.T, *lab.Host){
		"killed": func(t *testing.T, h *lab.Host) {
			pid, err := h.DaemonPID()
			must(t, err, kill(pid))
		},
		"unplugged": func(t *testing.T, h *lab.Host) { must(t, h.Cut(true)) },
		"stopped":   func(t *testing.T, h *lab.Host) { run(t, h, "stop") },
	} {
		t.Run(what, func(t *testing.T) {
			l, c := joined(t, lab.Config{}, 4, [][2]int{{1, 2}, {1, 3}, {2, 4}, {3, 4}}, "--no-restart")
			pings(t, c[0], "10.2.1.4", settle)
			tcp := hold(t, c[0].NS, c[3].NS, "10.2.1.4:7")
			tcp.asks(t, soon)
			shows(t, l.Hosts[0], soon, "(host4)", "relayed via")
			relay := l.Hosts[1]
			if strings.Contains(pathTo(t, l.Hosts[0], "(host4)"), "(host3)") {
				relay = l.Hosts[2]
			}
			end(t, relay)
			took := pings(t, c[0], "10.2.1.4", settle)
			t.Logf("relay %s: the other one carries after %v", what, took.Round(time.Millisecond))
			tcp.asks(t, settle)
		})
	}
}

// pathTo is the line of a host's status about a peer.
func pathTo(t *testing.T, h *lab.Host, peer string) string {
	t.Helper()
	for line := range strings.Lines(run(t, h, "status", "connections")) {
		if strings.Contains(line, peer) {
			return line
		}
	}
	return ""
}

// Where UDP does not pass, frames travel inside TCP, and leave it when they can:
//
//	c1 ── host1 ✂udp═══ host2 ── c2
func TestUDPBlocked(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	must(t, l.Hosts[0].BlockUDP(true))
	launch(t, l.Hosts[0])
	launch(t, l.Hosts[1], l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	p := joinPair(t, l)
	shows(t, l.Hosts[1], soon, "(host1)", " tcp ", "no answer by UDP")
	done, err := lab.Transfer(p.c1.NS, p.c2.NS, "10.2.1.2:5001", 8<<20, time.Minute)
	must(t, err)
	t.Logf("transfer inside TCP: %.2f Gb/s", done.Gbps())
	tcp := hold(t, p.c1.NS, p.c2.NS, "10.2.1.2:7")
	tcp.asks(t, soon)
	must(t, l.Hosts[0].BlockUDP(false))
	shows(t, l.Hosts[1], settle, "(host1)", " direct ", ":6783 rtt=") // whichever family has the better round trips
	tcp.asks(t, soon)
	must(t, l.Hosts[0].BlockUDP(true))
	t.Logf("back inside TCP after %v", pings(t, p.c1, "10.2.1.2", settle).Round(time.Millisecond))
	tcp.asks(t, settle)
}

// A path that loses its UDP, with a relay that has it:
//
//	c1 ── host1 ✂udp═══ host2 ── c2,   host3 with both
func TestRelayIsBetterThanTCP(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 3})
	p := joinPair(t, l)
	must(t, l.BlockUDPBetween(l.Hosts[0], l.Hosts[1]))
	shows(t, l.Hosts[0], settle, "(host2)", "relayed via", "(host3)")
	pings(t, p.c1, "10.2.1.2", soon)
}

// Two hosts behind NATs of their own that only a third can be dialled by find
// the holes that each other's messages leave:
//
//	c1 ── host1 ═ NAT ═══ host3 ═══ NAT ═ host2 ── c2
func TestTwoNATs(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	for _, x := range h { // an IPv6 address needs no hole: the NATs' filter lets the first packet out and its like in
		must(t, x.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"))
	}
	must(t, h[0].NAT(40001), h[1].NAT(40002))
	launch(t, h[2])
	launch(t, h[0], h[2].IP)
	launch(t, h[1], h[2].IP)
	waitConnected(t, h[2], 2)
	p := joinPair(t, l)
	shows(t, h[0], settle, "no connection", "(host2)", "direct 10.99.0.2:40002")
	shows(t, h[1], settle, "no connection", "(host1)", "direct 10.99.0.1:40001")
	tcp := hold(t, p.c1.NS, p.c2.NS, "10.2.1.2:7")
	tcp.asks(t, soon)
	must(t, l.BlockUDPBetween(h[0], h[1]))
	shows(t, h[0], settle, "(host2)", "relayed via", "(host3)")
	tcp.asks(t, settle)
}

// A host's address becomes another one:
//
//	c1 ── host1 ═══ host2 ── c2     host2: 10.99.0.2, then 10.99.0.77
func TestAddressChanges(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	for _, x := range l.Hosts { // whose addresses stay
		must(t, x.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"))
	}
	launch(t, l.Hosts[0])
	launch(t, l.Hosts[1], l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	p := joinPair(t, l)
	tcp := hold(t, p.c1.NS, p.c2.NS, "10.2.1.2:7")
	tcp.asks(t, soon)
	must(t, p.Hosts[1].Readdress("10.99.0.77"))
	t.Logf("host2 is found at its new address after %v", pings(t, p.c1, "10.2.1.2", settle).Round(time.Millisecond))
	tcp.asks(t, settle)
	shows(t, p.Hosts[0], settle, "(host2)", "direct 10.99.0.77:6783")
}

// All datagrams of more than 700 bytes vanish without a word:
//
//	c1 ── host1 ══700══ host2 ── c2
func TestBlackHoleOf700Bytes(t *testing.T) {
	p := newPair(t, lab.Config{Plain: true}, "--no-fastdp")
	for _, h := range p.Hosts {
		must(t, h.BlackHole(728))
	}
	began := time.Now()
	eventually(t, 35*time.Second, func() error { return p.c1.PingFragments("10.2.1.2", 10000, time.Second) })
	t.Logf("a ping of 10 kB passes after %v", time.Since(began).Round(time.Millisecond))
}

// metric reads one number of a host's metrics; 0 if it is not there.
func metric(t *testing.T, h *lab.Host, name string) (n int, text string) {
	t.Helper()
	var body string
	must(t, h.Do(func() error {
		c, err := net.Dial("tcp", "127.0.0.1:6782")
		if err != nil {
			return err
		}
		defer c.Close()
		_, _ = c.Write([]byte("GET /metrics HTTP/1.0\r\n\r\n"))
		all, err := io.ReadAll(c)
		body = string(all)
		return err
	}))
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(errors.Join(err, errors.New(line)))
			}
			return n, line
		}
	}
	return 0, ""
}

// A host with an address of its own that others cannot use tells one that they can, such as a forwarded port's:
//
//	c1 ── host1 ═══ host2 ── c2,  host3 knows host1's address from host2's gossip only
func TestAdvertiseAddress(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	launch(t, l.Hosts[0], "--advertise-address", "192.0.2.7,10.99.0.99:7777")
	launch(t, l.Hosts[1], l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	must(t, l.Hosts[0].AddAddr("eth0", "192.0.2.7/24"), l.Hosts[1].AddAddr("eth0", "192.0.2.8/24"))
	must(t, l.Hosts[0].Refuse("10.99.0.0/24"), l.Hosts[0].Refuse("fd99::/64"))
	shows(t, l.Hosts[1], settle, "(host1)", "direct 192.0.2.7:6783")
}

// A host that hands out no addresses itself passes on what the others say about theirs:
//
//	c1 ── host1 ═══ host2 (--ipalloc-range "") ═══ host3 ── c3
func TestRelayWithoutAddresses(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	must(t, l.Join([2]int{1, 2}, [2]int{2, 3}))
	launch(t, h[1], "--ipalloc-range", "")
	launch(t, h[0], h[1].IP)
	launch(t, h[2], h[1].IP)
	waitConnected(t, h[1], 2)
	c1, err := h[0].NewContainer()
	must(t, err)
	c3, err := h[2].NewContainer()
	must(t, err)
	run(t, h[0], "attach", c1.Name)
	ip := strings.TrimSpace(run(t, h[2], "attach", c3.Name))
	pings(t, c1, ip, settle)
}
