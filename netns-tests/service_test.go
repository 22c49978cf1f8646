package netnstests

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// greets serves connections by saying a word and then sending back what comes.
func greets(t *testing.T, n *lab.NS, addr, word string) net.Listener {
	t.Helper()
	l := listens(t, n, addr)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, word)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l
}

// greeting dials and returns the word, of four letters, and the open connection.
func greeting(n *lab.NS, addr string) (string, net.Conn, error) {
	c, err := n.Dial(addr, 500*time.Millisecond)
	if err != nil {
		return "", nil, err
	}
	_ = c.SetDeadline(time.Now().Add(soon))
	word := make([]byte, 4)
	if _, err := io.ReadFull(c, word); err != nil {
		c.Close()
		return "", nil, err
	}
	return string(word), c, nil
}

// greeted waits until as many as twenty connections in a row are answered by exactly these.
func greeted(t *testing.T, n *lab.NS, addr string, want ...string) {
	t.Helper()
	eventually(t, settle, func() error {
		var got []string
		for range 20 {
			word, c, err := greeting(n, addr)
			if err != nil {
				return fmt.Errorf("%s from %s: %w", addr, n.Name, err)
			}
			c.Close()
			got = append(got, word)
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			return fmt.Errorf("%s is answered by %v, want %v", addr, got, want)
		}
		return nil
	})
}

// lists waits until service list has exactly these lines.
func lists(t *testing.T, h *lab.Host, want ...string) {
	t.Helper()
	eventually(t, settle, func() error {
		got := strings.TrimSpace(h.Weave("service", "list").Stdout)
		if got != strings.Join(want, "\n") {
			return fmt.Errorf("service list prints\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
		return nil
	})
}

// serviceShown checks what metrics and report say of two targets at port 80 of an export at 8080: the first is down, the second is called second and up.
func serviceShown(t *testing.T, one *lab.Host, ip1, ip2 string) {
	t.Helper()
	for target, up := range map[string]int{ip1: 0, ip2: 1} {
		named := map[string]string{ip1: ip1, ip2: "second"}[target]
		name := fmt.Sprintf(`weave_service_target_up{address="%s:80",kind="export",protocol="tcp",service="8080",target="%s:80"}`, target, named)
		if got, line := metric(t, one, name); got != up || line == "" {
			t.Errorf("metrics have %q of %s", line, name)
		}
	}
	if got := run(t, one, "report", "-f", "{{range .Services}}{{.Kind}} {{.At}} {{.Address}} {{.State}}, {{end}}"); !strings.Contains(got, "export 8080 "+ip1+":80 down, export 8080 "+ip2+":80 up, ") {
		t.Errorf("report has %q", got)
	}
}

// A port of a host leads to containers of two hosts, whatever drops what it does not know there.
//
//	outside (host3) ── host1 :8080 ── c1
//	                   host2 ──────── c2
func TestServiceExport(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	one, two, outside := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	system(t, one.NS, "iptables", "-P", "FORWARD", "DROP")
	system(t, one.NS, "ip6tables", "-P", "FORWARD", "DROP")
	launch(t, one)
	launch(t, two, one.IP)
	waitMesh(t, one, two)
	c1, ip1 := attached(t, one)
	c2, ip2 := attached(t, two, "--name", "second")
	refused(t, one, 1, "'weave expose' first", "service", "export", "8080", ip1+":80")
	lists(t, one)
	gateway := strings.TrimSpace(run(t, one, "expose"))
	first := greets(t, c1.NS, ":80", "one.")
	greets(t, c2.NS, ":80", "two.")
	at := one.IP + ":8080"
	run(t, one, "service", "export", "8080", ip1+":80", "second:80")
	run(t, one, "service", "export", "8080", ip1+":80", "second:80") // once more
	refused(t, one, 1, "'weave service bind' gives it other targets", "service", "export", "8080", ip1+":80")
	v62 := v6Of(t, c2, ip2)
	lists(t, one, "export tcp 8080 "+ip1+":80 "+ip1+":80 up", "export tcp 8080 second:80 "+ip2+":80 up", "export tcp 8080 second:80 ["+v62+"]:80 up")
	greeted(t, outside.NS, at, "one.", "two.")
	greeted(t, one.NS, at, "one.", "two.")
	greeted(t, c1.NS, gateway+":8080", "one.", "two.") // there and back by the host
	greeted(t, outside.NS, "["+one.IP6+"]:8080", "two.")
	t.Run("health", func(t *testing.T) {
		first.Close()
		greeted(t, outside.NS, at, "two.")
		if got := run(t, one, "service", "list"); !strings.Contains(got, ip1+":80 down") {
			t.Errorf("list prints\n%s", got)
		}
		serviceShown(t, one, ip1, ip2)
	})
	greets(t, c1.NS, ":80", "one.")
	greeted(t, outside.NS, at, "one.", "two.")
	t.Run("bind", func(t *testing.T) {
		run(t, one, "service", "bind", "8080", "second:80")
		_, open, err := greeting(outside.NS, at)
		must(t, err)
		defer open.Close()
		run(t, one, "service", "bind", "8080", ip1+":80")
		greeted(t, outside.NS, at, "one.")
		_, err = io.WriteString(open, "still there")
		must(t, err)
		answer := make([]byte, len("still there"))
		if _, err := io.ReadFull(open, answer); err != nil || string(answer) != "still there" {
			t.Errorf("a connection to the target before says %q, %v", answer, err)
		}
	})
	t.Run("restart", func(t *testing.T) {
		rules := nft(t, one, "-s", "list", "table", "inet", "weave")
		pid, err := one.DaemonPID()
		must(t, err, kill(pid))
		if word, c, err := greeting(outside.NS, at); err != nil || word != "one." { // without a daemon
			t.Errorf("%q, %v", word, err)
		} else {
			c.Close()
		}
		lists(t, one, "export tcp 8080 "+ip1+":80 "+ip1+":80 up")
		if got := nft(t, one, "-s", "list", "table", "inet", "weave"); got != rules {
			t.Errorf("the rules are\n%s, before\n%s", got, rules)
		}
	})
	t.Run("udp", func(t *testing.T) {
		echo, err := c1.EchoUDP(ip1 + ":53")
		must(t, err)
		defer echo.Close()
		run(t, one, "service", "export", one.IP+":5353/udp", ip1+":53")
		must(t, outside.AskUDP(one.IP+":5353", []byte("question"), soon))
		run(t, one, "service", "remove", one.IP+":5353/udp")
	})
	if got := run(t, one, "report", "-f", "{{range .Services}}{{.Kind}} {{.At}} {{.State}}{{end}}"); got != "export 8080 up" {
		t.Errorf("report has %q", got)
	}
	run(t, one, "service", "remove", "8080")
	lists(t, one)
	if _, c, err := greeting(outside.NS, at); err == nil {
		c.Close()
		t.Error("a removed service answers")
	}
}

// Two networks that know nothing of each other, with the same addresses, have a port in common by an export here and an
// import there.
//
//	c1 ── host1 :8080 ·· host2 ── c2
func TestServiceJoinsNetworks(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one, two := l.Hosts[0], l.Hosts[1]
	launch(t, one)
	launch(t, two)
	c1, ip1 := attached(t, one)
	c2, ip2 := attached(t, two)
	if ip1 != ip2 {
		t.Fatalf("they have %s and %s", ip1, ip2)
	}
	greets(t, c1.NS, ":80", "one.")
	run(t, one, "expose")
	gateway := strings.TrimSpace(run(t, two, "expose"))
	run(t, one, "service", "export", "8080", ip1+":80")
	run(t, two, "service", "import", "web:80", one.IP+":8080")
	resolves(t, c2, "web.weave.local.", gateway)
	greeted(t, c2.NS, gateway+":80", "one.")
}

// What is outside has a name in the network.
//
//	outside ── host1 ── c1
func TestServiceImport(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one, outside := l.Hosts[0], l.Hosts[1]
	launch(t, one)
	c, _ := attached(t, one)
	gateway := strings.TrimSpace(run(t, one, "expose"))
	seen := serves(t, outside.NS, outside.IP+":5432")
	greets(t, outside.NS, outside.IP+":5433", "two.")
	run(t, one, "service", "import", "db", outside.IP+":5432")
	lists(t, one, "import tcp db:5432 "+outside.IP+":5432 "+outside.IP+":5432 up")
	resolves(t, c, "db.weave.local.", gateway)
	for len(seen) > 0 { // what tried the target
		<-seen
	}
	conn, err := c.Dial(gateway+":5432", soon)
	must(t, err)
	conn.Close()
	if from := <-seen; from != one.IP {
		t.Errorf("the connection comes from %s", from)
	}
	run(t, one, "service", "bind", "db", outside.IP+":5433")
	greeted(t, c.NS, gateway+":5432", "two.")
	run(t, one, "expose", "10.7.7.7/24") // one more address to have the name
	eventually(t, settle, func() error {
		if got := strings.Fields(run(t, one, "dns-lookup", "db")); len(got) != 2 {
			return fmt.Errorf("db is %v", got)
		}
		return nil
	})
	run(t, one, "hide", "10.7.7.7/24")
	resolves(t, c, "db.weave.local.", gateway)
	run(t, one, "stop")
	launch(t, one)
	greeted(t, c.NS, gateway+":5432", "two.")
	resolves(t, c, "db.weave.local.", gateway)
	run(t, one, "service", "remove", "db")
	eventually(t, soon, func() error {
		if got := run(t, one, "dns-lookup", "db"); got != "" {
			return fmt.Errorf("a removed service is %q", got)
		}
		return nil
	})
}

// The same without root: the daemon carries the connections.
//
//	outside (host2) ── host1, one ── a, b
func TestRootlessService(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	h, outside := l.Hosts[0], l.Hosts[1]
	one := user(t, h)
	a, addrA := box(t, one)
	b, addrB := box(t, one)
	if r := one.Weave("service", "export", "8080", addrA+":80"); r.RC != 1 || !strings.Contains(r.Stderr, "'weave expose' first") {
		t.Error(r)
	}
	gateway := strings.TrimSpace(userRun(t, one.Weave("expose")))
	first := greets(t, a.NS, ":80", "one.")
	greets(t, b.NS, ":80", "two.")
	userRun(t, one.Weave("service", "export", "8080", addrA+":80", addrB+":80"))
	at := h.IP + ":8080"
	greeted(t, outside.NS, at, "one.", "two.")
	_, open, err := greeting(outside.NS, at)
	must(t, err)
	defer open.Close()
	held{open}.asks(t, soon)
	first.Close()
	greeted(t, outside.NS, at, "two.")
	eventually(t, settle, func() error {
		if got := userRun(t, one.Weave("service", "list")); !strings.Contains(got, addrA+":80 down") || !strings.Contains(got, addrB+":80 up") {
			return fmt.Errorf("list prints\n%s", got)
		}
		return nil
	})
	greets(t, a.NS, ":80", "one.")
	userRun(t, one.Weave("service", "bind", "8080", addrA+":80"))
	greeted(t, outside.NS, at, "one.")
	held{open}.asks(t, soon) // bound elsewhere, what is connected goes on
	greets(t, outside.NS, ":5432", "out.")
	userRun(t, one.Weave("service", "import", "db", outside.IP+":5432"))
	greeted(t, a.NS, gateway+":5432", "out.")
	if got := strings.TrimSpace(userRun(t, one.Weave("dns-lookup", "db"))); got != gateway {
		t.Errorf("db is %q", got)
	}
	echo, err := a.EchoUDP(addrA + ":53")
	must(t, err)
	defer echo.Close()
	userRun(t, one.Weave("service", "export", "127.0.0.1:5353/udp", addrA+":53"))
	must(t, h.AskUDP("127.0.0.1:5353", []byte("question"), soon))
	if r := one.Weave("service", "export", "80", addrA+":80"); r.RC != 1 || !strings.Contains(r.Stderr, "denied") {
		t.Errorf("a privileged port: %v", r)
	}
	userRun(t, one.Weave("stop"))
	userRun(t, one.Launch())
	greeted(t, outside.NS, at, "one.")
	greeted(t, a.NS, gateway+":5432", "out.")
	userRun(t, one.Weave("service", "remove", "8080", "db"))
	eventually(t, soon, func() error {
		if _, c, err := greeting(outside.NS, at); err == nil {
			c.Close()
			return fmt.Errorf("a removed service answers")
		}
		return nil
	})
}

// What cannot be led is said.
func TestServiceRefusals(t *testing.T) {
	one := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, one)
	_, ip := attached(t, one)
	run(t, one, "expose")
	for _, bad := range []struct {
		says  string
		words []string
	}{
		{"Usage", nil},
		{"Usage", []string{"export", "80"}},
		{"Usage", []string{"mend", "80", ip + ":80"}},
		{"invalid service", []string{"export", "70000", ip + ":80"}},
		{"invalid service", []string{"export", "80/sctp", ip + ":80"}},
		{"invalid service", []string{"export", "10.1.1.1", ip + ":80"}},
		{"invalid target", []string{"export", "80", ip}},
		{"invalid target", []string{"export", "80", "a b:80"}},
		{"given twice", []string{"export", "80", ip + ":80", ip + ":80"}},
		{"and not the name db", []string{"export", "db", ip + ":80"}},
		{"has a name", []string{"import", "80", ip + ":80"}},
		{"no loopback", []string{"export", "127.0.0.1:80", ip + ":80"}},
		{"of weave itself", []string{"export", "6783", ip + ":80"}},
		{"in no subnet", []string{"export", "80", "10.99.0.1:80"}},
		{"no service 80", []string{"bind", "80", ip + ":80"}},
		{"no service db", []string{"remove", "db"}},
	} {
		refused(t, one, 1, bad.says, append([]string{"service"}, bad.words...)...)
	}
	lists(t, one)
	if r := one.Weave("service", "export", "80", "nobody:80"); r.RC != 0 || !strings.Contains(r.Stderr, "WARNING: target nobody:80 has no address now") {
		t.Error(r)
	}
	refused(t, one, 1, "'weave service bind'", "service", "export", "80", ip+":80")
	refused(t, one, 1, "is that of service 80", "service", "export", one.IP+":80", ip+":80")
	lists(t, one, "export tcp 80 nobody:80 - down")
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	before := one.Run(ctx, nil, "", "nft", "list", "tables").Stdout
	run(t, one, "reset")
	if got := nft(t, one, "list", "tables"); strings.Contains(got, "weave") {
		t.Errorf("reset left %s of %s", got, before)
	}
}
