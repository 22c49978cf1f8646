package netnstests

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// party is a container in a network with a policy.
type party struct {
	ns      *lab.NS
	ip, ip6 string
}

// scene is two hosts with two containers each, all of them listening at ports 80 and 81.
//
//	web1, web2 ── host1 ═══ host2 ── db1, guest1
type scene struct {
	weave   func(host int, args ...string) lab.Result
	set     func(host int, text string) lab.Result
	parties map[string]party
}

func (s *scene) enter(t *testing.T, name string, ns *lab.NS, ip string) {
	t.Helper()
	ip, _, _ = strings.Cut(ip, "/")
	p := party{ns: ns, ip: ip, ip6: v6Of(t, &lab.Container{NS: ns}, ip)}
	s.parties[name] = p
	for _, ip := range []string{p.ip, p.ip6} {
		greets(t, ns, net.JoinHostPort(ip, "80"), "hey.")
		greets(t, ns, net.JoinHostPort(ip, "81"), "hey.")
		echo, err := ns.EchoUDP(net.JoinHostPort(ip, "90"))
		must(t, err)
		t.Cleanup(func() { echo.Close() })
	}
}

// rootScene is one on hosts with a bridge.
func rootScene(t *testing.T) (*scene, []*lab.Host) {
	t.Helper()
	hosts := mesh(t, lab.Config{Hosts: 3}, "--ipalloc-range", "10.40.0.0/16").Hosts
	s := &scene{
		weave:   func(host int, args ...string) lab.Result { return hosts[host-1].Weave(args...) },
		set:     func(host int, text string) lab.Result { return hosts[host-1].Policy(text) },
		parties: map[string]party{},
	}
	for i, name := range []string{"web1", "web2", "db1", "guest1"} {
		c, ip := attached(t, hosts[i/2], "--name", name)
		s.enter(t, name, c.NS, ip)
	}
	return s, hosts
}

// userScene is one of ordinary users, whose daemons hold frames against the policy themselves.
func userScene(t *testing.T) *scene {
	t.Helper()
	l := newLab(t, lab.Config{Hosts: 2})
	one := user(t, l.Hosts[0], "--ipalloc-range", "10.40.0.0/16", "--nickname", "host1")
	two := user(t, l.Hosts[1], "--ipalloc-range", "10.40.0.0/16", "--nickname", "host2", one.Address())
	users := []*lab.User{one, two}
	s := &scene{
		weave:   func(host int, args ...string) lab.Result { return users[host-1].Weave(args...) },
		set:     func(host int, text string) lab.Result { return users[host-1].Policy(text) },
		parties: map[string]party{},
	}
	for i, name := range []string{"web1", "web2", "db1", "guest1"} {
		b, ip := box(t, users[i/2], "--name", name)
		s.enter(t, name, b.NS, ip)
	}
	return s
}

// policy sets one and waits until both hosts have it.
func (s *scene) policy(t *testing.T, host int, text string) {
	t.Helper()
	if r := s.set(host, text); r.RC != 0 || r.Stderr != "" {
		t.Fatal(r)
	}
	for h := 1; h <= 2; h++ {
		eventually(t, soon, func() error {
			if r := s.weave(h, "policy", "show"); r.Stdout != text {
				return fmt.Errorf("host%d has %v", h, r)
			}
			return nil
		})
	}
}

// try connects, with TCP or as it says: udp, icmp, big (a ping in fragments).
func (s *scene) try(from, to, service string, v6 bool) error {
	a, b := s.parties[from], s.parties[to]
	ip := b.ip
	if v6 {
		ip = b.ip6
	}
	const limit = 300 * time.Millisecond
	switch service {
	case "icmp":
		_, err := a.ns.Ping(ip, 56, limit)
		return err
	case "big":
		return a.ns.PingFragments(ip, 4000, limit)
	case "udp":
		return a.ns.AskUDP(net.JoinHostPort(ip, "90"), []byte("question"), limit)
	case "bigudp":
		return a.ns.AskUDP(net.JoinHostPort(ip, "90"), make([]byte, 5000), limit)
	}
	c, err := a.ns.Dial(net.JoinHostPort(ip, service), limit)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(soon))
	_, err = io.ReadFull(c, make([]byte, 4))
	return err
}

// allows and denies check one connection, by both families. What was just set may take a moment.
func (s *scene) allows(t *testing.T, from, to, service string) {
	t.Helper()
	for _, v6 := range []bool{false, true} {
		if err := lab.Eventually(soon, func() error { return s.try(from, to, service, v6) }); err != nil {
			t.Errorf("%s should reach %s by %s (IPv6: %v): %v", from, to, service, v6, err)
		}
	}
}

func (s *scene) denies(t *testing.T, from, to, service string) {
	t.Helper()
	var both sync.WaitGroup
	for _, v6 := range []bool{false, true} {
		both.Go(func() {
			for range 2 {
				if s.try(from, to, service, v6) == nil {
					t.Errorf("%s reaches %s by %s (IPv6: %v)", from, to, service, v6)
					break
				}
			}
		})
	}
	both.Wait()
}

// matrix is what a policy must do: "web1 db1 80" is allowed, with a ! before it denied.
type matrix struct {
	name, text string
	cases      []string
}

func matrices(s *scene) []matrix {
	return []matrix{
		{
			"names", "group web name web*\ngroup db name db?\nallow web -> db tcp 80\ndefault deny\n",
			[]string{"web1 db1 80", "web2 db1 80", "!web1 db1 81", "!db1 web1 80", "!guest1 db1 80", "!web1 db1 icmp", "!web1 web2 80", "!web1 db1 udp"},
		},
		{
			"subnet", "group low subnet " + subnetsOf(s.parties["web1"]) + "\nallow low -> * tcp 80-81\nallow low -> * icmp\ndefault deny\n",
			[]string{"web1 db1 80", "web1 web2 81", "web1 guest1 icmp", "web1 db1 big", "!web2 db1 80", "!db1 web1 80", "!web2 web1 icmp"},
		},
		{
			"peer", "group here peer host1\ngroup there peer host2\nallow here -> there\ndefault deny\n",
			[]string{"web1 db1 80", "web2 guest1 81", "web1 db1 udp", "web1 db1 bigudp", "web1 db1 icmp", "!db1 web1 80", "!web1 web2 80", "!db1 guest1 icmp"},
		},
		{
			"deny", "group guests name guest*\ngroup db name db*\ndeny guests -> db tcp,udp\ndeny db -> guests tcp 81\ndefault allow\n",
			[]string{"web1 db1 80", "guest1 web1 80", "guest1 db1 icmp", "!guest1 db1 80", "!guest1 db1 udp", "!guest1 db1 bigudp", "db1 guest1 80", "!db1 guest1 81"},
		},
		{
			"order", "group web name web*\ngroup first name web1\nallow first -> * tcp 80\ndeny web -> *\nallow * -> *\ndefault deny\n",
			[]string{"web1 db1 80", "web1 web2 80", "!web2 db1 80", "!web1 db1 81", "db1 guest1 81", "db1 web1 udp"},
		},
		{
			"udp", "group web name web*\ngroup db name db*\nallow web -> db udp 90\ndefault deny\n",
			[]string{"web1 db1 udp", "web1 db1 bigudp", "!web1 db1 80", "!db1 web1 udp", "!guest1 db1 udp", "!guest1 db1 bigudp", "!web1 db1 big"},
		},
	}
}

func subnetsOf(p party) string { return p.ip + "/32," + netip.MustParseAddr(p.ip6).String() + "/128" }

// plays checks all that holds on both kinds of host.
func plays(t *testing.T, s *scene) {
	for _, m := range matrices(s) {
		t.Run(m.name, func(t *testing.T) {
			s.policy(t, 1, m.text)
			for _, c := range m.cases {
				f := strings.Fields(strings.TrimPrefix(c, "!"))
				if strings.HasPrefix(c, "!") {
					s.denies(t, f[0], f[1], f[2])
				} else {
					s.allows(t, f[0], f[1], f[2])
				}
			}
		})
	}
	t.Run("established", func(t *testing.T) { changesUnderTraffic(t, s) })
	t.Run("explained", func(t *testing.T) {
		s.policy(t, 2, "group web name web*\ngroup db name db*\nallow web -> db tcp 80\ndefault deny\n")
		r := s.weave(2, "policy", "test", "web1", "db1", "tcp/80")
		if r.RC != 0 || !strings.Contains(r.Stdout, "tcp/80 is allowed by line 3: allow web -> db tcp 80") || !strings.Contains(r.Stdout, "in web\n") {
			t.Error(r)
		}
		if r := s.weave(1, "policy", "test", "db1", s.parties["web1"].ip6, "80"); r.RC != 2 || !strings.Contains(r.Stdout, "tcp/80 is denied by default") {
			t.Error(r)
		}
		if r := s.weave(1, "policy", "test", "nobody", "db1"); r.RC != 1 || !strings.Contains(r.Stderr, `no container "nobody"`) {
			t.Error(r)
		}
		s.denies(t, "guest1", "db1", "80")
		s.allows(t, "web1", "db1", "80")
		counted(t, s, 2, "allow web -> db tcp 80")
		counted(t, s, 2, "default deny")
	})
	t.Run("clear", func(t *testing.T) {
		if r := s.weave(2, "policy", "clear"); r.RC != 0 {
			t.Fatal(r)
		}
		for _, to := range []string{"web2", "db1"} {
			s.allows(t, "web1", to, "81")
		}
		if r := s.weave(1, "policy", "test", "db1", "web1", "80"); r.RC != 0 || !strings.Contains(r.Stdout, "tcp/80 is allowed: there is no policy") {
			t.Error(r)
		}
		for h := 1; h <= 2; h++ {
			if r := s.weave(h, "policy", "status"); r.Stdout != "no policy: everything is allowed\n" {
				t.Error(r)
			}
		}
	})
}

// counted checks that a line of policy status has counted something.
func counted(t *testing.T, s *scene, host int, text string) {
	t.Helper()
	r := s.weave(host, "policy", "status")
	for line := range strings.Lines(r.Stdout) {
		f := strings.Fields(line)
		if n := len(f); strings.Contains(line, text) && n > 2 && f[n-1] != "0" && f[n-2] != "0" {
			return
		}
	}
	t.Errorf("%q has counted nothing: %v", text, r)
}

// talk sends a word by a connection that is open and waits for it to come back.
func talk(c net.Conn, limit time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// changesUnderTraffic sets policies while a connection is open: one that allows it goes on, one that does not stops it.
func changesUnderTraffic(t *testing.T, s *scene) {
	const groups = "group web name web*\ngroup db name db*\n"
	s.policy(t, 1, groups+"allow web -> db tcp 80\ndefault deny\n")
	s.allows(t, "web1", "db1", "80")
	_, c, err := greeting(s.parties["web1"].ns, net.JoinHostPort(s.parties["db1"].ip, "80"))
	must(t, err)
	defer c.Close()
	must(t, talk(c, soon))
	// The other end speaks first after a change, and is heard.
	late := speaksLater(t, s.parties["db1"].ns, s.parties["db1"].ip+":82")
	s.policy(t, 1, groups+"allow web -> db tcp 80-82\ndefault deny\n")
	w, err := s.parties["web1"].ns.Dial(net.JoinHostPort(s.parties["db1"].ip, "82"), soon)
	must(t, err)
	defer w.Close()
	s.policy(t, 1, groups+"allow web -> db tcp 80-83\nallow db -> web icmp\ndefault deny\n")
	must(t, talk(c, soon))
	late <- "news"
	_ = w.SetDeadline(time.Now().Add(soon))
	if word := make([]byte, 4); true {
		if _, err := io.ReadFull(w, word); err != nil || string(word) != "news" {
			t.Errorf("a server that speaks first after a change is heard as %q, %v", word, err)
		}
	}
	s.policy(t, 2, groups+"allow web -> db tcp 83\ndefault deny\n")
	if talk(c, time.Second) == nil {
		t.Error("a connection that is denied goes on")
	}
	s.policy(t, 2, groups+"allow web -> db tcp 80\ndefault deny\n")
	s.allows(t, "web2", "db1", "80")
}

// speaksLater accepts one connection and says what it is given.
func speaksLater(t *testing.T, n *lab.NS, addr string) chan<- string {
	t.Helper()
	l := listens(t, n, addr)
	words := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for word := range words {
			_, _ = io.WriteString(c, word)
		}
	}()
	return words
}

// Hosts with a bridge hold frames against the policy in the kernel.
func TestPolicy(t *testing.T) {
	s, hosts := rootScene(t)
	plays(t, s)
	t.Run("table", func(t *testing.T) {
		if r := hosts[0].Run(t.Context(), nil, "", "nft", "list", "table", "bridge", "weave-policy"); r.RC == 0 {
			t.Errorf("there is a table without a policy:\n%s", r.Stdout)
		}
	})
}

// Ordinary users' daemons hold frames against the policy themselves.
func TestPolicyOfUsers(t *testing.T) { plays(t, userScene(t)) }
