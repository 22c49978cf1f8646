package netnstests

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"weave/netns-tests/lab"
)

// nameServer is where a host's containers ask for names.
func nameServer(t *testing.T, h *lab.Host) string {
	t.Helper()
	args := run(t, h, "dns-args")
	m := regexp.MustCompile(`^--dns=(169\.254\.\d+\.\d+) --dns-search=weave\.local\.$`).FindStringSubmatch(args)
	if m == nil {
		t.Fatalf("dns-args prints %q", args)
	}
	return m[1]
}

// query asks a name server from inside a namespace.
func query(n *lab.NS, network, server, name string, qtype uint16) (m *mdns.Msg, err error) {
	failed := n.Do(func() error {
		q := new(mdns.Msg).SetQuestion(name, qtype)
		c := mdns.Client{Net: network, Timeout: 3 * time.Second}
		m, _, err = c.Exchange(q, net.JoinHostPort(server, "53"))
		return nil
	})
	if failed != nil {
		return nil, failed
	}
	return m, err
}

// addresses are those of an answer, sorted.
func addresses(m *mdns.Msg) (out []string) {
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *mdns.A:
			out = append(out, rr.A.String())
		case *mdns.AAAA:
			out = append(out, rr.AAAA.String())
		}
	}
	slices.Sort(out)
	return out
}

// resolves waits until a name has exactly these IPv4 addresses where a container
// is.
func resolves(t *testing.T, c *lab.Container, name string, want ...string) {
	t.Helper()
	server := nameServer(t, c.Host)
	eventually(t, soon, func() error {
		m, err := query(c.NS, "udp", server, name, mdns.TypeA)
		if err != nil {
			return err
		}
		if got := addresses(m); !slices.Equal(got, want) {
			return fmt.Errorf("%s on host%d: %v, want %v", name, c.Host.Index, got, want)
		}
		if len(want) == 0 && m.Rcode != mdns.RcodeNameError {
			return fmt.Errorf("%s on host%d: code %d, want NXDOMAIN", name, c.Host.Index, m.Rcode)
		}
		return nil
	})
}

// named makes a container with a name.
func named(t *testing.T, h *lab.Host, cidr string, flags ...string) *lab.Container {
	t.Helper()
	c, err := h.NewContainer()
	must(t, err)
	run(t, h, append(append([]string{"attach", cidr}, flags...), c.Name)...)
	return c
}

// Names of three hosts, known to all of them:
//
//	web 10.2.1.1 ── host1 ═══ host2 ── web 10.2.1.2
//	                  ╚══════ host3 ── db  10.2.1.3
func TestNamesAcrossHosts(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 3})
	h1, h2, h3 := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	c1 := named(t, h1, "10.2.1.1/24", "--name", "web")
	c3 := named(t, h3, "10.2.1.3/24", "-h", "DB.weave.local")
	c2, err := h2.NewContainer()
	must(t, err)
	server := nameServer(t, h3)
	run(t, h2, "attach", "10.2.1.2/24", "--name", "web", c2.Name)
	began := time.Now()
	eventually(t, soon, func() error {
		if m, err := query(c3.NS, "udp", server, "web.weave.local.", mdns.TypeA); err != nil || len(m.Answer) != 2 {
			return fmt.Errorf("%v, %v", m, err)
		}
		return nil
	})
	t.Logf("visible on another host %v after attach returned", time.Since(began).Round(time.Millisecond))
	for _, c := range []*lab.Container{c1, c2, c3} {
		resolves(t, c, "web.weave.local.", "10.2.1.1", "10.2.1.2")
		resolves(t, c, "db.", "10.2.1.3")
		resolves(t, c, "nobody.weave.local.")
	}
	if out := run(t, h1, "dns-lookup", "db"); out != "10.2.1.3\n" {
		t.Errorf("dns-lookup prints %q", out)
	}
	if out := run(t, h1, "dns-lookup", "nobody"); out != "" {
		t.Errorf("dns-lookup prints %q", out)
	}
	matches(t, h2, []string{"dns"}, `^DB           10\.2\.1\.3        net:\[\d{7}\S* [0-9a-f:]{17}\nweb {10}10\.2\.1\.\d {8}net:\[.*\nweb .*\n$`)
	m, err := query(c1.NS, "udp", nameServer(t, h1), "3.1.2.10.in-addr.arpa.", mdns.TypePTR)
	if err != nil || len(m.Answer) != 1 || m.Answer[0].(*mdns.PTR).Ptr != "DB.weave.local." {
		t.Errorf("the name of 10.2.1.3: %v, %v", m, err)
	}
	first := map[string]bool{}
	for range 50 {
		if m, err := query(c3.NS, "udp", server, "web.weave.local.", mdns.TypeA); err == nil {
			first[m.Answer[0].(*mdns.A).A.String()] = true
		}
	}
	if len(first) != 2 {
		t.Errorf("of two addresses only %v comes first", first)
	}
	// a name goes with its address, and with its host
	run(t, h2, "detach", "10.2.1.2/24", c2.Name)
	resolves(t, c3, "web.weave.local.", "10.2.1.1")
	must(t, h1.KillAll())
	resolves(t, c3, "web.weave.local.")
}

// A restart, and a crash, keep the names; a container takes its along:
//
//	web ── host1 (restarted) ═══ host2 ── c2
func TestNamesOverRestarts(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2})
	h1 := l.Hosts[0]
	c1 := named(t, h1, "10.2.1.1/24", "--name", "web")
	c2 := named(t, l.Hosts[1], "10.2.1.2/24")
	run(t, h1, "dns-add", c1.Name, "-h", "more.weave.local")
	run(t, h1, "dns-add", "192.0.2.1", "-h", "outside.weave.local")
	names := map[string]string{"web.": "10.2.1.1", "more.": "10.2.1.1", "outside.": "192.0.2.1"}
	for name, addr := range names {
		resolves(t, c2, name, addr)
	}
	run(t, h1, "stop")
	resolves(t, c2, "web.")
	launch(t, h1, l.Hosts[1].IP)
	for name, addr := range names {
		resolves(t, c2, name, addr)
	}
	pid, err := h1.DaemonPID()
	must(t, err, kill(pid))
	eventually(t, settle, func() error {
		if now, err := h1.DaemonPID(); err != nil || now == pid {
			return fmt.Errorf("no new daemon (pid %d): %w", now, err)
		}
		return nil
	})
	resolves(t, c2, "web.", "10.2.1.1")
	must(t, c1.Close())
	eventually(t, settle, func() error {
		if out := run(t, l.Hosts[1], "status", "dns"); strings.Contains(out, "web") || !strings.Contains(out, "outside") {
			return fmt.Errorf("status dns: %s", out)
		}
		return nil
	})
}

// One name, first for one container, then for another; and without containers:
//
//	c1, c2 ── host1
func TestHotSwap(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	c1, c2 := named(t, h, "10.2.1.1/24"), named(t, h, "10.2.1.2/24")
	run(t, h, "dns-add", c1.Name, "-h", "svc.weave.local", "--service", "http/tcp/80")
	resolves(t, c2, "svc.", "10.2.1.1")
	run(t, h, "dns-add", c2.Name, "-h", "svc.weave.local")
	resolves(t, c2, "svc.", "10.2.1.1", "10.2.1.2")
	m, err := query(c2.NS, "tcp", nameServer(t, h), "_http._tcp.svc.weave.local.", mdns.TypeSRV)
	if err != nil || len(m.Answer) != 1 || m.Answer[0].(*mdns.SRV).Port != 80 {
		t.Errorf("service: %v, %v", m, err)
	}
	run(t, h, "dns-remove", c1.Name, "-h", "svc.weave.local")
	resolves(t, c2, "svc.", "10.2.1.2")
	run(t, h, "dns-remove", c2.Name)
	resolves(t, c2, "svc.")
	run(t, h, "dns-add", "10.2.1.9", "-h", "foo.sub.weave.local")
	resolves(t, c1, "foo.sub.weave.local.", "10.2.1.9")
	run(t, h, "dns-remove", "10.2.1.9", "-h", "foo.sub.weave.local")
	resolves(t, c1, "foo.sub.weave.local.")
	run(t, h, "dns-add", "10.2.1.9", "-h", "elsewhere.example.com") // left out without a word
	if out := run(t, h, "status", "dns"); out != "" {
		t.Errorf("status dns prints %q", out)
	}
	refused(t, h, 1, "Usage", "dns-add", "10.2.1.9")
	refused(t, h, 1, "character", "dns-add", "10.2.1.9", "-h", "a b.weave.local")
	refused(t, h, 1, "invalid name", "attach", "10.2.1.8/24", "--name", "a b", c1.Name)
	refused(t, h, 1, "not attached", "dns-add", "nobody", "-h", "x.weave.local")
}

// Fifty records do not fit into a datagram of 512 bytes; over TCP all come. What
// resolvers send side by side is answered side by side, at once:
//
//	c1 ── host1, dual-stack
func TestNamesAsResolversAsk(t *testing.T) {
	if lab.Ordinary() {
		t.Skip("/etc/netns is root's")
	}
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	c, err := h.NewContainer()
	must(t, err)
	run(t, h, "attach", "--name", "web", c.Name)
	for i := range 50 {
		run(t, h, "dns-add", fmt.Sprintf("10.2.1.%d", i+1), "-h", "many.weave.local")
	}
	server := nameServer(t, h)
	if m, err := query(c.NS, "udp", server, "many.", mdns.TypeA); err != nil || !m.Truncated || len(m.Answer) == 0 {
		t.Errorf("over UDP: %v, %v", m, err)
	}
	if m, err := query(c.NS, "tcp", server, "many.", mdns.TypeA); err != nil || m.Truncated || len(m.Answer) != 50 {
		t.Errorf("over TCP: %v, %v", m, err)
	}
	if m, err := query(c.NS, "udp", server, "web.weave.local.", mdns.TypeAAAA); err != nil || len(addresses(m)) != 1 {
		t.Errorf("AAAA: %v, %v", m, err)
	}
	if m, err := query(c.NS, "udp", server, "many.weave.local.", mdns.TypeAAAA); err != nil || m.Rcode != 0 || len(m.Answer) != 0 {
		t.Errorf("no AAAA: %v, %v", m, err)
	}
	must(t, c.Do(func() error { return sideBySide(server, 1) })) // glibc: A and AAAA on one socket
	must(t, c.Do(func() error { return sideBySide(server, 3) })) // musl: each to every server of resolv.conf
	getent(t, h, c)
}

// sideBySide sends A and AAAA at once, several times, and wants an answer to
// each within a second.
func sideBySide(server string, times int) error {
	s, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return err
	}
	defer s.Close()
	to, err := net.ResolveUDPAddr("udp4", net.JoinHostPort(server, "53"))
	if err != nil {
		return err
	}
	for range 20 {
		waiting := map[uint16]int{1: times, 2: times}
		for id, qtype := range map[uint16]uint16{1: mdns.TypeA, 2: mdns.TypeAAAA} {
			q := new(mdns.Msg).SetQuestion("web.weave.local.", qtype)
			q.Id = id
			raw, err := q.Pack()
			if err != nil {
				return err
			}
			for range times {
				if _, err := s.WriteTo(raw, to); err != nil {
					return err
				}
			}
		}
		_ = s.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 1500)
		for range 2 * times {
			if _, _, err := s.ReadFrom(buf); err != nil {
				return fmt.Errorf("answers to %v are missing: %w", waiting, err)
			}
			waiting[binary.BigEndian.Uint16(buf)]--
		}
	}
	return nil
}

// getent has the C library look a name up by a resolv.conf that attach wrote.
func getent(t *testing.T, h *lab.Host, c *lab.Container) {
	t.Helper()
	dir := filepath.Join("/etc/netns", c.Name)
	defer os.RemoveAll(dir)
	run(t, h, "attach", "--resolv-conf", "--name", "web", c.Name)
	text, err := os.ReadFile(filepath.Join(dir, "resolv.conf"))
	must(t, err)
	if !strings.Contains(string(text), "search weave.local\n") {
		t.Errorf("resolv.conf is %q", text)
	}
	began := time.Now()
	r := c.Run(t.Context(), nil, "", "ip", "netns", "exec", c.Name, "getent", "ahosts", "web")
	if r.RC != 0 || !strings.Contains(r.Stdout, "10.32.0.1") || !strings.Contains(r.Stdout, "fd") {
		t.Errorf("getent: %v", r)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("getent took %v", took)
	}
	must(t, os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 192.0.2.1\n"), 0o644))
	refused(t, h, 1, "not ours", "attach", "--resolv-conf", c.Name)
}

// Names of others come from the host's name servers, and from a cache:
//
//	upstream 10.99.0.254:53 ── host1 ── c1
func TestUpstreamAndNeighbours(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	h := l.Hosts[0]
	asked := make(chan string, 100)
	var up net.PacketConn
	must(t, l.Under.Do(func() (err error) {
		up, err = net.ListenPacket("udp4", "10.99.0.254:53")
		return err
	}))
	server := &mdns.Server{PacketConn: up, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		asked <- q.Question[0].Name
		r := new(mdns.Msg).SetReply(q)
		r.Answer = append(r.Answer, &mdns.A{
			Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1),
		})
		_ = w.WriteMsg(r)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	file := filepath.Join(l.Dir, "resolv.conf")
	must(t, os.WriteFile(file, []byte("nameserver 10.99.0.254\n"), 0o644))
	launch(t, h, "--resolv-conf", file)
	c := named(t, h, "10.2.1.1/24", "--name", "web")
	at := nameServer(t, h)
	for range 3 {
		if m, err := query(c.NS, "udp", at, "www.example.com.", mdns.TypeA); err != nil || !slices.Equal(addresses(m), []string{"192.0.2.1"}) {
			t.Errorf("upstream: %v, %v", m, err)
		}
	}
	if m, err := query(c.NS, "udp", at, "nobody.weave.local.", mdns.TypeA); err != nil || m.Rcode != mdns.RcodeNameError {
		t.Errorf("in the domain: %v, %v", m, err)
	}
	if n := len(asked); n != 1 {
		t.Errorf("the upstream server was asked %d times", n)
	}
	matches(t, h, nil, `(?s)Upstream: 10\.99\.0\.254\n.*Entries: 1\n`)
	must(t, os.WriteFile(file, []byte("nameserver 10.99.0.253\nnameserver 10.99.0.254\n"), 0o644))
	matches(t, h, nil, `(?s)Upstream: 10\.99\.0\.253, 10\.99\.0\.254\n`)
	if m, err := query(c.NS, "udp", at, "other.example.com.", mdns.TypeA); err != nil || len(m.Answer) != 1 {
		t.Errorf("with a dead server before: %v, %v", m, err)
	}
	if out := run(t, h, "dns-setup"); !strings.Contains(out, at) {
		t.Errorf("dns-setup prints %q", out)
	}
	run(t, h, "reset")
	if r := h.Run(t.Context(), nil, "", "ip", "rule"); strings.Contains(r.Stdout, "169.254") {
		t.Errorf("reset left rules: %s", r.Stdout)
	}
}

// Another server has port 53 of all addresses, as dnsmasq has by default:
//
//	c1 ── host1 (somebody at *:53)
func TestBesideAnotherNameServer(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	must(t, h.Do(func() error {
		udp, err := net.ListenPacket("udp4", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = udp.Close() })
		tcp, err := net.Listen("tcp4", ":53")
		if err == nil {
			t.Cleanup(func() { _ = tcp.Close() })
		}
		return err
	}))
	launch(t, h)
	c := named(t, h, "10.2.1.1/24", "--name", "web")
	for _, n := range []*lab.NS{c.NS, h.NS} {
		for _, network := range []string{"udp", "tcp"} {
			if m, err := query(n, network, nameServer(t, h), "web.weave.local.", mdns.TypeA); err != nil || len(m.Answer) != 1 {
				t.Errorf("%s in %s: %v, %v", network, n.Name, m, err)
			}
		}
	}
	run(t, h, "reset")
	if r := h.Run(t.Context(), nil, "", "nft", "list", "tables"); r.Stdout != "" {
		t.Errorf("reset left %s", r.Stdout)
	}
}

// Without names nothing of them is there.
func TestNoNames(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "--no-dns")
	if out := run(t, h, "dns-args"); out != "" {
		t.Errorf("dns-args prints %q", out)
	}
	if out := run(t, h, "status"); strings.Contains(out, "dns") {
		t.Errorf("status prints %q", out)
	}
	refused(t, h, 1, "Invalid", "status", "dns")
	c, err := h.NewContainer()
	must(t, err)
	refused(t, h, 1, "switched off", "attach", "10.2.1.1/24", "--name", "a", c.Name)
	if _, there := look(t, c.NS, "ethwe"); there {
		t.Error("a refused attach left ethwe behind")
	}
	refused(t, h, 4, "", "dns-add", "10.2.1.1", "-h", "a.weave.local")
}
