package netnstests

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

const (
	vxlanPort = 6784
	// fallBack is how soon a path that does not carry any more must be left: 3 s are promised, and the machine may be busy.
	fallBack = 6 * time.Second
	// comeBack is how soon it is used again: after a back-off.
	comeBack = 90 * time.Second
)

// onFast waits until all connections of the hosts are on the kernel path.
func onFast(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		eventually(t, comeBack, func() error { return overlays(h, "fastdp", len(hosts)-1) })
	}
}

// onSleeve waits until none is.
func onSleeve(t *testing.T, limit time.Duration, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		eventually(t, limit, func() error { return overlays(h, "sleeve", len(hosts)-1) })
	}
}

// overlays is an error unless the host has n established connections of this overlay.
func overlays(h *lab.Host, overlay string, n int) error {
	r, got := h.Weave("status", "connections"), 0
	for line := range strings.Lines(r.Stdout) {
		if strings.Contains(line, "established") && strings.Contains(line, " "+overlay+" ") {
			got++
		}
	}
	if got != n {
		return fmt.Errorf("host%d has %d of %d connections by %s: %v", h.Index, got, n, overlay, r)
	}
	return nil
}

// The kernel path comes up by itself, over either family, and carries everything; the wire shows that it does:
//
//	c1 ── host1 ═══ host2 ── c2
func TestFastdp(t *testing.T) {
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			l := newLab(t, lab.Config{Hosts: 2})
			for i, h := range l.Hosts {
				at := []string{h.IP, l.Hosts[0].IP}
				if family == "IPv6" {
					at = []string{h.IP6, l.Hosts[0].IP6}
				}
				launch(t, h, append([]string{"--host", at[0]}, at[1:1+i]...)...)
			}
			waitMesh(t, l.Hosts...)
			onFast(t, l.Hosts...)
			p := joinPair(t, l)
			const marker = "MARKER-in-the-kernel"
			wire, err := l.Under.Sniff("", marker)
			must(t, err)
			in, err := p.c2.Listen("0.0.0.0:7002")
			must(t, err)
			must(t, p.c1.Send("", "10.2.1.2:7002", marker))
			_, err = in.Expect(marker, soon)
			must(t, err, in.Close())
			eventually(t, soon, func() error {
				if wire.Seen().Marked == 0 {
					return errors.New("status says fastdp, and the wire carries nothing in clear")
				}
				return nil
			})
			wire.Stop()
			matches(t, l.Hosts[0], []string{"connections"}, `(?m)^<- \S+ +established fastdp \S+ mtu=1376 direct \S+ rtt=\S+ms loss=0% mtu=1376$`)
			testKinds(t, p)
			onFast(t, l.Hosts...)
			run(t, l.Hosts[0], "reset")
			for _, link := range linkNames(t, l.Hosts[0].NS) {
				if strings.Contains(link, "weave") || strings.Contains(link, "vxlan") {
					t.Errorf("left after a reset: %s", link)
				}
			}
		})
	}
}

// A path that carries no more is left, for a reason that is told, with the TCP connections that use it alive, and is
// taken again when it carries again:
//
//	c1 ── host1 ═══ host2 ── c2
func TestFastdpFallsBack(t *testing.T) {
	for _, fault := range []struct {
		what, why string
		on, off   func(l *lab.Lab) error
	}{
		{
			"VXLAN blocked", "no fastdp: ",
			func(l *lab.Lab) error {
				return errors.Join(l.Hosts[0].BlockUDPPort(vxlanPort), l.Hosts[1].BlockUDPPort(vxlanPort))
			},
			func(l *lab.Lab) error { return errors.Join(l.Hosts[0].BlockUDPPort(0), l.Hosts[1].BlockUDPPort(0)) },
		},
		{
			"VXLAN blocked one way", "no fastdp: ",
			func(l *lab.Lab) error { return l.Hosts[1].BlockUDPPort(vxlanPort) },
			func(l *lab.Lab) error { return l.Hosts[1].BlockUDPPort(0) },
		},
		{
			"all UDP blocked", "tcp",
			func(l *lab.Lab) error { return l.Hosts[1].BlockUDP(true) },
			func(l *lab.Lab) error { return l.Hosts[1].BlockUDP(false) },
		},
		{
			"small packets only", "no fastdp: ",
			func(l *lab.Lab) error { return errors.Join(l.Hosts[0].BlackHole(1300), l.Hosts[1].BlackHole(1300)) },
			func(l *lab.Lab) error { return errors.Join(l.Hosts[0].BlackHole(0), l.Hosts[1].BlackHole(0)) },
		},
		{
			"link MTU shrunk", "no fastdp: ",
			func(l *lab.Lab) error { return l.Hosts[1].SetMTU(1300) },
			func(l *lab.Lab) error { return l.Hosts[1].SetMTU(1500) },
		},
	} {
		t.Run(fault.what, func(t *testing.T) {
			l := mesh(t, lab.Config{Hosts: 2, Plain: true})
			onFast(t, l.Hosts...)
			p := joinPair(t, l)
			tcp := hold(t, p.c1.NS, p.c2.NS, "10.2.1.2:7")
			tcp.asks(t, soon)
			must(t, fault.on(l))
			began := time.Now()
			onSleeve(t, fallBack+4*time.Second, l.Hosts...)
			t.Logf("left after %v", time.Since(began).Round(100*time.Millisecond))
			tcp.asks(t, settle)
			shows(t, l.Hosts[0], soon, "(host2)", fault.why)
			must(t, fault.off(l))
			onFast(t, l.Hosts...)
			tcp.asks(t, settle)
		})
	}
}

// copies counts numbered broadcasts, and how often each came.
type copies struct {
	mu  sync.Mutex
	got map[string]int
}

const countedType = 0x88b6

// count counts what comes to a container until the test ends.
func count(t *testing.T, c *lab.Container) *copies {
	t.Helper()
	tap, err := c.OpenTap("ethwe")
	must(t, err)
	t.Cleanup(func() { tap.Close() })
	k := &copies{got: map[string]int{}}
	self, err := net.ParseMAC(ethwe(t, c).MAC)
	must(t, err)
	go func() {
		for {
			f, err := tap.Next(time.Now().Add(time.Hour))
			if err != nil {
				return
			}
			if len(f) > 30 && f[12] == countedType>>8 && f[13] == countedType&0xff && string(f[6:12]) != string(self) {
				k.mu.Lock()
				k.got[string(f[14:30])]++
				k.mu.Unlock()
			}
		}
	}()
	return k
}

func (k *copies) of(text string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got[text]
}

// lost counts those between two numbers that did not come.
func (k *copies) lost(by *chatter, from, to int) (n int) {
	for i := from; i < to; i++ {
		if k.of(by.text(i)) == 0 {
			n++
		}
	}
	return n
}

// twice counts those that came more than once.
func (k *copies) twice(by *chatter, sent int) (n int) {
	for i := range sent {
		if k.of(by.text(i)) > 1 {
			n++
		}
	}
	return n
}

// chatter sends numbered frames from a container, one a millisecond, until stopped: broadcast and multicast in turn.
type chatter struct {
	stop, done chan struct{}
	mu         sync.Mutex
	next       int
	name       string
}

func chat(t *testing.T, c *lab.Container, name string) *chatter {
	t.Helper()
	tap, err := c.OpenTap("ethwe")
	must(t, err)
	mac, err := net.ParseMAC(ethwe(t, c).MAC)
	must(t, err)
	ch := &chatter{stop: make(chan struct{}), done: make(chan struct{}), name: name}
	go func() {
		defer close(ch.done)
		defer tap.Close()
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-ch.stop:
				return
			case <-pace.C:
			}
			ch.mu.Lock()
			n := ch.next
			ch.next++
			ch.mu.Unlock()
			payload := append([]byte(ch.text(n)), make([]byte, 40)...)
			to := lab.Broadcast()
			if n%2 == 1 {
				to = net.HardwareAddr{0x01, 0, 0x5e, 1, 2, 3}
			}
			if err := tap.Send(lab.Frame(to, mac, countedType, payload)); err != nil {
				return
			}
		}
	}()
	return ch
}

func (c *chatter) text(n int) string { return fmt.Sprintf("%-4s%012d", c.name, n) }

// at is the number of the next broadcast.
func (c *chatter) at() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

func (c *chatter) end() int {
	close(c.stop)
	<-c.done
	return c.at()
}

// Broadcasts and multicasts reach everybody once, whichever paths their hosts are on and while they change: hosts 1 and 2 go back and
// forth between the kernel's path and ours, host 3 has no kernel path. None ever comes twice, and between two changes
// none is lost:
//
//	c1 ── host1 ═══ host2 ── c2
//	         ╚══════ ╩═════ host3 ── c3
func TestFastdpFlapping(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	launch(t, h[0])
	launch(t, h[1], h[0].IP)
	launch(t, h[2], h[0].IP, "--no-fastdp")
	waitMesh(t, h...)
	fast := func(want string) { // of hosts 1 and 2; host 3 is never on the kernel's path
		t.Helper()
		for i := range 2 {
			if want == "sleeve" {
				eventually(t, comeBack, func() error { return overlays(h[i], "sleeve", 2) })
				continue
			}
			eventually(t, comeBack, func() error { return errors.Join(overlays(h[i], "fastdp", 1), overlays(h[i], "sleeve", 1)) })
		}
	}
	fast("fastdp")
	shows(t, h[0], soon, "sleeve", "(host3)", "no fastdp: not offered by the other end")
	shows(t, h[2], soon, "sleeve", "(host1)", "no fastdp: --no-fastdp")
	var c []*lab.Container
	for i, x := range h {
		c = append(c, container(t, x, fmt.Sprintf("10.2.1.%d/24", i+1)))
	}
	for i := range c {
		pings(t, c[i], fmt.Sprintf("10.2.1.%d", (i+1)%3+1), soon)
	}
	var counts []*copies
	var talk []*chatter
	for i := range c {
		counts = append(counts, count(t, c[i]))
		talk = append(talk, chat(t, c[i], fmt.Sprint(i)))
	}
	type span struct{ from, to [3]int } // numbers sent while nothing but the paths changed
	here := func() (at [3]int) {
		for i := range talk {
			at[i] = talk[i].at()
		}
		return at
	}
	var calm []span
	for range 3 {
		from := here()
		fast("fastdp") // from user space to the kernel: nothing is wrong with either
		calm = append(calm, span{from, here()})
		must(t, h[0].BlockUDPPort(vxlanPort), h[1].BlockUDPPort(vxlanPort))
		fast("sleeve")
		must(t, h[0].BlockUDPPort(0), h[1].BlockUDPPort(0))
	}
	from := here()
	fast("fastdp")
	calm = append(calm, span{from, here()})
	sent := [3]int{}
	for i := range talk {
		sent[i] = talk[i].end()
	}
	for i := range c {
		for j := range talk {
			if i == j {
				continue
			}
			eventually(t, soon, func() error {
				if counts[i].of(talk[j].text(sent[j]-1)) == 0 {
					return fmt.Errorf("the last of c%d has not come to c%d", j+1, i+1)
				}
				return nil
			})
			lost := 0
			for _, s := range calm {
				lost += counts[i].lost(talk[j], s.from[j], s.to[j])
			}
			twice := counts[i].twice(talk[j], sent[j])
			t.Logf("from c%d to c%d: %d sent, %d came twice, %d lost in %d changes to the kernel", j+1, i+1, sent[j], twice, lost, len(calm))
			if twice > 0 {
				t.Errorf("from c%d to c%d: %d of %d broadcasts came twice", j+1, i+1, twice, sent[j])
			}
			if onlyOurs := i == 2 || j == 2; onlyOurs && lost > 0 || lost > 20*len(calm) {
				t.Errorf("from c%d to c%d: %d broadcasts were lost though both paths carried", j+1, i+1, lost)
			}
		}
	}
}
