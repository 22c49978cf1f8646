package sim_test

import (
	"fmt"
	"testing"
	"time"

	"weave/internal/sim"
	"weave/peer"
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
	for _, n := range []int{1, 2, 3, 10, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
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
