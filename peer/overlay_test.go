package peer

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weave/peer/wire"
)

func drawNames(t *rapid.T, low, high int) []Name {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Name {
		var n Name
		for i := range n {
			n[i] = rapid.Byte().Draw(t, "byte")
		}
		n[0] = 2
		return n
	}), low, high, rapid.ID[Name]).Draw(t, "names")
}

// TestChoiceMakesAGoodGraph: whatever the names, those who choose alike are
// connected, by few links, also after any one of them died.
func TestChoiceMakesAGoodGraph(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := drawNames(t, 6, 80)
		edges := make(map[Name]map[Name]bool)
		link := func(a, b Name) {
			if edges[a] == nil {
				edges[a] = make(map[Name]bool)
			}
			edges[a][b] = true
		}
		for _, n := range names {
			chosen := choose(n, slices.Values(names))
			if len(chosen) > 2*ringSide+shortcuts || chosen[n] != tieNone {
				t.Fatalf("%d chosen", len(chosen))
			}
			for o, why := range chosen {
				link(n, o)
				link(o, n)
				if back := choose(o, slices.Values(names)); why == tieRing && back[n] != tieRing {
					t.Fatal("the ring is not mutual")
				}
			}
		}
		dead := rapid.SampledFrom(names).Draw(t, "dead")
		seen := map[Name]bool{dead: true}
		queue := []Name{names[0]}
		if dead == names[0] {
			queue[0] = names[1]
		}
		seen[queue[0]] = true
		for len(queue) > 0 {
			for o := range edges[queue[0]] {
				if !seen[o] {
					seen[o] = true
					queue = append(queue, o)
				}
			}
			queue = queue[1:]
		}
		if len(seen) != len(names) {
			t.Fatalf("%d of %d connected after one died", len(seen)-1, len(names)-1)
		}
	})
}

// TestChoiceChangesLittle: one more peer changes few choices, and each by few.
func TestChoiceChangesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := drawNames(t, 40, 60)
		changed := 0
		for _, n := range names[1:] {
			before := choose(n, slices.Values(names[1:]))
			after := choose(n, slices.Values(names))
			for o := range before {
				if after[o] == tieNone {
					changed++
				}
			}
		}
		if changed > 20 {
			t.Fatalf("%d of some %d choices changed", changed, 7*len(names))
		}
	})
}

// crowdOf makes a peer with n neighbours in a network of a few more, in which
// every other is linked with the next and with itself's neighbours.
func crowdOf(t *testing.T, n byte) (*bench, []*remote) {
	t.Helper()
	b := newBench(t, testConfig(1))
	var all []*remote
	for i := range n {
		r := newRemote(i + 10)
		all = append(all, r)
		b.join(ConnID(i)+1, r, "")
	}
	for i, r := range all {
		next := all[(i+1)%len(all)].record.Name[5]
		last := all[(i+len(all)-1)%len(all)].record.Name[5]
		b.step(Received{Conn: ConnID(i) + 1, Message: r.publish(1, next, last)})
	}
	b.run(3 * time.Second)
	return b, all
}

func TestNothingIsClosedWhileOthersNeedIt(t *testing.T) {
	b, _ := crowdOf(t, 40)
	b.run(5 * time.Minute)
	if len(b.all.Close) != 0 || !b.view.Sparse {
		t.Errorf("%d closed, sparse %v", len(b.all.Close), b.view.Sparse)
	}
}

func needMessage(overlay, target bool) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Need{Need: &wire.Need{Overlay: overlay, Target: target}}}
}

func TestSpareConnectionsAreClosedGently(t *testing.T) {
	b, all := crowdOf(t, 40)
	for i := range all {
		b.step(Received{Conn: ConnID(i) + 1, Message: needMessage(false, i%2 == 0)})
	}
	b.run(2 * time.Minute)
	left := len(b.view.Neighbours)
	if left > degreeMax || left < degreeKeep {
		t.Errorf("%d connections left", left)
	}
	for n := range b.m.overlay.chosen {
		if b.m.conns.byPeer[n] == nil {
			t.Errorf("closed the connection with %s, which we chose", n)
		}
	}
	for i, r := range all { // those that want us as a target stay while there is room
		if b.m.conns.byPeer[r.record.Name] == nil && b.closed(ConnID(i)+1) != textSurplus {
			t.Errorf("closed for %q", b.closed(ConnID(i)+1))
		}
	}
	said := 0
	for _, s := range b.all.Send {
		if s.Message.GetNeed().GetSurplus() {
			said++
		}
	}
	if said != len(b.all.Close) {
		t.Errorf("%d closed, %d told why", len(b.all.Close), said)
	}
}

func TestBridgeIsNeverClosed(t *testing.T) {
	b, all := crowdOf(t, 40)
	for i, r := range all { // nobody tells of any other way
		b.step(Received{Conn: ConnID(i) + 1, Message: r.publish(1)})
		b.step(Received{Conn: ConnID(i) + 1, Message: needMessage(false, false)})
	}
	b.run(5 * time.Minute)
	if len(b.all.Close) != 0 {
		t.Errorf("%d closed", len(b.all.Close))
	}
}

func TestOwnTargetIsNeverClosed(t *testing.T) {
	b, all := crowdOf(t, 40)
	var targets []string
	for i, r := range all {
		if b.m.overlay.chosen[r.record.Name] == tieNone {
			targets = append(targets, r.addr().String())
			b.step(ConnDown{Conn: ConnID(i) + 1, Reason: "x"})
			if len(targets) == 25 {
				break
			}
		}
	}
	b.step(Connect{Targets: targets})
	id := ConnID(1000)
	for _, r := range all {
		if slices.Contains(targets, r.addr().String()) {
			id++
			b.join(id, r, r.addr().String())
			b.step(Received{Conn: id, Message: needMessage(false, false)})
		}
	}
	b.run(5 * time.Minute)
	for _, c := range b.all.Close {
		if c.Conn > 1000 {
			t.Errorf("a target was closed: %s", c.Reason)
		}
	}
}

// TestSurplusIsNotDialledAgain until the peer is out of reach.
func TestSurplusIsNotDialledAgain(t *testing.T) {
	b, all := crowdOf(t, 40)
	hub := newRemote(200)
	addr := hub.addr().String()
	b.step(Connect{Targets: []string{addr}})
	b.join(500, hub, addr)
	b.step(Received{Conn: 1, Message: all[0].publish(1, 200)})
	b.run(2 * time.Minute)
	b.step(Received{Conn: 500, Message: &wire.Control{Kind: &wire.Control_Need{Need: &wire.Need{Surplus: true}}}})
	b.step(Received{Conn: 500, Message: goodbye(textSurplus)})
	chosen := b.m.overlay.dial[hub.record.Name] != tieNone
	before := b.dialled(addr)
	b.run(10 * time.Minute)
	if again := b.dialled(addr) - before; again > 0 && !chosen {
		t.Errorf("dialled %d times", again)
	}
	if c := b.conn(addr); c.Info != textSurplus+", retry: when no other way leads there" && !chosen {
		t.Errorf("%+v", c)
	}
	b.step(Received{Conn: 1, Message: all[0].publish(1)}) // now nobody knows it
	b.run(10 * time.Second)
	if b.dialled(addr) == before {
		t.Error("not dialled when it was out of reach")
	}
}
