package netnstests

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// pair is what most tests of traffic need:
//
//	c1 10.2.1.1, fd02::1       c2 10.2.1.2, fd02::2
//	 |                          |
//	host1 ═══════════════════ host2
type pair struct {
	*lab.Lab
	c1, c2 *lab.Container
}

func newPair(t *testing.T, cfg lab.Config, args ...string) pair {
	t.Helper()
	cfg.Hosts = 2
	l := mesh(t, cfg, args...)
	return joinPair(t, l)
}

// joinPair attaches the two containers and waits until they reach each other.
func joinPair(t *testing.T, l *lab.Lab) pair {
	t.Helper()
	p := pair{l, container(t, l.Hosts[0], "10.2.1.1/24"), container(t, l.Hosts[1], "10.2.1.2/24")}
	must(t, p.c1.AddAddr("ethwe", "fd02::1/64"), p.c2.AddAddr("ethwe", "fd02::2/64"))
	pings(t, p.c1, "10.2.1.2", soon)
	return p
}

func (p pair) both() [][2]*lab.Container {
	return [][2]*lab.Container{{p.c1, p.c2}, {p.c2, p.c1}}
}

// What TestFastdp wants of the kernel path, of the one through user space.
func TestTraffic(t *testing.T) {
	p := newPair(t, lab.Config{}, "--no-fastdp")
	testKinds(t, p)
	t.Run("spanning tree stays", func(t *testing.T) { testSpanningTree(t, p) })
}

// testKinds sends all kinds of traffic, by whichever path.
func testKinds(t *testing.T, p pair) {
	t.Run("unicast", func(t *testing.T) { testUnicast(t, p) })
	t.Run("broadcast", func(t *testing.T) { testBroadcast(t, p) })
	t.Run("multicast", func(t *testing.T) { testMulticast(t, p) })
	t.Run("ARP", func(t *testing.T) { testARP(t, p) })
	t.Run("NDP", func(t *testing.T) { testNDP(t, p) })
	t.Run("any ethertype", func(t *testing.T) { testEthertypes(t, p) })
	t.Run("any size", func(t *testing.T) { testSizes(t, p) })
	t.Run("bulk", func(t *testing.T) { testBulk(t, p) })
}

func testUnicast(t *testing.T, p pair) {
	for _, addr := range []string{"10.2.1.%d", "fd02::%d"} {
		for i, d := range p.both() {
			server := net.JoinHostPort(fmt.Sprintf(addr, 2-i), "7")
			u, err := d[1].EchoUDP(server)
			must(t, err)
			defer u.Close()
			s, err := d[1].EchoTCP(server)
			must(t, err)
			defer s.Close()
			if err := d[0].AskUDP(server, []byte("a question"), soon); err != nil {
				t.Error(err)
			}
			if err := d[0].AskTCP(server, bytes.Repeat([]byte("0123456789abcdef"), 1<<14), soon); err != nil {
				t.Error(err)
			}
		}
	}
}

func testBroadcast(t *testing.T, p pair) {
	for _, to := range []string{"10.2.1.255:7002", "255.255.255.255:7002"} {
		for _, d := range p.both() {
			in, err := d[1].Listen("0.0.0.0:7002")
			must(t, err)
			if to[0] == '2' { // the limited broadcast needs a route
				r := d[0].Run(t.Context(), nil, "", "ip", "route", "replace", "255.255.255.255/32", "dev", "ethwe")
				must(t, r.Err)
			}
			must(t, d[0].Send("", to, "to all "+d[0].Name))
			if _, err := in.Expect("to all "+d[0].Name, soon); err != nil {
				t.Errorf("%s: %v", to, err)
			}
			must(t, in.Close())
		}
	}
}

func testMulticast(t *testing.T, p pair) {
	for _, group := range []string{"239.1.2.3:7003", "224.0.0.251:7003", "[ff15::7]:7003", "[ff02::7]:7003"} {
		for _, d := range p.both() {
			in, err := d[1].Join("ethwe", group)
			must(t, err)
			text := "to " + group + " from " + d[0].Name
			if err := lab.Eventually(soon, func() error {
				must(t, d[0].Send("ethwe", group, text))
				_, err := in.Expect(text, 100*time.Millisecond)
				return err
			}); err != nil {
				t.Errorf("%s: %v", group, err)
			}
			must(t, in.Close())
		}
	}
}

// testARP: a question for an address nobody has crosses, as does the answer
// to one somebody has.
func testARP(t *testing.T, p pair) {
	tap, err := p.c2.OpenTap("ethwe")
	must(t, err)
	defer tap.Close()
	_, _ = p.c1.Ping("10.2.1.77", 8, 50*time.Millisecond)
	_, err = tap.Expect(soon, func(f []byte) bool {
		return len(f) >= 42 && f[12] == 8 && f[13] == 6 && bytes.Equal(f[38:42], []byte{10, 2, 1, 77})
	})
	must(t, err)
	r := p.c1.Run(t.Context(), nil, "", "ip", "neigh", "flush", "dev", "ethwe")
	must(t, r.Err)
	pings(t, p.c1, "10.2.1.2", soon)
}

// testNDP: IPv6 finds its neighbours by ICMPv6 to a solicited-node group.
func testNDP(t *testing.T, p pair) {
	tap, err := p.c2.OpenTap("ethwe")
	must(t, err)
	defer tap.Close()
	_, _ = p.c1.Ping("fd02::77", 8, 50*time.Millisecond)
	_, err = tap.Expect(soon, func(f []byte) bool {
		// Ethernet 14, IPv6 40, then ICMPv6 type 135 (neighbour solicitation) and its target
		return len(f) >= 78 && f[12] == 0x86 && f[13] == 0xdd && f[20] == 58 && f[54] == 135 && f[77] == 0x77
	})
	must(t, err)
	for _, d := range p.both() {
		eventually(t, soon, func() error {
			_, err := d[0].Ping(map[*lab.Container]string{p.c1: "fd02::1", p.c2: "fd02::2"}[d[1]], 56, time.Second)
			return err
		})
	}
}

func testEthertypes(t *testing.T, p pair) {
	from, err := p.c1.OpenTap("ethwe")
	must(t, err)
	defer from.Close()
	to, err := p.c2.OpenTap("ethwe")
	must(t, err)
	defer to.Close()
	src, err := net.ParseMAC(ethwe(t, p.c1).MAC)
	must(t, err)
	dst, err := net.ParseMAC(ethwe(t, p.c2).MAC)
	must(t, err)
	text := []byte("forty-six bytes at least, else Ethernet pads it")
	tag := func(vlan byte) []byte { return append([]byte{0x60, vlan, 0x88, 0xb5}, text...) }
	for what, sent := range map[string][]byte{
		"made up, unicast":        lab.Frame(dst, src, 0x88b5, text),
		"made up, broadcast":      lab.Frame(lab.Broadcast(), src, 0x88b6, text),
		"made up, group":          lab.Frame(net.HardwareAddr{3, 0, 0, 0, 0, 1}, src, 0x88b5, text),
		"802.1Q tag":              lab.Frame(dst, src, 0x8100, tag(7)),
		"802.1Q tag, broadcast":   lab.Frame(lab.Broadcast(), src, 0x8100, tag(8)),
		"802.1ad tag over 802.1Q": lab.Frame(dst, src, 0x88a8, append([]byte{0, 9, 0x81, 0}, tag(10)...)),
		"802.2 length, not type":  lab.Frame(dst, src, uint16(len(text)), text),
		"as long as the MTU":      lab.Frame(dst, src, 0x88b5, bytes.Repeat([]byte{0xa5}, overlayMTU)),
	} {
		if err := lab.Eventually(soon, func() error {
			must(t, from.Send(sent))
			_, err := to.Expect(200*time.Millisecond, func(got []byte) bool { return bytes.Equal(got, sent) })
			return err
		}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// testSizes: everything up to the interface's MTU passes whole, larger
// datagrams pass as the sender's IP fragments.
func testSizes(t *testing.T, p pair) {
	u, err := p.c2.EchoUDP("10.2.1.2:8")
	must(t, err)
	defer u.Close()
	for _, size := range []int{0, 1, 17, 18, 100, 500, 1000, 1200, 1280, 1300, 1340, overlayMTU - 29, overlayMTU - 28} {
		if _, err := p.c1.Ping("10.2.1.2", size, soon); err != nil {
			t.Error(err)
		}
		if size == 0 {
			continue
		}
		if err := p.c1.AskUDP("10.2.1.2:8", bytes.Repeat([]byte{'u'}, size), soon); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.c1.Ping("10.2.1.2", overlayMTU-27, time.Second); err == nil {
		t.Error("a packet longer than the MTU left the container whole")
	}
	if _, err := p.c1.Ping("fd02::2", overlayMTU-48, soon); err != nil {
		t.Error(err)
	}
	for _, size := range []int{2000, 9000, 60000} {
		if err := p.c1.AskUDP("10.2.1.2:8", bytes.Repeat([]byte{'f'}, size), soon); err != nil {
			t.Error(err)
		}
	}
}

// testSpanningTree: link-local control frames stay on their host.
func testSpanningTree(t *testing.T, p pair) {
	from, err := p.c1.OpenTap("ethwe")
	must(t, err)
	defer from.Close()
	to, err := p.c2.OpenTap("ethwe")
	must(t, err)
	defer to.Close()
	src, err := net.ParseMAC(ethwe(t, p.c1).MAC)
	must(t, err)
	stp := net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}
	bpdu := append([]byte{0x42, 0x42, 3}, make([]byte, 43)...)
	last := lab.Frame(lab.Broadcast(), src, 0x88b5, []byte("sent after the spanning tree frames, to know when to stop"))
	for range 5 {
		must(t, from.Send(lab.Frame(stp, src, uint16(len(bpdu)), bpdu)))
	}
	must(t, from.Send(last))
	_, err = to.Expect(soon, func(f []byte) bool {
		if bytes.Equal(f[:6], stp) {
			t.Error("a spanning tree frame crossed")
		}
		return bytes.Equal(f, last)
	})
	must(t, err)
}

func testBulk(t *testing.T, p pair) {
	for i, d := range p.both() {
		for _, addr := range []string{"10.2.1.%d", "fd02::%d"} {
			server := net.JoinHostPort(fmt.Sprintf(addr, 2-i), "5001")
			done, err := lab.Transfer(d[0].NS, d[1].NS, server, 64<<20, time.Minute)
			if err != nil {
				t.Error(err)
				continue
			}
			t.Logf("to %s: %.2f Gb/s", server, done.Gbps())
		}
	}
}

// A station that moves and says so is found at its new place at once, by either path:
//
//	c1 ── host1 ═══ host2 ── c2: 02:…:99 is here first
//	         ╚═════ host3 ── c3: then here
func TestMovingMAC(t *testing.T) {
	t.Run("sleeve", func(t *testing.T) { testMovingMAC(t, mesh(t, lab.Config{Hosts: 3}, "--no-fastdp")) })
	t.Run("fastdp", func(t *testing.T) {
		l := mesh(t, lab.Config{Hosts: 3})
		onFast(t, l.Hosts...) // before that, a frame for everybody may miss a peer that is just being moved
		testMovingMAC(t, l)
	})
}

func testMovingMAC(t *testing.T, l *lab.Lab) {
	t.Helper()
	var taps []*lab.Tap
	for i, h := range l.Hosts {
		c := container(t, h, fmt.Sprintf("10.2.1.%d/24", i+1))
		tap, err := c.OpenTap("ethwe")
		must(t, err)
		defer tap.Close()
		taps = append(taps, tap)
	}
	mover := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	for round := range 4 {
		here, there := taps[1+round%2], taps[2-round%2]
		must(t, here.Send(lab.GratuitousARP(mover, net.IPv4(10, 2, 1, 99))))
		_, err := taps[0].Expect(soon, gratuitous(10, 2, 1, 99))
		must(t, err)
		text := fmt.Appendf(nil, "number %d for the station that moves, padded to 46", round)
		frame := lab.Frame(mover, net.HardwareAddr{2, 0, 0, 0, 0, 0x11}, 0x88b5, text)
		must(t, taps[0].Send(frame))
		same := func(f []byte) bool { return bytes.Equal(f, frame) }
		if _, err := here.Expect(soon, same); err != nil {
			t.Errorf("round %d: not found at its new place: %v", round, err)
		}
		if _, err := there.Expect(200*time.Millisecond, same); err == nil && round > 0 {
			t.Errorf("round %d: its old place got the frame as well", round)
		}
	}
}

// A host whose kernel refuses TAP offloads talks to one that has them:
//
//	c1 ── host1 (--tap water) ═══ host2 ── c2
func TestWithoutOffloads(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	launch(t, l.Hosts[0], "--tap", "water")
	launch(t, l.Hosts[1], l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	if got := run(t, l.Hosts[0], "report", "-f", "{{.Router.Interface}}"); got != "vethwe-tap (via TAP)" {
		t.Errorf("host1's interface is %q", got)
	}
	fullSize(t, joinPair(t, l))
}
