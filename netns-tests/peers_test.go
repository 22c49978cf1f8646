package netnstests

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// One known address is enough:
//
//	host2 ──► host1 ◄── host3       what they are told
//	host1 ═ host2 ═ host3 ═ host1   what becomes of it
func TestOneAddressMakesAFullMesh(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 3})
	for _, h := range l.Hosts {
		matches(t, h, nil, `(?s)    Connections: 2 \(2 established\)\n          Peers: 3 \(with 6 established connections\)\n`)
	}
}

// connect adds, forget stops dialling, --replace puts a new list in place:
//
//	host1   host2   host3      nobody is told of anybody; no discovery
func TestConnectForgetReplace(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	for _, x := range h {
		launch(t, x, "--no-discovery")
	}
	targets := func(want string) {
		t.Helper()
		if got := strings.Join(strings.Fields(run(t, h[0], "status", "targets")), " "); got != want {
			t.Errorf("targets %q, want %q", got, want)
		}
	}
	silent := func(args ...string) {
		t.Helper()
		if out := run(t, h[0], args...); out != "" {
			t.Errorf("weave %v printed %q", args, out)
		}
	}
	silent("connect", h[1].IP)
	waitConnected(t, h[0], 1)
	targets(h[1].IP)
	silent("forget", h[1].IP, "10.99.0.99")
	targets("")
	if n, text := established(h[0]); n != 1 {
		t.Errorf("forget ended a connection: %s", text)
	}
	silent("connect", h[1].IP)
	silent("connect", "--replace", h[2].IP)
	targets(h[2].IP)
	eventually(t, settle, func() error {
		if r := h[0].Weave("status", "connections"); !regexp.MustCompile(`-> 10\.99\.0\.3:6783 +established`).MatchString(r.Stdout) {
			return fmt.Errorf("not connected to host3: %v", r)
		}
		return nil
	})
}

// Names that cannot be resolved or parsed are refused, the rest of the same
// command is done all the same.
//
//	host1 ──► host2, nonsense
func TestBadPeerNames(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	h := l.Hosts
	launch(t, h[0])
	launch(t, h[1])
	refused(t, h[0], 1, "no-such-host.invalid", "connect", "no-such-host.invalid", h[1].IP)
	waitConnected(t, h[0], 1)
	refused(t, h[0], 1, `invalid peer name "a:b:c", should be host[:port]`, "connect", "a:b:c")
}

// A stranger does not get in and does not disturb:
//
//	host1 ═══ host2        password "right"
//	  ▲
//	host3                  another password, or none
func TestStrangersStayOutside(t *testing.T) {
	for what, c := range map[string]struct {
		password []string
		text     string // on one of the two sides
	}{
		"wrong password": {[]string{"--password", "wrong"}, ``},
		"no password": {nil, `password specified, but peer requested an unencrypted connection|` +
			`no password specificed, but peer requested an encrypted connection`},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, lab.Config{Hosts: 3})
			h := l.Hosts
			launch(t, h[0], "--password", "right")
			launch(t, h[1], "--password", "right", h[0].IP)
			waitMesh(t, h[0], h[1])
			launch(t, h[2], append(c.password, h[0].IP)...)
			// it must be told why, in `status connections`
			matches(t, h[2], []string{"connections"}, `(?m)^-> 10\.99\.0\.1:6783 +(failed|retrying) +\S.*retry: `)
			eventually(t, soon, func() error {
				seen := h[2].Weave("status", "connections").Stdout + h[2].Log() + h[0].Log()
				if !regexp.MustCompile(c.text).MatchString(seen) {
					return fmt.Errorf("%q is nowhere in:\n%s", c.text, seen)
				}
				return nil
			})
			if err := lab.Steadily(time.Second, func() error {
				if n, text := established(h[2]); n != 0 {
					return fmt.Errorf("the stranger is in: %s", text)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			waitMesh(t, h[0], h[1])
		})
	}
}

// The same full list may be given to every host:
//
//	host1 ──► host1, host2      host2 ──► host1, host2
func TestOwnAddressAmongThePeers(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	for _, h := range l.Hosts {
		launch(t, h, l.Hosts[0].IP, l.Hosts[1].IP)
	}
	waitMesh(t, l.Hosts...)
	for _, h := range l.Hosts {
		matches(t, h, []string{"connections"},
			`(?m)^-> `+regexp.QuoteMeta(fmt.Sprintf("%-21s", h.IP+":6783"))+` failed      cannot connect to ourself, retry: never *$`)
	}
}

// Two hosts of one name never connect; the third is not disturbed:
//
//	host1 (::1) ──X── host2 (::1)
//	      ╚═══ host3
func TestNameCollision(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	launch(t, h[0], "--name", "::1")
	launch(t, h[2], h[0].IP)
	waitMesh(t, h[0], h[2])
	launch(t, h[1], "--name", "::1", h[0].IP)
	const one = "00:00:00:00:00:01"
	matches(t, h[1], []string{"connections"}, `local "`+one+`\(host2\)" and remote "`+one+`\(host1\)" peer names collision`)
	if n, text := established(h[1]); n != 0 {
		t.Errorf("host2 is in: %s", text)
	}
	waitMesh(t, h[0], h[2])
}

// The peer's key and name are made once:
//
//	host1, launched three times
func TestNameSurvives(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	first := name(t, h)
	if !regexp.MustCompile(`^` + mac + `$`).MatchString(first) {
		t.Fatalf("name %q", first)
	}
	run(t, h, "stop")
	launch(t, h)
	if again := name(t, h); again != first {
		t.Errorf("after stop and launch: %s, before: %s", again, first)
	}
	must(t, h.KillAll())
	launch(t, h)
	if again := name(t, h); again != first {
		t.Errorf("after kill -9 and launch: %s, before: %s", again, first)
	}
}

// Without discovery only what is asked for is connected, and the one in the middle passes on:
//
//	c1 ── host1 ═══ host3 ═══ host2 ── c2
func TestNoDiscovery(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	launch(t, h[2], "--no-discovery")
	for _, x := range h[:2] {
		launch(t, x, "--no-discovery", h[2].IP)
	}
	waitConnected(t, h[2], 2)
	joinPair(t, l)
	for _, x := range h[:2] {
		if n, text := established(x); n != 1 {
			t.Errorf("host%d: %s", x.Index, text)
		}
	}
	matches(t, h[0], nil, `PeerDiscovery: disabled\n`)
}

// A limit of connections is kept, and who finds it reached is reached through others:
//
//	host1 ═══ host2 ═══ host3     host1: one connection at most
func TestConnLimit(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	launch(t, h[0], "--conn-limit", "1")
	launch(t, h[1], h[0].IP)
	waitMesh(t, h[:2]...)
	launch(t, h[2], h[0].IP, h[1].IP)
	waitConnected(t, h[1], 2)
	shows(t, h[2], settle, "Connection limit reached (1)")
	c1, _ := container(t, h[0], "10.2.1.1/24"), container(t, h[2], "10.2.1.3/24")
	pings(t, c1, "10.2.1.3", settle)
	waitConnected(t, h[0], 1)
}

// What was connected by hand is remembered for launch --resume, and only for that:
//
//	host1   host2
func TestResume(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	h := l.Hosts
	launch(t, h[0])
	launch(t, h[1], "--no-discovery")
	run(t, h[1], "connect", h[0].IP)
	waitConnected(t, h[1], 1)
	run(t, h[1], "stop")
	refused(t, h[1], 1, "You must not specify an initial peer list in conjunction with --resume", "launch", "--resume", h[0].IP)
	launch(t, h[1], "--no-discovery", "--resume")
	waitConnected(t, h[1], 1)
	if got := run(t, h[1], "status", "targets"); got != h[0].IP+"\n" {
		t.Errorf("targets %q", got)
	}
	run(t, h[1], "stop")
	launch(t, h[1], "--no-discovery")
	if got := run(t, h[1], "status", "targets"); got != "" {
		t.Errorf("targets %q without --resume", got)
	}
}
