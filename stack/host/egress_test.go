package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var (
	machine  = netip.MustParseAddr("198.51.100.1") // stands for this machine
	machine6 = netip.MustParseAddr("2001:db8::1")
)

// withEgress makes a host that is the way out, and a container that has no other.
func withEgress(t testing.TB, limits Limits, cfg EgressConfig) (gateway, container *Host) {
	t.Helper()
	a, b, _ := pair(t, Config{Limits: limits})
	cfg.Loopback = []netip.Addr{machine, machine6}
	if err := a.EnableEgress(cfg); err != nil {
		t.Fatal(err)
	}
	for _, g := range []netip.Addr{addrA.Addr(), addrA6.Addr()} {
		if err := b.SetDefaultRoute(g); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func TestEgressTCP(t *testing.T) {
	_, c := withEgress(t, Limits{}, EgressConfig{})
	conn, err := c.DialTCP(testContext(t), at(machine, listenReal(t, echo).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange(t, conn, randomBytes(4<<20))
}

func TestEgressTCP6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6: ", err)
	}
	serve(t, l, echo)
	_, c := withEgress(t, Limits{}, EgressConfig{})
	conn, err := c.DialTCP(testContext(t), at(machine6, addrPort(l.Addr()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange(t, conn, randomBytes(1<<20))
}

func TestEgressUDP(t *testing.T) {
	g, c := withEgress(t, Limits{UDPIdle: 50 * time.Millisecond}, EgressConfig{})
	pc, err := net.ListenPacket("udp4", loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.DialUDP(testContext(t), at(machine, echoDatagrams(t, pc).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	askDatagram(t, conn, randomBytes(1200))
	askDatagram(t, conn, randomBytes(8000)) // in fragments
	if n := g.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	eventually(t, "the idle session to end", func() bool { return len(g.egress.Load().stack.RegisteredEndpoints()) == 0 })
	askDatagram(t, conn, []byte("and a new one"))
}

// Nothing that is this machine's own or the overlay's can be reached through it, and refusal is quick.
func TestEgressRefuses(t *testing.T) {
	open := listenReal(t, echo)
	g, c := withEgress(t, Limits{}, EgressConfig{
		DeniedPorts: []uint16{open.Port()},
		Allow:       func(_, _ string, to netip.AddrPort) bool { return to.Addr() != netip.MustParseAddr("203.0.113.9") },
	})
	before := g.Stats().ConnsRefused
	for i, to := range []netip.AddrPort{
		at(machine, open.Port()),                   // a denied port
		at(netip.MustParseAddr("203.0.113.9"), 80), // Allow
		at(netip.MustParseAddr("240.0.0.1"), 80),   // reserved
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		if conn, err := c.DialTCP(ctx, to); err == nil {
			t.Errorf("%v: connected", to)
			conn.Close()
		}
		cancel()
		if i == 2 && g.Stats().ConnsRefused != before+3 {
			t.Errorf("%d refused, want 3", g.Stats().ConnsRefused-before)
		}
	}
	for _, a := range []string{"127.0.0.1", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "0.1.2.3", "255.255.255.255", "::ffff:127.0.0.1"} {
		e := g.egress.Load()
		e.sources.put(addrB.Addr(), source{owner: "web"})
		if _, to, ok := e.allowed("tcp", addrB.Addr(), netip.MustParseAddr(a), 80); ok {
			t.Errorf("%s is let through to %v", a, to)
		}
	}
	if _, _, ok := g.egress.Load().allowed("tcp", addrB.Addr(), netip.MustParseAddr("10.47.0.1"), 80); ok {
		t.Error("an overlay address is let through")
	}
}

func TestEgressKnowsOwners(t *testing.T) {
	port := listenReal(t, echo).Port()
	var asked string
	g, c := withEgress(t, Limits{}, EgressConfig{
		Conns: 1,
		Owner: func(src netip.Addr, mac net.HardwareAddr) (string, bool) {
			if src == addrB.Addr() {
				asked = mac.String()
				return "web", true
			}
			return "", false
		},
	})
	first, err := c.DialTCP(testContext(t), at(machine, port))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if asked != c.MAC().String() {
		t.Errorf("asked about %s", asked)
	}
	if _, err := c.DialTCP(testContext(t), at(machine, port)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a second connection of one allowed: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.DialTCP(ctx, at(machine6, port)); err == nil {
		t.Error("an address that is nobody's was let out")
	}
	first.Close()
	eventually(t, "the slot to be free", func() bool {
		conn, err := c.DialTCP(testContext(t), at(machine, port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if g.Stats().ConnsRefused == 0 {
		t.Error("nothing counted")
	}
}

func TestEgressPassesRefusalOn(t *testing.T) {
	_, c := withEgress(t, Limits{}, EgressConfig{})
	l, err := net.Listen("tcp4", loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := c.DialTCP(testContext(t), at(machine, addrPort(l.Addr()).Port())); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("closed port: %v", err)
	}
}

// The gateway itself answers only for its own addresses.
func TestEgressIsApart(t *testing.T) {
	g, c := withEgress(t, Limits{}, EgressConfig{})
	listenAt, err := g.ListenTCP(at(netip.IPv4Unspecified(), 8080))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, listenAt, echo)
	if _, err := c.DialTCP(testContext(t), at(machine, 8080)); err == nil {
		t.Error("the gateway's own port answers at a foreign address")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.DialTCP(ctx, at(netip.MustParseAddr("10.47.0.9"), 8080)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an address of the overlay that nobody has: %v", err)
	}
	g.DisableEgress()
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.DialTCP(ctx, at(machine, 8080)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after disabling: %v", err)
	}
	if err := g.EnableEgress(EgressConfig{Loopback: []netip.Addr{addrA.Addr()}}); err == nil {
		t.Error("an overlay address stands for the machine: no error")
	}
	if err := g.EnableEgress(EgressConfig{}); err != nil {
		t.Errorf("enable again: %v", err)
	}
}

// Half-open handshakes do not hold up the end.
func TestEgressEndsAmidHandshake(t *testing.T) {
	port := listenReal(t, echo).Port()
	a, b, w := pair(t, Config{})
	if err := a.EnableEgress(EgressConfig{Loopback: []netip.Addr{machine}}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetDefaultRoute(addrA.Addr()); err != nil {
		t.Fatal(err)
	}
	w.setHook(func(p []byte) bool { // the answer to SYN is lost
		f := p[HeaderLen:]
		return len(f) < 48 || f[23] != 6 || f[47]&0x12 != 0x12
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.DialTCP(ctx, at(machine, port)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dial: %v", err)
	}
	eventually(t, "the handshake to be under way", func() bool { return len(a.egress.Load().stack.RegisteredEndpoints()) > 0 })
	a.Close()
}

const pingEnv = "HOST_TEST_PING"

// The kernel lets only some users ping, so the test runs in a namespace of its own where all may.
func TestEgressPing(t *testing.T) {
	if os.Getenv(pingEnv) == "" {
		inside := "ip link set lo up && echo 0 0 >/proc/sys/net/ipv4/ping_group_range && exec \"$0\" -test.run '^TestEgressPing$' -test.v"
		cmd := exec.Command("unshare", "-rn", "sh", "-c", inside, os.Args[0])
		cmd.Env = append(os.Environ(), pingEnv+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil && strings.Contains(string(out), "unshare") {
			t.Skipf("no user namespaces here: %s", out)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	g, c := withEgress(t, Limits{}, EgressConfig{Pings: 2})
	if err := PingAllowed(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{machine, machine6} {
		p, err := c.NewPinger(a)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 3 {
			if _, err := p.Echo(testContext(t), 56); err != nil {
				t.Fatal(err)
			}
		}
	}
	p, err := c.NewPinger(netip.MustParseAddr("192.0.2.77"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Echo(ctx, 56); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody there: %v", err) // above all the gateway does not answer itself
	}
	if s := g.Stats(); s.Sessions < 2 {
		t.Errorf("counted %+v", s)
	}
}
