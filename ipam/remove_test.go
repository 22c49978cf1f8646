package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weave/peer"
)

func (n *network) kill(i int) {
	n.hosts[i].core, n.hosts[i].dead = nil, true
	n.announce()
	n.run(time.Second)
}

// Two are told to remove the same dead peer at the same time: one of them takes
// its space over, the other one says 0; so does everybody who is told later.
func TestRemoveOnSeveralPeersAtOnce(t *testing.T) {
	for seed := uint64(1); seed <= 16; seed++ {
		n := newNetwork(t, simConfig{seed: seed, hosts: 4, rng: "10.32.0.0/24", careful: true, loss: float64(seed%4) / 10})
		n.must(0, Prime{ID: 1}, 1)
		n.run(time.Minute)
		n.alloc(3, "d", "10.32.0.0/24")
		n.run(2 * time.Minute) // a grant that got lost is found
		size := n.hosts[3].core.space.size
		n.kill(3)
		n.hosts[3].removed = true
		for i := range 3 {
			n.step(n.hosts[i], Remove{ID: 7, Peers: []string{"host4"}})
			n.run(time.Duration(n.rng.IntN(30)) * time.Millisecond)
		}
		n.run(time.Minute)
		var got []uint64
		var sum uint64
		for i := range 3 {
			r, done := n.hosts[i].replies[7]
			if !done || r.Fault != "" || len(r.Counts) != 1 {
				n.fail("host%d: %+v, answered %t", i+1, r, done)
			}
			got, sum = append(got, r.Counts[0]), sum+r.Counts[0]
		}
		if sum != size {
			n.fail("%v taken over, want %d in one piece", got, size)
		}
		n.verify()
		n.verifyWhole()
		for i := range 3 {
			if r := n.must(i, Remove{ID: 8, Peers: []string{"02:00:00:00:00:04"}}, 8); r.Counts[0] != 0 {
				n.fail("removed twice: %v", r.Counts)
			}
		}
	}
}

func TestRemoveRefusesWhoCanBeReached(t *testing.T) {
	n := quiet(t, 3, "10.32.0.0/24")
	n.must(0, Prime{ID: 1}, 1)
	n.run(time.Minute)
	n.expectFault(0, time.Second, Remove{ID: 2, Peers: []string{"host2"}}, 2, "peer 02:00:00:00:00:02(host2) is reachable")
	if r := n.must(0, Remove{ID: 3, Peers: []string{"host1", "nobody", "8a:3e:3e:3e:3e:3e"}}, 3); fmt.Sprint(r.Counts) != "[0 0 0]" {
		t.Errorf("removing nobody: %v", r.Counts)
	}
	// host1 cannot reach host2, but host3 can.
	n.step(n.hosts[0], Reachable{Peers: map[peer.Name]string{simName(2): "host3"}, Electors: 3})
	n.expectFault(0, time.Minute, Remove{ID: 4, Peers: []string{"host2"}}, 4, "can be reached from 02:00:00:00:00:0")
}

// A peer that was removed while it was away begins a new life, says so, and
// claims what its containers use.
func TestRemovedPeerReturns(t *testing.T) {
	n := quiet(t, 3, "10.32.0.0/24")
	n.must(0, Prime{ID: 1}, 1)
	n.run(time.Minute)
	var held []string
	for i := range 3 {
		held = append(held, n.alloc(2, fmt.Sprint("c", i), "10.32.0.0/24"))
	}
	n.hosts[2].group = 1
	n.announce()
	n.run(time.Second)
	if r := n.must(0, Remove{ID: 2, Peers: []string{"host3"}}, 2); r.Counts[0] == 0 {
		t.Fatal("nothing taken over")
	}
	// The heir gives one of the addresses away meanwhile.
	taken := n.must(0, claimOf(3, "new", held[1]), 3)
	n.hosts[2].group = 0
	n.announce()
	n.run(2 * time.Minute)
	c := n.hosts[2].core
	if c.self.Life != 2 {
		t.Errorf("it lives its life %d", c.self.Life)
	}
	if !strings.Contains(strings.Join(n.log, "\n"), "this peer was removed from the network while it was away") {
		t.Error("it does not say so")
	}
	v := c.view()
	if len(v.Strays) != 1 || v.Strays[0].CIDR != taken.CIDRs[0] || !strings.Contains(v.Strays[0].Reason, "in use by new") {
		t.Errorf("strays: %+v", v.Strays)
	}
	n.alloc(2, "c9", "10.32.0.0/24")
	n.verify()
	n.verifyWhole()
	// The dispute ends when the other one lets go.
	n.must(0, Free{ID: 4, Ident: "new"}, 4)
	n.run(time.Minute)
	if v := c.view(); len(v.Strays) != 0 {
		t.Errorf("strays: %+v", v.Strays)
	}
}

func TestHandOver(t *testing.T) {
	n := quiet(t, 3, "10.32.0.0/24")
	n.must(0, Prime{ID: 1}, 1)
	n.run(time.Minute)
	start := n.now
	r := n.must(0, HandOver{ID: 2}, 2)
	if r.Text == "" || n.now.Sub(start) > time.Second {
		t.Errorf("heir %q after %v", r.Text, n.now.Sub(start))
	}
	n.expectWaiting(0, "this peer has handed its addresses over")
	n.run(time.Minute)
	if size := n.hosts[1].core.space.size + n.hosts[2].core.space.size; size != 256 {
		t.Errorf("%d addresses have an owner", size)
	}
	alone := quiet(t, 1, "10.32.0.0/24")
	alone.must(0, Prime{ID: 1}, 1)
	if r := alone.must(0, HandOver{ID: 2}, 2); r.Text != "" {
		t.Errorf("alone, but the heir is %q", r.Text)
	}
}

// Peers gone for long are removed by those that are left, if they are most.
func TestReclaim(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		n := newNetwork(t, simConfig{seed: seed, hosts: 5, rng: "10.32.0.0/24", careful: true, reclaim: 10 * time.Minute, loss: float64(seed%3) / 10})
		for i := range 5 {
			n.alloc(i, "used", "10.32.0.0/24")
		}
		n.run(time.Minute)
		n.hosts[3].group, n.hosts[4].group = 1, 1
		n.announce()
		n.run(9 * time.Minute)
		n.verify()
		for i := range 3 {
			if len(n.hosts[i].core.ring.tombs) > 0 {
				n.fail("removed too early")
			}
		}
		if !n.hosts[3].core.fenced() || n.hosts[0].core.fenced() {
			n.fail("the few must not allocate any more, the many may")
		}
		n.expectWaiting(3, "most peers have been out of reach")
		n.run(5 * time.Minute)
		var size uint64
		for i := range 3 {
			size += n.hosts[i].core.space.size
		}
		if size != 256 {
			n.fail("the many own %d addresses", size)
		}
		n.hosts[3].group, n.hosts[4].group = 0, 0
		n.announce()
		n.run(2 * time.Minute)
		n.verify()
		n.verifyWhole()
		if n.hosts[3].core.fenced() || n.hosts[3].core.self.Life != 2 {
			n.fail("host4 has not begun anew")
		}
	}
}

func (n *network) expectWaiting(i int, reason string) {
	n.t.Helper()
	if r, done := n.do(i, time.Second, Allocate{ID: 90, Ident: "waiter", Subnet: netip.MustParsePrefix(n.cfg.rng)}, 90); done {
		n.fail("it got %v instead of waiting", r)
	}
	if got := n.hosts[i].core.view().Reasons("waiter"); len(got) != 1 || !strings.Contains(got[0], reason) {
		n.fail("it waits for %q, not for %q", got, reason)
	}
	n.step(n.hosts[i], Cancel{ID: 90})
}

// Without a majority nobody is removed: of two, or where most are gone.
func TestReclaimNeedsMostPeers(t *testing.T) {
	n := newNetwork(t, simConfig{seed: 1, hosts: 3, rng: "10.32.0.0/24", careful: true, reclaim: 10 * time.Minute})
	for i := range 3 {
		n.alloc(i, "a", "10.32.0.0/24")
	}
	n.run(time.Minute)
	n.kill(1)
	n.kill(2)
	n.run(time.Hour)
	if len(n.hosts[0].core.ring.tombs) > 0 {
		t.Error("one of three removed the others")
	}
	n.hosts[1].removed, n.hosts[2].removed = true, true
	if r := n.must(0, Remove{ID: 2, Peers: []string{"host2", "host3"}}, 2); r.Counts[0] == 0 || r.Counts[1] == 0 {
		t.Errorf("a person may: %v", r.Counts)
	}
	n.alloc(0, "a", "10.32.0.0/24")
}

// Two networks that began apart meet: both go on, say so, and a repair makes
// them one.
func TestDifferentSeedsAndRepair(t *testing.T) {
	for _, side := range []int{0, 2} { // where the repair is asked for
		n := newNetwork(t, simConfig{seed: 1, hosts: 4, rng: "10.32.0.0/24"})
		n.cut(func(i int) int { return i / 2 })
		for i, h := range n.hosts {
			n.step(h, Reachable{Peers: n.nearOf(i), Electors: 2})
		}
		for i := range 4 {
			n.alloc(i, fmt.Sprint("c", i), "10.32.0.0/24")
		}
		n.cut(func(int) int { return 0 })
		n.run(time.Minute)
		for i, h := range n.hosts {
			v := h.core.view()
			if len(v.Faults) == 0 || !strings.Contains(v.Faults[0], "IP allocation was seeded by different peers (received: [02:") {
				n.fail("host%d says %q", i+1, v.Faults)
			}
			n.alloc(i, fmt.Sprint("d", i), "10.32.0.0/24")
		}
		r := n.must(side, Repair{ID: 2}, 2)
		if !strings.Contains(r.Text, "gives way to") {
			n.fail("repair says %q", r.Text)
		}
		n.run(2 * time.Minute)
		n.verifyWhole()
		for i, h := range n.hosts {
			if v := h.core.view(); len(v.Faults) > 0 {
				n.fail("host%d says %q after the repair", i+1, v.Faults)
			}
			n.alloc(i, fmt.Sprint("e", i), "10.32.0.0/24")
		}
	}
}

func (n *network) cut(group func(i int) int) {
	for i, h := range n.hosts {
		h.group = group(i)
	}
	n.announce()
}

func TestDifferentRange(t *testing.T) {
	n := quiet(t, 2, "10.32.0.0/24")
	n.cfg.rng = "10.40.0.0/24"
	n.hosts[1].disk = map[string][]byte{}
	n.start(n.hosts[1])
	n.announce()
	n.run(time.Second)
	n.alloc(0, "a", "10.32.0.0/24") // although it was told of two electors
	n.alloc(1, "a", "10.40.0.0/24")
	n.run(time.Minute)
	for i, want := range []string{"(received: 10.40.0.0/24, ours: 10.32.0.0/24)", "(received: 10.32.0.0/24, ours: 10.40.0.0/24)"} {
		v := n.hosts[i].core.view()
		if len(v.Faults) != 1 || !strings.Contains(v.Faults[0], "Incompatible IP allocation ranges "+want) {
			t.Errorf("host%d: %q", i+1, v.Faults)
		}
	}
	n.alloc(0, "b", "10.32.0.0/24")
	n.alloc(1, "b", "10.40.0.0/24")
	if r := n.must(0, Repair{ID: 5}, 5); !strings.Contains(r.Text, "launch it again with --ipalloc-range 10.32.0.0/24") {
		t.Errorf("repair says %q", r.Text)
	}
}

// Careless operators remove peers that live on the other side of a partition.
// Whatever follows, the rings become one, and nobody stops.
func TestCarelessOperatorsConverge(t *testing.T) {
	for seed := uint64(1); seed <= 20*simFactor(); seed++ {
		n := newNetwork(t, simConfig{seed: seed, hosts: 3 + int(seed%3), rng: "10.32.0.0/25", loss: 0.1})
		c := &churner{network: n, idents: 8}
		n.must(0, Prime{ID: 1 << 30}, 1<<30)
		n.run(time.Minute)
		for range 150 {
			if n.rng.IntN(10) == 0 {
				h, o := c.anyHost(), c.anyHost()
				n.step(h, Remove{ID: c.id(), Peers: []string{o.name.String()}})
			}
			c.act()
			n.run(time.Duration(n.rng.IntN(2000)) * time.Millisecond)
		}
		n.calm()
		for _, h := range n.hosts {
			for _, w := range h.core.held.all() {
				n.step(h, Free{ID: c.id(), Ident: w.Ident, Addr: w.CIDR.Addr()})
			}
		}
		for i := range n.hosts {
			n.alloc(i, "after", "10.32.0.0/25")
		}
	}
}

// nearOf is whom host i can reach.
func (n *network) nearOf(i int) map[peer.Name]string {
	near := map[peer.Name]string{}
	for j, o := range n.hosts {
		if j != i && o.core != nil && o.group == n.hosts[i].group {
			near[o.name] = fmt.Sprintf("host%d", o.name[5])
		}
	}
	return near
}
