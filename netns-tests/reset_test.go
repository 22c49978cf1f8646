package netnstests

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// Numbers of interfaces that come and go, and times.
var (
	linkNumber = regexp.MustCompile(`(?m)^\d+: `)
	lifetime   = regexp.MustCompile(`(valid_lft|preferred_lft) \S+|expires \d+sec|timer +[\d.]+`)
)

// everythingOf is what the kernel has in a namespace that weave could have changed.
func everythingOf(t *testing.T, n *lab.NS) string {
	t.Helper()
	var all strings.Builder
	for _, words := range [][]string{
		{"ip", "-d", "link"},
		{"ip", "addr"},
		{"ip", "rule"},
		{"ip", "-6", "rule"},
		{"ip", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"},
		{"bridge", "fdb"},
		{"nft", "-s", "list", "ruleset"},
		{"iptables-save"},
		{"ip6tables-save"},
	} {
		all.WriteString("# " + strings.Join(words, " ") + "\n")
		for line := range strings.Lines(system(t, n, words...)) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") { // comments with times, chains with counters
				all.WriteString(lifetime.ReplaceAllString(linkNumber.ReplaceAllString(line, ""), ""))
			}
		}
	}
	return all.String()
}

// differing are the lines that only one of two texts has.
func differing(a, b string) string {
	has := map[string]bool{}
	for line := range strings.Lines(b) {
		has[line] = true
	}
	var out strings.Builder
	for line := range strings.Lines(a) {
		if !has[line] {
			out.WriteString(line)
		}
	}
	return out.String()
}

// sameAs tells how two texts differ.
func sameAs(before, after string) error {
	if before == after {
		return nil
	}
	return fmt.Errorf("gone:\n%sleft:\n%s", differing(before, after), differing(after, before))
}

// A reset takes away every device, address, route, rule and set of ours, on the host and in its containers, and nothing else:
// neither Docker's rules nor a stranger's.
func TestResetLeavesWhatWasThere(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one, two := l.Hosts[0], l.Hosts[1]
	dockerRules(t, one)
	system(t, one.NS, "nft", "add table inet stranger; add chain inet stranger c { type filter hook forward priority 5; policy drop; }; "+
		"add set inet stranger s { type ipv4_addr; elements = { 10.32.0.1 } }; add table bridge stranger; add chain bridge stranger c")
	system(t, one.NS, "ip", "link", "add", "stranger", "type", "bridge")
	system(t, one.NS, "ip", "rule", "add", "from", "192.0.2.1", "table", "77")
	c, err := one.NewContainer()
	must(t, err)
	system(t, c.NS, "nft", "add table inet stranger")
	// Forwarding stays on: others may need it by now (docs/exposing.md).
	must(t, one.Sysctl("net/ipv4/ip_forward", "1"), one.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	eventually(t, soon, func() error {
		if text := system(t, one.NS, "ip", "addr"); strings.Contains(text, "tentative") {
			return fmt.Errorf("still looking for doubles:\n%s", text)
		}
		return nil
	})
	host, inside := everythingOf(t, one.NS), everythingOf(t, c.NS)
	launch(t, one)
	launch(t, two, one.IP)
	waitMesh(t, one, two)
	ip := attachTo(t, one, c, "--name", "c")
	_, farIP := attached(t, two)
	pings(t, c, farIP, settle)
	run(t, one, "expose")
	run(t, one, "expose", "10.7.0.1/24", "--without-masquerade")
	greets(t, c.NS, ":80", "one.")
	greets(t, two.NS, ":5432", "two.")
	run(t, one, "service", "export", "8080", ip+":80")
	run(t, one, "service", "import", "db", two.IP+":5432")
	userRun(t, one.Policy("group web name c\nallow * -> web tcp 80\ndefault deny\n"))
	eventually(t, settle, func() error {
		if r := one.Run(t.Context(), nil, "", "nft", "list", "tables"); !strings.Contains(r.Stdout, "bridge weave") {
			return fmt.Errorf("the policy is not enforced: %v", r)
		}
		return overlays(one, "fastdp", 1)
	})
	if everythingOf(t, one.NS) == host || everythingOf(t, c.NS) == inside {
		t.Fatal("nothing has changed that a reset could take away")
	}
	run(t, one, "reset")
	eventually(t, soon, func() error { return sameAs(host, everythingOf(t, one.NS)) })
	eventually(t, soon, func() error { return sameAs(inside, everythingOf(t, c.NS)) })
	launch(t, one) // and once more, from nothing, killed and without a daemon
	run(t, one, "expose")
	must(t, one.KillAll())
	eventually(t, soon, func() error {
		if r := one.Weave("reset", "--force"); r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		return sameAs(host, everythingOf(t, one.NS))
	})
}
