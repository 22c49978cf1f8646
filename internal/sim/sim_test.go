package sim_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weave/internal/sim"
	"weave/peer"
	"weave/peer/wire"
)

// start makes n nodes that all know node 0 only.
func start(t *testing.T, cfg sim.Config, n int) *sim.Network {
	t.Helper()
	w := sim.New(cfg)
	for range n {
		w.Add()
	}
	for i, node := range w.Nodes {
		if i == 0 {
			node.Start()
			continue
		}
		node.Start(sim.Address(0).String())
	}
	return w
}

func mustReach(t *testing.T, w *sim.Network, limit time.Duration, done func() error) time.Duration {
	t.Helper()
	took, err := w.RunUntil(limit, done)
	if err != nil {
		t.Fatalf("after %s: %v", took, err)
	}
	return took
}

func converged(w *sim.Network) func() error {
	return func() error {
		if err := sim.FullMesh(w.Running()); err != nil {
			return err
		}
		return sim.Agree(w.Running())
	}
}

func TestFullMeshFromOneSeed(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 30} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if n > 10 && testing.Short() {
				t.Skip("-short leaves the larger networks out")
			}
			w := start(t, sim.Config{Seed: uint64(n), Spread: 20 * time.Millisecond}, n)
			took := mustReach(t, w, time.Minute, converged(w))
			s := w.Stats
			t.Logf("%d nodes converged in %s: %d messages, %d bytes, %d dials, %d steps",
				n, took, s.Messages, s.Bytes, s.Dials, s.Steps)
			if err := w.Run(2 * time.Minute); err != nil {
				t.Fatal(err)
			}
			t.Logf("idle: %d messages, %d bytes in 2 min", w.Stats.Messages-s.Messages, w.Stats.Bytes-s.Bytes)
			if err := converged(w)(); err != nil {
				t.Fatalf("did not stay: %v", err)
			}
			if w.Stats.Dials-s.Dials > 0 {
				t.Errorf("%d dials in a full mesh", w.Stats.Dials-s.Dials)
			}
		})
	}
}

func TestPartitionAndHeal(t *testing.T) {
	for _, length := range []time.Duration{20 * time.Second, 5 * time.Minute} {
		t.Run(length.String(), func(t *testing.T) {
			w := start(t, sim.Config{Seed: 3}, 8)
			mustReach(t, w, time.Minute, converged(w))
			w.Partition(func(i int) int { return i % 2 })
			half := func(odd int) []*sim.Node {
				var out []*sim.Node
				for i, n := range w.Nodes {
					if i%2 == odd {
						out = append(out, n)
					}
				}
				return out
			}
			mustReach(t, w, 15*time.Second, func() error {
				if err := sim.FullMesh(half(0)); err != nil {
					return err
				}
				return sim.FullMesh(half(1))
			})
			if err := w.Run(length); err != nil {
				t.Fatal(err)
			}
			w.Heal()
			took := mustReach(t, w, 10*time.Minute, converged(w))
			t.Logf("healed in %s", took)
		})
	}
}

func TestRestart(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("state lost %v", lost), func(t *testing.T) {
			w := start(t, sim.Config{Seed: 4}, 5)
			mustReach(t, w, time.Minute, converged(w))
			for i, node := range w.Nodes {
				if err := w.Run(20 * time.Second); err != nil {
					t.Fatal(err)
				}
				before := uid(w.Nodes[(i+1)%5], node.Name)
				if lost {
					node.Forget()
				}
				node.Start(sim.Address(0).String())
				mustReach(t, w, 20*time.Second, converged(w))
				if after := uid(w.Nodes[(i+1)%5], node.Name); after == before {
					t.Errorf("node %d is still known by its old UID", i)
				}
			}
		})
	}
}

func uid(n *sim.Node, name peer.Name) uint64 {
	for _, p := range n.View.Peers {
		if p.Name == name {
			return p.UID
		}
	}
	return 0
}

func TestGoodbyeIsSeenAtOnce(t *testing.T) {
	w := start(t, sim.Config{Seed: 5}, 6)
	mustReach(t, w, time.Minute, converged(w))
	w.Nodes[3].Leave()
	took := mustReach(t, w, time.Second, converged(w))
	t.Logf("gone in %s", took)
}

// TestGarbageHarmsNobody lets one node send what no peer would.
func TestGarbageHarmsNobody(t *testing.T) {
	w := start(t, sim.Config{Seed: 6}, 6)
	mustReach(t, w, time.Minute, converged(w))
	bad := w.Nodes[2]
	var forged int
	bad.Tamper = func(c *wire.Control) *wire.Control {
		rs := c.GetRecords().GetRecords()
		if len(rs) == 0 {
			return c
		}
		forged++
		return sim.Garble(w.Rand(), c)
	}
	for i := range 300 {
		if i%20 == 0 { // make it publish, which Tamper then garbles
			bad.Step(peer.LocalAddresses{Addresses: []string{fmt.Sprintf("10.9.9.%d:1", i/20)}})
		}
		bad.Shout(sim.Garbage(w.Rand(), w.Nodes))
		if err := w.Run(200 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	bad.Tamper = nil
	mustReach(t, w, time.Minute, converged(w))
	var counted uint64
	for _, n := range w.Nodes {
		c := n.Mesh.Counters()
		counted += c.BadMessages + c.BadRecords + c.BadSignatures + c.KeyConflicts
		if c.Terminations > 0 {
			t.Errorf("%s lost %d connections", n.Name, c.Terminations)
		}
	}
	if counted == 0 || forged == 0 {
		t.Errorf("%d counted, %d forged", counted, forged)
	}
}

// TestSparse forms networks that are no full mesh: all must agree and reach
// one another over relays.
func TestSparse(t *testing.T) {
	for what, target := range map[string]func(i int) int{
		"chain": func(i int) int { return i - 1 },
		"star":  func(int) int { return 0 },
		"tree":  func(i int) int { return (i - 1) / 2 },
	} {
		t.Run(what, func(t *testing.T) {
			w := sim.New(sim.Config{Seed: 8, Isolated: true, Spread: 10 * time.Millisecond})
			for range 10 {
				w.Add()
			}
			for i, n := range w.Nodes {
				if i == 0 {
					n.Start()
				} else {
					n.Start(sim.Address(target(i)).String())
				}
			}
			mustReach(t, w, 10*time.Second, func() error { return sim.Agree(w.Running()) })
		})
	}
}

func TestConnLimitHolds(t *testing.T) {
	w := start(t, sim.Config{Seed: 9, ConnLimit: 5}, 20)
	if err := w.Run(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, n := range w.Nodes {
		if len(n.View.Neighbours) > 5 {
			t.Errorf("%s has %d connections", n.Name, len(n.View.Neighbours))
		}
	}
}

// TestChurn does random harm, then lets the network calm down: all must end
// with the same picture, whatever happened, and no pin may have changed.
func TestChurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 7).Draw(t, "nodes")
		w := sim.New(sim.Config{
			Seed: rapid.Uint64().Draw(t, "seed"), Spread: 30 * time.Millisecond,
			DialLoss: rapid.SampledFrom([]float64{0, 0.2}).Draw(t, "dial loss"),
		})
		for range n {
			w.Add()
		}
		w.Nodes[0].Start()
		for range rapid.IntRange(1, 15).Draw(t, "events") {
			harm(t, w)
			if err := w.Run(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		w.Heal()
		for _, node := range w.Nodes {
			if !node.Up() {
				node.Start(sim.Address(0).String())
			}
			node.Step(peer.Connect{Targets: []string{sim.Address(0).String()}})
		}
		if took, err := w.RunUntil(15*time.Minute, converged(w)); err != nil {
			t.Fatalf("not calm after %s: %v", took, err)
		}
		for _, node := range w.Nodes {
			if c := node.Mesh.Counters(); c.KeyConflicts+c.BadSignatures+c.BadRecords+c.BadMessages > 0 {
				t.Fatalf("%s counted %+v", node.Name, c)
			}
			for _, p := range node.View.Peers {
				if p.Name != peer.NameFromKey(p.Key) {
					t.Fatalf("%s knows %s by another's key", node.Name, p.Name)
				}
			}
		}
	})
}

func harm(t *rapid.T, w *sim.Network) {
	node := w.Nodes[rapid.IntRange(0, len(w.Nodes)-1).Draw(t, "node")]
	switch rapid.IntRange(0, 6).Draw(t, "harm") {
	case 0, 1:
		node.Start(sim.Address(rapid.IntRange(0, len(w.Nodes)-1).Draw(t, "target")).String())
	case 2:
		if node.Up() {
			node.Kill()
		}
	case 3:
		if node.Up() {
			node.Leave()
		}
	case 4:
		mask := rapid.IntRange(0, 1<<len(w.Nodes)-1).Draw(t, "mask")
		w.Partition(func(i int) int { return mask >> i & 1 })
	case 5:
		w.Heal()
	case 6:
		w.BreakConnections(rapid.Float64Range(0, 1).Draw(t, "part"))
	}
}

func TestSameSeedSameRun(t *testing.T) {
	run := func() sim.Stats {
		w := start(t, sim.Config{Seed: 10, Spread: 30 * time.Millisecond, DialLoss: 0.1}, 8)
		if err := w.Run(time.Minute); err != nil {
			t.Fatal(err)
		}
		w.BreakConnections(0.5)
		if err := w.Run(time.Minute); err != nil {
			t.Fatal(err)
		}
		return w.Stats
	}
	if a, b := run(), run(); a != b {
		t.Errorf("two runs of one seed differ: %+v, %+v", a, b)
	}
}
