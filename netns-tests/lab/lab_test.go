package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

const limit = 5 * time.Second

func TestMain(m *testing.M) {
	// the harness is tested without the product
	if os.Getenv("WEAVE_BIN") == "" {
		_ = os.Setenv("WEAVE_BIN", "/bin/false")
	}
	os.Exit(lab.Main(m.Run))
}

func newLab(t *testing.T, cfg lab.Config) *lab.Lab {
	t.Helper()
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	l, err := lab.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// plain gives every host one container whose ethwe is simply a port of the
// underlay bridge: the same switch the product promises, without the product.
//
//	c1(ethwe 10.2.0.1) ──┐             ┌── c2(ethwe 10.2.0.2)
//	          host1 ─────┴─── br0 ─────┴───── host2
func plain(t *testing.T, l *lab.Lab) []*lab.Container {
	t.Helper()
	var cs []*lab.Container
	for i, h := range l.Hosts {
		c, err := h.NewContainer()
		if err != nil {
			t.Fatal(err)
		}
		port := fmt.Sprintf("p%d", i)
		err = errors.Join(
			lab.Veth(l.Under, port, c.NS, "ethwe", 1500),
			lab.Enslave(l.Under, port, "br0"),
			c.AddAddr("ethwe", fmt.Sprintf("10.2.0.%d/24", i+1)),
			c.AddAddr("ethwe", fmt.Sprintf("fd02::%d/64", i+1)))
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	return cs
}

func TestTrafficHelpers(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	c := plain(t, l)
	a, b := c[0].NS, c[1].NS
	for _, addr := range []string{"10.2.0.2", "fd02::2"} {
		if _, err := a.Ping(addr, 1000, limit); err != nil {
			t.Error(err)
		}
		hostPort := net.JoinHostPort(addr, "7")
		u, err1 := b.EchoUDP(hostPort)
		s, err2 := b.EchoTCP(hostPort)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		defer s.Close()
		if err := errors.Join(a.AskUDP(hostPort, []byte("knock"), limit), a.AskTCP(hostPort, bytes.Repeat([]byte("x"), 1<<16), limit)); err != nil {
			t.Error(err)
		}
	}
	done, err := lab.Transfer(a, b, "10.2.0.2:5001", 8<<20, limit)
	if err != nil {
		t.Error(err)
	}
	t.Logf("transfer: %.2f Gb/s", done.Gbps())
}

func TestGroupsAndBroadcast(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	c := plain(t, l)
	for _, group := range []string{"239.1.2.3:7001", "[ff15::77]:7001"} {
		in, err := c[1].Join("ethwe", group)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if err := c[0].Send("ethwe", group, "to the group"); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Expect("to the group", limit); err != nil {
			t.Errorf("%s: %v", group, err)
		}
	}
	in, err := c[1].Listen(":7002")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := c[0].Send("", "10.2.0.255:7002", "to all"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Expect("to all", limit); err != nil {
		t.Error(err)
	}
}

func TestRawFramesAndVLANTags(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	c := plain(t, l)
	from, err1 := c[0].OpenTap("ethwe")
	to, err2 := c[1].OpenTap("ethwe")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	defer to.Close()
	src := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for _, sent := range [][]byte{
		lab.Frame(lab.Broadcast(), src, 0x88b5, []byte("made up ethertype, and long enough to need no padding")),
		lab.Frame(lab.Broadcast(), src, 0x8100, append([]byte{0x20, 0x07, 0x88, 0xb5}, "in VLAN 7 with priority 1, long enough as well"...)),
		lab.Frame(lab.Broadcast(), src, 0x88b5, bytes.Repeat([]byte("large"), 300)),
	} {
		if err := from.Send(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Expect(limit, func(got []byte) bool { return bytes.Equal(got, sent) }); err != nil {
			t.Errorf("%x…: %v", sent[:18], err)
		}
	}
}

func TestFaults(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	ping := func(a, b *lab.Host, size int) error {
		_, err := a.Ping(b.IP, size, 300*time.Millisecond)
		return err
	}
	reach := func(what string, want bool, a, b *lab.Host, size int) {
		t.Helper()
		if err := lab.Eventually(limit, func() error {
			if got := ping(a, b, size) == nil; got != want {
				return fmt.Errorf("%s: reachable is %v", what, got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	reach("at first", true, h[0], h[1], 1400)
	must(l.Partition(h[:1], h[1:]))
	reach("partitioned", false, h[0], h[1], 100)
	reach("same side", true, h[1], h[2], 100)
	must(l.Partition())
	reach("healed", true, h[0], h[1], 100)
	must(h[1].Cut(true))
	reach("cable out", false, h[0], h[1], 100)
	must(h[1].Cut(false))
	reach("cable in", true, h[0], h[1], 100)
	must(h[1].Loss(100))
	reach("all lost", false, h[0], h[1], 100)
	must(h[1].Loss(0), h[1].BlackHole(1000))
	reach("too long for the path", false, h[0], h[1], 1200)
	reach("short enough", true, h[0], h[1], 800)
	must(h[1].BlackHole(0), h[0].SetMTU(1400))
	reach("longer than the MTU", false, h[0], h[1], 1390)
	reach("as long as the MTU", true, h[0], h[1], 1372)
}

func TestBlockUDPLeavesTCP(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	h := l.Hosts
	u, err1 := h[1].EchoUDP("10.99.0.2:9")
	s, err2 := h[1].EchoTCP("10.99.0.2:9")
	if err := errors.Join(err1, err2, h[1].BlockUDP(true)); err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	defer s.Close()
	if h[0].AskUDP("10.99.0.2:9", []byte("hello"), 300*time.Millisecond) == nil {
		t.Error("UDP passed")
	}
	if err := h[0].AskTCP("10.99.0.2:9", []byte("hello"), limit); err != nil {
		t.Error(err)
	}
}

func TestSnifferSeesTheMarker(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2, Plain: true})
	wire, err := l.Under.Sniff("", "MARKER-IN-CLEAR")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Hosts[0].Send("", "10.99.0.2:9", "xx MARKER-IN-CLEAR xx"); err != nil {
		t.Fatal(err)
	}
	if err := lab.Eventually(limit, func() error {
		if wire.Seen().Marked == 0 {
			return errors.New("marker not seen")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if got := wire.Stop(); got.Lost > 0 {
		t.Errorf("%d frames lost", got.Lost)
	}
}

func TestPlainLinksCarryNothingLongerThanTheirMTU(t *testing.T) {
	for _, plain := range []bool{false, true} {
		l := newLab(t, lab.Config{Hosts: 2, Direct: true, Plain: plain})
		tap, err := l.Hosts[1].OpenTap("eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer tap.Close()
		// receive offload would join segments before the packet socket sees them
		if err := lab.SetFeatures(l.Hosts[1].NS, "eth0", map[string]bool{"rx-gro": false}); err != nil {
			t.Fatal(err)
		}
		if _, err := lab.Transfer(l.Hosts[0].NS, l.Hosts[1].NS, "10.99.0.2:5001", 1<<20, limit); err != nil {
			t.Fatal(err)
		}
		_, err = tap.Expect(500*time.Millisecond, func(f []byte) bool { return len(f) > 1514 })
		if long := err == nil; long == plain {
			t.Errorf("plain %v: frames longer than the MTU on the wire: %v", plain, long)
		}
	}
}

func TestRunReportsOutputHeldOpen(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	r := l.Hosts[0].Run(t.Context(), nil, "", "sh", "-c", "sleep 30 & hostname")
	if !r.Held || r.RC != 0 || strings.TrimSpace(r.Stdout) != "host1" {
		t.Error(r)
	}
}
