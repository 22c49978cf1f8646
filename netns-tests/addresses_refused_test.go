package netnstests

import (
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// Without a range nothing is allocated, and given addresses work as before.
//
//	c1 ── host1
func TestNoRange(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "--ipalloc-range", "")
	c, err := h.NewContainer()
	must(t, err)
	refused(t, h, 1, "IP address allocation must be enabled to use 'net:'", "attach", c.Name)
	refused(t, h, 1, "IP address allocation must be enabled to use 'net:'", "attach", "net:10.32.0.0/16", c.Name)
	run(t, h, "attach", "10.2.1.1/24", c.Name)
	run(t, h, "detach", "10.2.1.1/24", c.Name)
	if r := h.Weave("prime"); r.RC != 4 {
		t.Errorf("prime: %v", r)
	}
	if out := run(t, h, "status"); strings.Contains(out, "ipam") {
		t.Errorf("status:\n%s", out)
	}
	refused(t, h, 1, "addresses are not allocated here", "ipam", "check")
}

// Whatever is wrong is said in Weave Net's words, and changes nothing.
//
//	c1 ── host1
func TestWrongAddresses(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	for _, s := range []struct {
		what string
		args []string
	}{
		{"--ipalloc-default-subnet specified without --ipalloc-range.", []string{"--ipalloc-range", "", "--ipalloc-default-subnet", "10.32.0.0/24"}},
		{"--ipalloc-init specified without --ipalloc-range.", []string{"--ipalloc-range=", "--ipalloc-init", "observer"}},
		{"Unable to parse --ipalloc-init: unknown mode: foo", []string{"--ipalloc-init", "foo"}},
		{"Unable to parse --ipalloc-init: bad consensus parameter", []string{"--ipalloc-init", "consensus=x"}},
		{"Unable to parse --ipalloc-init: seed mode requires peer name list", []string{"--ipalloc-init", "seed="}},
		{"Unable to parse --ipalloc-init: observer mode takes no parameter", []string{"--ipalloc-init", "observer=1"}},
		{"invalid --ipalloc-range", []string{"--ipalloc-range", "10.32.0.0"}},
		{"smaller than minimum size 4", []string{"--ipalloc-range", "10.32.0.0/31"}},
		{"bits after network prefix are not all zero", []string{"--ipalloc-range", "10.32.0.1/16"}},
		{"out of bounds", []string{"--ipalloc-default-subnet", "10.64.0.0/16"}},
		{"has to be a /64", []string{"--ipalloc-range-v6", "fd00::/48"}},
		{"invalid --reclaim-after", []string{"--reclaim-after", "1s"}},
	} {
		refused(t, h, 1, s.what, append([]string{"launch"}, s.args...)...)
	}
	launch(t, h)
	c, err := h.NewContainer()
	must(t, err)
	refused(t, h, 1, "invalid subnet - bits after network prefix are not all zero: 10.32.0.1/24", "attach", "net:10.32.0.1/24", c.Name)
	refused(t, h, 1, "invalid subnet - smaller than minimum size 4: 10.32.0.0/31", "attach", "net:10.32.0.0/31", c.Name)
	refused(t, h, 1, "range 10.64.0.0/24 out of bounds: 10.32.0.0/12", "attach", "net:10.64.0.0/24", c.Name)
	refused(t, h, 1, "invalid subnet", "attach", "net:x", c.Name)
	refused(t, h, 1, "Usage:", "rmpeer")
	refused(t, h, 1, "Usage:", "ipam")
	refused(t, h, 1, "Usage:", "prime", "x")
	if _, there := look(t, c.NS, "ethwe"); there {
		t.Error("a refused attach left ethwe behind")
	}
	if out := run(t, h, "ps"); out != "" {
		t.Errorf("ps prints %q", out)
	}
	// A failure gives back what was allocated before it.
	refused(t, h, 1, "out of bounds", "attach", "net:default", "net:10.64.0.0/24", c.Name)
	if _, ip := attached(t, h); ip != "10.32.0.1" {
		t.Errorf("the failure kept an address: %q", ip)
	}
}

// A range that the host's routes lead into is refused, if nobody asked for it.
func TestOverlappingRange(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	must(t, h.AddAddr("eth0", "10.40.0.1/16"))
	refused(t, h, 1, "Network 10.32.0.0/12 overlaps with existing route 10.40.0.0/16 on host.\n"+
		"ERROR: Default --ipalloc-range 10.32.0.0/12 overlaps with existing route on host.\n"+
		"You must pick another range and set it on all hosts.", "launch")
	r := h.Weave("launch", "--ipalloc-range", "10.32.0.0/12")
	if r.RC != 0 || !strings.Contains(r.Stderr, "WARNING: Specified --ipalloc-range 10.32.0.0/12 overlaps with existing route on host.") {
		t.Errorf("launch: %v", r)
	}
}

// Who has to wait says what for, and gives up when told to.
//
//	host1 (of three, of which two do not exist)
func TestWaitingSaysWhy(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "--ipalloc-init", "consensus=3")
	c, err := h.NewContainer()
	must(t, err)
	began := time.Now()
	r := h.Weave("attach", "--wait", "5s", c.Name)
	if took := time.Since(began); r.RC != 1 || took < 4*time.Second || took > 10*time.Second {
		t.Errorf("after %v: %v", took, r)
	}
	if !strings.Contains(r.Stderr, "waiting: ") || !strings.Contains(r.Stderr, "2 of them are needed, 1 have answered") || !strings.Contains(r.Stderr, "gave up after 5s") {
		t.Errorf("it says %q", r.Stderr)
	}
	if out := run(t, h, "report", "-f", "{{.IPAM.PendingAllocates}}"); out != "[]" {
		t.Errorf("it still waits: %s", out)
	}
	if out := run(t, h, "status"); !strings.Contains(out, "Status: awaiting consensus (quorum: 2, known: 1)\n") {
		t.Errorf("status:\n%s", out)
	}
	if out := run(t, h, "detach", c.Name); out != "\n" { // never waits
		t.Errorf("detach printed %q", out)
	}
}
