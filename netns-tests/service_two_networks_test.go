package netnstests

import (
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// A host that is in two networks with the same addresses, by a daemon for each, joins what it is told to.
//
//	a 10.32.0.x ── host1, one │ host1, two ── b 10.32.0.x
func TestServiceOfACommonHost(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	one, two := user(t, l.Hosts[0]), user(t, l.Hosts[0])
	a, addrA := box(t, one)
	b, addrB := box(t, two)
	if addrA != addrB {
		t.Fatalf("they have %s and %s", addrA, addrB)
	}
	greets(t, a.NS, ":80", "one.")
	userRun(t, one.Weave("expose"))
	gateway := strings.TrimSpace(userRun(t, two.Weave("expose")))
	userRun(t, one.Weave("service", "export", "127.0.0.1:8080", addrA+":80"))
	userRun(t, two.Weave("service", "import", "web:80", "127.0.0.1:8080"))
	greeted(t, b.NS, gateway+":80", "one.")
	if got := strings.TrimSpace(userRun(t, two.Weave("dns-lookup", "web"))); got != gateway {
		t.Errorf("web is %q", got)
	}
}

// The same where one of the two networks has root's daemon. A second one of root is told that this is the way.
//
//	a 10.32.0.x ── host1, root │ host1, a user ── b 10.32.0.x
func TestServiceOfACommonHostWithRoot(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	h := l.Hosts[0]
	launch(t, h)
	a, addrA := attached(t, h)
	run(t, h, "expose")
	second := []string{"WEAVE_STATE_DIR=" + t.TempDir(), "WEAVE_RUN_DIR=" + t.TempDir()}
	if r := h.WeaveEnv(second, "launch", "--port", "7783", "--http-addr", "", "--status-addr", "", "--ipalloc-range", "10.32.0.0/12"); r.RC != 0 {
		t.Fatal(r)
	}
	r := h.WeaveEnv(second, "expose")
	if r.RC != 1 || !strings.Contains(r.Stderr, "another weave on this host") || !strings.Contains(r.Stderr, "as an ordinary user") || !strings.Contains(r.Stderr, "weave service") {
		t.Error(r)
	}
	if r := h.WeaveEnv(second, "reset"); r.RC != 0 {
		t.Error(r)
	}
	two := user(t, h)
	b, addrB := box(t, two)
	if addrA != strings.Split(addrB, "/")[0] {
		t.Fatalf("they have %s and %s", addrA, addrB)
	}
	greets(t, a.NS, ":80", "root")
	greets(t, b.NS, ":80", "user")
	gateway := strings.TrimSpace(userRun(t, two.Weave("expose")))
	run(t, h, "service", "export", "8080", addrA+":80")
	userRun(t, two.Weave("service", "import", "web:80", h.IP+":8080"))
	greeted(t, b.NS, gateway+":80", "root")
	userRun(t, two.Weave("service", "export", h.IP+":9090", addrA+":80"))
	run(t, h, "service", "import", "web:80", h.IP+":9090")
	greeted(t, a.NS, strings.TrimSpace(run(t, h, "dns-lookup", "web"))+":80", "user")
}
