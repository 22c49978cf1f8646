package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"weave/peer"
)

// quiet is a network in which nothing goes wrong by itself.
func quiet(t *testing.T, hosts int, r string) *network {
	return newNetwork(t, simConfig{seed: 1, hosts: hosts, rng: r, careful: true})
}

// do gives host i an input with this id and returns the reply, if there is one
// within d.
func (n *network) do(i int, d time.Duration, in Input, id ReqID) (Reply, bool) {
	h := n.hosts[i]
	delete(h.replies, id)
	n.step(h, in)
	for end := n.now.Add(d); n.now.Before(end); {
		if _, done := h.replies[id]; done {
			break
		}
		n.run(min(10*time.Millisecond, end.Sub(n.now)))
	}
	r, done := h.replies[id]
	return r, done
}

func (n *network) must(i int, in Input, id ReqID) Reply {
	n.t.Helper()
	r, done := n.do(i, time.Minute, in, id)
	if !done || r.Fault != "" {
		n.fail("%+v: answered %t, %q", in, done, r.Fault)
	}
	return r
}

func (n *network) alloc(i int, ident, subnet string) string {
	n.t.Helper()
	r := n.must(i, Allocate{ID: 1, Ident: ident, Subnet: netip.MustParsePrefix(subnet), Container: true}, 1)
	return r.CIDRs[0].String()
}

func (n *network) expectFault(i int, d time.Duration, in Input, id ReqID, want string) {
	n.t.Helper()
	r, done := n.do(i, d, in, id)
	if !done || !strings.Contains(string(r.Fault), want) {
		n.fail("%+v: answered %t, %q; want %q", in, done, r.Fault, want)
	}
}

func claimOf(id ReqID, ident, cidr string) Claim {
	return Claim{ID: id, Ident: ident, CIDR: netip.MustParsePrefix(cidr), Container: true}
}

func TestAllocateLowestFirstAndTheSameAgain(t *testing.T) {
	n := quiet(t, 1, "10.32.0.0/24")
	for _, s := range []struct{ ident, subnet, want string }{
		{"a", "10.32.0.0/24", "10.32.0.1/24"},
		{"b", "10.32.0.0/24", "10.32.0.2/24"},
		{"a", "10.32.0.0/24", "10.32.0.1/24"},
		{"a", "10.32.0.64/26", "10.32.0.65/26"},
		{"b", "10.32.0.64/26", "10.32.0.66/26"},
		{"a", "10.32.0.64/26", "10.32.0.65/26"},
		{"c", "10.32.0.0/16", "10.32.0.3/16"}, // larger than the range
	} {
		if got := n.alloc(0, s.ident, s.subnet); got != s.want {
			t.Errorf("%s in %s: %s, want %s", s.ident, s.subnet, got, s.want)
		}
	}
	n.must(0, Free{ID: 2, Ident: "a", Addr: netip.MustParseAddr("10.32.0.1")}, 2)
	if got := n.alloc(0, "d", "10.32.0.0/24"); got != "10.32.0.1/24" {
		t.Errorf("a freed address is not the lowest: %s", got)
	}
	r := n.must(0, Lookup{ID: 3, Ident: "a"}, 3)
	if fmt.Sprint(r.CIDRs) != "[10.32.0.65/26]" {
		t.Errorf("a has %v", r.CIDRs)
	}
	r = n.must(0, List{ID: 4}, 4)
	if len(r.Holdings) != 5 || r.Holdings[0].Ident != "d" {
		t.Errorf("list: %v", r.Holdings)
	}
}

func TestFaultTexts(t *testing.T) {
	n := quiet(t, 1, "10.32.0.0/24")
	n.alloc(0, "a", "10.32.0.0/24")
	sub := func(s string) Allocate { return Allocate{ID: 9, Ident: "x", Subnet: netip.MustParsePrefix(s)} }
	for _, s := range []struct {
		in   Input
		want string
	}{
		{sub("10.32.0.1/24"), "invalid subnet - bits after network prefix are not all zero: 10.32.0.1/24"},
		{sub("10.32.0.0/31"), "invalid subnet - smaller than minimum size 4: 10.32.0.0/31"},
		{sub("10.32.0.0/32"), "invalid subnet - smaller than minimum size 4: 10.32.0.0/32"},
		{sub("10.48.0.0/24"), "range 10.48.0.0/24 out of bounds: 10.32.0.0/24"},
		{sub("fd00::/64"), "not an IPv4 one"},
		{Allocate{ID: 9, Subnet: netip.MustParsePrefix("10.32.0.0/24")}, "no container given"},
		{Allocate{ID: 9, Ident: "a\x1b[2J", Subnet: netip.MustParsePrefix("10.32.0.0/24")}, "unprintable"},
		{Allocate{ID: 9, Ident: strings.Repeat("x", 600), Subnet: netip.MustParsePrefix("10.32.0.0/24")}, "more than 512 bytes"},
		{claimOf(9, "b", "10.32.0.1/24"), "Unable to claim: address 10.32.0.1/24 is already owned by a"},
		{Claim{ID: 9, Ident: "b"}, "invalid address"},
		{Free{ID: 9, Ident: "nobody"}, "Delete: no addresses for nobody"},
		{Free{ID: 9, Ident: "b", Addr: netip.MustParseAddr("10.32.0.1")}, "Unable to free: Free: address 10.32.0.1 not found for b"},
	} {
		n.expectFault(0, time.Second, s.in, 9, s.want)
	}
	if r := n.must(0, Lookup{ID: 3, Ident: "a"}, 3); len(r.CIDRs) != 1 {
		t.Error("a lost its address")
	}
}

func TestClaims(t *testing.T) {
	n := quiet(t, 2, "10.32.0.0/24")
	n.alloc(0, "a", "10.32.0.0/24")
	n.run(time.Second)
	n.must(0, claimOf(2, "b", "10.32.0.5/24"), 2)
	n.must(0, claimOf(2, "b", "10.32.0.5/24"), 2)
	n.must(0, claimOf(2, "b", "10.2.1.1/24"), 2) // outside the range
	n.expectFault(0, time.Second, claimOf(2, "c", "10.2.1.1/24"), 2, "already owned by b")
	anon := claimOf(2, "", "10.32.0.5/24")
	anon.Anonymous = true
	n.must(0, anon, 2)
	n.must(0, claimOf(2, "b", "10.32.0.200/24"), 2) // the other's
	if o, _ := ownerAt(n.hosts[0].core.segs, toUint(netip.MustParseAddr("10.32.0.200"))); o.Owner.Name != simName(0) {
		t.Errorf("10.32.0.200 is owned by %v", o.Owner)
	}
	n.must(1, claimOf(2, "z", "10.32.0.201/24"), 2)
	n.expectFault(0, time.Minute, claimOf(3, "b", "10.32.0.201/24"), 3,
		"Unable to claim: address 10.32.0.201/24 is owned by other peer 02:00:00:00:00:02 (host2) - in use by z")
	anon = claimOf(4, "", "10.32.0.9/24")
	anon.Anonymous = true
	n.must(0, anon, 4)
	n.must(0, Free{ID: 5, Ident: "10.32.0.9"}, 5)
}

func TestClaimOfUnreachableOwner(t *testing.T) {
	n := quiet(t, 2, "10.32.0.0/24")
	n.alloc(0, "a", "10.32.0.0/24")
	n.run(time.Second)
	n.hosts[1].group = 1
	n.announce()
	start := n.now
	n.expectFault(0, time.Minute, claimOf(2, "b", "10.32.0.200/24"), 2, "is owned by other peer 02:00:00:00:00:02 (host2) - not reachable")
	if took := n.now.Sub(start); took < 15*time.Second || took > 30*time.Second {
		t.Errorf("given up after %v", took)
	}
	in := claimOf(3, "b", "10.32.0.200/24")
	in.Assume = true
	n.must(0, in, 3)
	v := n.hosts[0].core.view()
	if len(v.Strays) != 1 {
		t.Fatalf("strays: %v", v.Strays)
	}
	n.hosts[1].group = 0
	n.announce()
	n.run(time.Minute)
	if v := n.hosts[0].core.view(); len(v.Strays) != 0 {
		t.Errorf("still astray: %v", v.Strays)
	}
}

func TestDiedIsHeldGoneIsFree(t *testing.T) {
	n := quiet(t, 1, "10.32.0.0/24")
	n.alloc(0, "a", "10.32.0.0/24")
	n.step(n.hosts[0], Died{Ident: "a"})
	n.run(20 * time.Second)
	if got := n.alloc(0, "b", "10.32.0.0/24"); got != "10.32.0.2/24" {
		t.Errorf("b got %s while a is held", got)
	}
	n.alloc(0, "a", "10.32.0.0/24") // it is back
	n.run(time.Minute)
	if r := n.must(0, Lookup{ID: 3, Ident: "a"}, 3); len(r.CIDRs) != 1 {
		t.Error("a was freed although it came back")
	}
	n.step(n.hosts[0], Died{Ident: "a"})
	n.run(31 * time.Second)
	if got := n.alloc(0, "c", "10.32.0.0/24"); got != "10.32.0.1/24" {
		t.Errorf("c got %s after the hold", got)
	}
	n.step(n.hosts[0], Gone{Ident: "c"})
	if got := n.alloc(0, "d", "10.32.0.0/24"); got != "10.32.0.1/24" {
		t.Errorf("d got %s after c was removed", got)
	}
}

// One that waits neither blocks others nor waits for ever when it is told not to.
func TestWaitingAndCancelling(t *testing.T) {
	n := quiet(t, 1, "10.32.0.0/29")
	for i := range 6 {
		n.alloc(0, fmt.Sprint("c", i), "10.32.0.0/29")
	}
	if _, done := n.do(0, time.Second, Allocate{ID: 50, Ident: "late", Subnet: netip.MustParsePrefix("10.32.0.0/30"), Container: true}, 50); done {
		t.Fatal("a full subnet gave an address")
	}
	v := n.hosts[0].core.view()
	if v.Status != "waiting for IP(s) to become available" || len(v.Reasons("late")) != 1 || !strings.Contains(v.Reasons("late")[0], "no peer has a free address") {
		t.Errorf("status %q, reasons %q", v.Status, v.Reasons("late"))
	}
	n.must(0, claimOf(2, "x", "10.9.9.9/24"), 2)
	n.do(0, time.Millisecond, Cancel{ID: 50}, 50)
	if r := n.hosts[0].replies[50]; r.Fault != ErrCancelled {
		t.Errorf("cancelled: %+v", r)
	}
	n.step(n.hosts[0], Allocate{ID: 51, Ident: "later", Subnet: netip.MustParsePrefix("10.32.0.0/30"), Container: true})
	n.step(n.hosts[0], Died{Ident: "later"})
	if r := n.hosts[0].replies[51]; r.Fault != ErrCancelled {
		t.Errorf("the container died: %+v", r)
	}
	n.step(n.hosts[0], Allocate{ID: 52, Ident: "last", Subnet: netip.MustParsePrefix("10.32.0.0/30")})
	n.must(0, Free{ID: 3, Ident: "c0"}, 3)
	if r := n.hosts[0].replies[52]; len(r.CIDRs) != 1 || r.CIDRs[0].String() != "10.32.0.1/30" {
		t.Errorf("after a release: %+v", r)
	}
}

// All space is with others: two round trips, whatever the first peer says.
func TestRemoteAllocationTakesTwoRoundTrips(t *testing.T) {
	n := quiet(t, 3, "10.32.0.0/16")
	n.must(0, Prime{ID: 1}, 1)
	n.run(time.Minute)
	n.cfg.hosts++
	h := &simHost{name: simName(9), disk: map[string][]byte{}, replies: map[ReqID]Reply{}, waits: map[ReqID]Input{}}
	n.hosts = append(n.hosts, h)
	n.start(h)
	n.announce()
	n.run(time.Minute)
	before := h.core.Counters().Asked
	n.alloc(3, "a", "10.32.0.0/16")
	if asked := h.core.Counters().Asked - before; asked > 2 {
		t.Errorf("%d questions", asked)
	}
	if h.core.space.size < 1000 {
		t.Errorf("got %d addresses only", h.core.space.size)
	}
	n.verify()
}

func TestObserverWaitsAndHasOthersElect(t *testing.T) {
	n := newNetwork(t, simConfig{seed: 3, hosts: 3, rng: "10.32.0.0/24", careful: true, init: func(i int) Init {
		if i == 2 {
			return Init{Mode: InitObserver}
		}
		return Init{}
	}})
	n.hosts[0].group, n.hosts[1].group = 1, 1
	n.announce()
	if _, done := n.do(2, 10*time.Second, Prime{ID: 1}, 1); done {
		t.Fatal("an observer alone made a ring")
	}
	if v := n.hosts[2].core.view(); v.Status != "priming" {
		t.Errorf("status %q", v.Status)
	}
	n.hosts[2].group = 1
	n.announce()
	n.run(20 * time.Second)
	if _, done := n.hosts[2].replies[1]; !done {
		t.Fatal("the others did not elect")
	}
	n.alloc(2, "a", "10.32.0.0/24")
}

func TestSeedsNeedNobody(t *testing.T) {
	seeds := []peer.Name{simName(1), simName(0)}
	n := newNetwork(t, simConfig{seed: 3, hosts: 2, rng: "10.32.0.0/24", careful: true, init: func(int) Init {
		return Init{Mode: InitSeeds, Seeds: slices.Clone(seeds)}
	}})
	n.hosts[1].group = 1
	n.announce()
	if got := n.alloc(0, "a", "10.32.0.0/24"); got != "10.32.0.1/24" {
		t.Error(got)
	}
	if got := n.alloc(1, "a", "10.32.0.0/24"); got != "10.32.0.128/24" {
		t.Error(got)
	}
	n.calm()
}

func TestParseInit(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "consensus": "", "consensus=3": "", "observer": "", "seed=::1,::2": "",
		"foo": "unknown mode: foo", "consensus=x": "bad consensus parameter", "consensus=0": "bad consensus parameter",
		"seed": "seed mode requires peer name list", "seed=": "seed mode requires peer name list", "seed=x": "parse peer name",
		"observer=1": "observer mode takes no parameter",
	} {
		_, err := ParseInit(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
