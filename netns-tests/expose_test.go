package netnstests

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// nft runs nft on a host.
func nft(t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	return system(t, h.NS, append([]string{"nft"}, args...)...)
}

// An exposed host talks to containers of every host and they to it, by name too, until it is hidden; that outlives the
// daemon with its options, and reset leaves others' rules as they were.
func TestExpose(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one, two := l.Hosts[0], l.Hosts[1]
	nft(t, one, "add table ip theirs; add chain ip theirs passing { type filter hook forward priority 0; policy drop; }; add rule ip theirs passing counter")
	before := nft(t, one, "-s", "list", "ruleset")
	launch(t, one)
	launch(t, two, one.IP)
	waitMesh(t, one, two)
	c1, c2 := container(t, one, "10.2.1.1/24"), container(t, two, "10.2.1.2/24")
	if got := run(t, one, "expose", "10.2.1.10/24", "-h", "host1.weave.local"); got != "10.2.1.10\n" {
		t.Errorf("expose printed %q", got)
	}
	run(t, one, "expose", "10.2.1.10/24") // again
	reaches(t, one.NS, "10.2.1.1")
	reaches(t, one.NS, "10.2.1.2")
	pings(t, c1, "10.2.1.10", settle)
	pings(t, c2, "10.2.1.10", settle)
	eventually(t, settle, func() error {
		if got := run(t, two, "dns-lookup", "host1"); got != "10.2.1.10\n" {
			return fmt.Errorf("host1 is %q", got)
		}
		return nil
	})
	if got := run(t, one, "ps"); !strings.HasPrefix(got, "weave:expose ") || !strings.Contains(got, " 10.2.1.10/24") {
		t.Errorf("ps shows %q", got)
	}
	if got := nft(t, one, "list", "chain", "ip", "theirs", "passing"); strings.Count(got, "made by weave") != 3 {
		t.Errorf("their chain drops what is for containers:\n%s", got)
	}
	run(t, one, "expose", "10.2.2.10/24", "--without-masquerade")
	run(t, one, "expose", "10.2.1.10/24", "-h", "also.weave.local")
	for _, name := range []string{"host1", "also"} { // names are of the addresses they were given for
		if got := run(t, one, "dns-lookup", name); got != "10.2.1.10\n" {
			t.Errorf("with two addresses %s is %q", name, got)
		}
	}
	rules := nft(t, one, "-s", "list", "table", "inet", "weave")
	if !strings.Contains(rules, "10.2.1.0/24") || strings.Contains(rules, "10.2.2.0/24") {
		t.Errorf("masqueraded is\n%s", rules)
	}
	t.Run("flushed", func(t *testing.T) {
		nft(t, one, "flush", "ruleset")
		eventually(t, soon, func() error {
			if got := nft(t, one, "-s", "list", "ruleset"); !strings.Contains(got, rules) {
				return fmt.Errorf("the rules are\n%s", got)
			}
			return nil
		})
		nft(t, one, "add table ip theirs; add chain ip theirs passing { type filter hook forward priority 0; policy drop; }; add rule ip theirs passing counter")
	})
	t.Run("restart", func(t *testing.T) {
		pid, err := one.DaemonPID()
		must(t, err, kill(pid))
		eventually(t, settle, func() error {
			if got := one.Weave("ps", "weave:expose").Stdout; !strings.Contains(got, "10.2.1.10/24 10.2.2.10/24") {
				return fmt.Errorf("after a crash ps shows %q", got)
			}
			return nil
		})
		if got := nft(t, one, "-s", "list", "table", "inet", "weave"); got != rules {
			t.Errorf("the rules were\n%sand are\n%s", rules, got)
		}
		reaches(t, one.NS, "10.2.1.2")
		if got := run(t, one, "dns-lookup", "host1"); got != "10.2.1.10\n" {
			t.Errorf("host1 is %q", got)
		}
	})
	refused(t, one, 1, "--publish", "expose", "--publish", "80:x:80")
	refused(t, one, 1, "Usage", "expose", "-h", "a", "-h", "b")
	if got := run(t, one, "hide", "10.2.1.10/24"); got != "10.2.1.10\n" {
		t.Errorf("hide printed %q", got)
	}
	if got := run(t, one, "dns-lookup", "also"); got != "" {
		t.Errorf("the name of a hidden address is %q", got)
	}
	if got := run(t, one, "hide", "10.2.1.10/24"); got != "\n" {
		t.Errorf("a second hide printed %q", got)
	}
	if _, err := c1.Ping("10.2.1.10", 56, 300*time.Millisecond); err == nil {
		t.Error("a hidden address answers")
	}
	run(t, one, "reset")
	if got := nft(t, one, "-s", "list", "ruleset"); got != before {
		t.Errorf("reset left\n%swhere there was\n%s", got, before)
	}
}

// What containers send through an exposed host to elsewhere has the host's address there.
func TestExposeMasquerades(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2})
	one, two := l.Hosts[0], l.Hosts[1]
	c := container(t, one, "10.2.1.1/24")
	run(t, one, "expose", "10.2.1.10/24")
	must(t, one.Sysctl("net/ipv4/ip_forward", "1"))
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if r := c.Run(ctx, []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin"}, "", "ip", "route", "add", "default", "via", "10.2.1.10"); r.RC != 0 {
		t.Fatal(r)
	}
	var server net.Listener
	must(t, two.Do(func() (err error) {
		server, err = net.Listen("tcp4", two.IP+":7777")
		return err
	}))
	defer server.Close()
	from := make(chan string, 1)
	go func() {
		conn, err := server.Accept()
		if err != nil {
			from <- err.Error()
			return
		}
		defer conn.Close()
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		from <- host
	}()
	conn, err := c.Dial(two.IP+":7777", soon)
	must(t, err)
	defer conn.Close()
	if got := <-from; got != one.IP {
		t.Errorf("the connection came from %s, not from %s", got, one.IP)
	}
}

// Programs of a host with a bridge ask in the same words.
func TestHostPrograms(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one, two := l.Hosts[0], l.Hosts[1]
	launch(t, one)
	launch(t, two, one.IP)
	waitMesh(t, one, two)
	c, addr := attached(t, two, "--name", "far")
	six := v6Of(t, c, addr)
	for _, verb := range [][]string{{"ping", "far"}, {"dial", "far", "80"}, {"nc", "far", "80"}} {
		refused(t, one, 1, "'weave expose' first", verb...)
	}
	run(t, one, "expose")
	echo, err := c.EchoTCP(addr + ":80")
	must(t, err)
	defer echo.Close()
	eventually(t, settle, func() error {
		if got := one.Weave("ping", "-c", "1", "far"); !strings.HasPrefix(got.Stdout, addr+" ") {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if got := run(t, one, "ping", "-c", "1", six); !strings.HasPrefix(got, six+" ") {
		t.Errorf("ping printed %q", got)
	}
	if got := run(t, one, "dial", "far", "80"); !strings.HasPrefix(got, addr+":80 ") {
		t.Errorf("dial printed %q", got)
	}
	refused(t, one, 1, "refused", "dial", "far", "81")
	refused(t, one, 1, "no container is called", "ping", "nobody")
	refused(t, one, 1, "without a proxy", "proxy")
	refused(t, one, 1, "Usage", "dial", "far")
}

// The same verbs without root, and ports that lead from the host to containers and back.
func TestRootlessExpose(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one := user(t, l.Hosts[0])
	two := user(t, l.Hosts[1], one.Address())
	a, addrA := box(t, one)
	b, addrB := box(t, two)
	exposed := strings.TrimSpace(userRun(t, one.Weave("expose", "-h", "here")))
	boxPings(t, a, exposed)
	boxPings(t, b, exposed)
	if got := strings.TrimSpace(userRun(t, one.Weave("dns-lookup", "here"))); got != exposed {
		t.Errorf("the name is %q", got)
	}
	if got := userRun(t, one.Weave("ps")); !strings.HasPrefix(got, "weave:expose ") {
		t.Errorf("ps shows %q", got)
	}
	for _, c := range []struct {
		box  *lab.Box
		addr string
	}{{a, addrA}, {b, addrB}} {
		echo, err := c.box.EchoTCP(c.addr + ":80")
		must(t, err)
		defer echo.Close()
	}
	userRun(t, one.Weave("dns-add", addrB, "-h", "far.weave.local"))
	userRun(t, one.Weave("expose", "--publish", "8081:"+addrA+":80", "--publish", "8082:far:80"))
	ask := func(port string) error { return l.Hosts[0].AskTCP("127.0.0.1:"+port, []byte("to a container"), soon) }
	must(t, ask("8081"), ask("8082"))
	local, err := l.Hosts[0].EchoTCP("127.0.0.1:9001")
	must(t, err)
	defer local.Close()
	userRun(t, one.Weave("expose", "--import", "9000:127.0.0.1:9001"))
	must(t, b.AskTCP(exposed+":9000", []byte("to the host"), soon))
	userRun(t, one.Weave("stop"))
	if ask("8081") == nil {
		t.Error("a published port outlived the daemon")
	}
	userRun(t, one.Launch())
	eventually(t, settle, func() error { return ask("8082") })
	for _, bad := range []string{"x", "80:web", "80:web:0", "80:web:80/sctp", "80:we b:80"} {
		if r := one.Weave("expose", "--publish", bad); r.RC != 1 || !strings.Contains(r.Stderr, "invalid port") {
			t.Errorf("%q: %v", bad, r)
		}
	}
	userRun(t, one.Weave("hide"))
	if ask("8081") == nil {
		t.Error("a published port outlived the exposure")
	}
}

// Containers without another network go out by way of the user's daemon, but not to it or the host's loopback; programs of
// the host reach containers through it.
func TestRootlessEgress(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one := user(t, l.Hosts[0], "--egress")
	a, addr := box(t, one)
	outside, err := l.Hosts[1].EchoTCP(l.Hosts[1].IP + ":7000")
	must(t, err)
	defer outside.Close()
	must(t, a.AskTCP(l.Hosts[1].IP+":7000", []byte("from within"), soon))
	udp, err := l.Hosts[1].EchoUDP(l.Hosts[1].IP + ":7000")
	must(t, err)
	defer udp.Close()
	eventually(t, soon, func() error { return a.AskUDP(l.Hosts[1].IP+":7000", []byte("a datagram"), time.Second) })
	six, err := l.Hosts[1].EchoTCP("[fd99::2]:7000")
	must(t, err)
	defer six.Close()
	must(t, a.AskTCP("[fd99::2]:7000", []byte("from within"), soon))
	groups := "0 2147483647" // who may ping
	if lab.Ordinary() {
		groups = "0 0"
	}
	must(t, l.Hosts[0].Sysctl("net/ipv4/ping_group_range", groups))
	for _, to := range []string{l.Hosts[1].IP, "fd99::2"} {
		if _, err := a.Ping(to, 56, soon); err != nil {
			t.Error(err)
		}
	}
	if err := a.AskTCP("[fd99::1]:6793", []byte("x"), soon); err == nil {
		t.Error("a container reaches the daemon by IPv6")
	}
	loopback, err := l.Hosts[0].EchoTCP("[::1]:7001")
	must(t, err)
	defer loopback.Close()
	for _, to := range []string{"[::1]:7001", "[::ffff:127.0.0.1]:7001"} {
		if err := a.AskTCP(to, []byte("x"), time.Second); err == nil {
			t.Errorf("a container reaches %s of the host", to)
		}
	}
	if err := a.AskTCP(one.Address(), []byte("x"), soon); err == nil {
		t.Error("a container reaches the daemon")
	}
	inside, err := a.EchoTCP(addr + ":80")
	must(t, err)
	defer inside.Close()
	if got := userRun(t, one.Weave("ping", "-c", "2", addr)); strings.Count(got, addr+" ") != 2 {
		t.Errorf("ping printed %q", got)
	}
	if got := userRun(t, one.Run("sh", "-c", "printf hello | "+one.Bin()+" nc "+addr+" 80")); got != "hello" {
		t.Errorf("nc printed %q", got)
	}
	if got := userRun(t, one.Weave("dial", addr, "80")); !strings.HasPrefix(got, addr+":80 ") {
		t.Errorf("dial printed %q", got)
	}
	if r := one.Weave("nc", addr, "81"); r.RC != 1 || !strings.Contains(r.Stderr, "refused") {
		t.Error(r)
	}
	if r := one.Weave("ping", "nobody"); r.RC != 1 || !strings.Contains(r.Stderr, "no container is called nobody") {
		t.Error(r)
	}
	userRun(t, one.Weave("proxy", "127.0.0.1:1081"))
	if got := connectThrough(t, l.Hosts[0], "127.0.0.1:1081", addr+":80"); !strings.Contains(got, " 200 ") {
		t.Errorf("CONNECT was answered %q", got)
	}
	userRun(t, one.Weave("proxy", "--off"))
	if _, err := l.Hosts[0].Dial("127.0.0.1:1081", soon); err == nil {
		t.Error("the proxy is still there")
	}
}

// connectThrough asks an HTTP proxy for a connection and returns the first line of what it says.
func connectThrough(t *testing.T, h *lab.Host, proxy, to string) string {
	t.Helper()
	conn, err := h.Dial(proxy, soon)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(soon)))
	_, err = fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", to)
	must(t, err)
	buf := make([]byte, 200)
	n, err := conn.Read(buf)
	must(t, err)
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	return line + "\n"
}
