package sim_test

import (
	"fmt"
	"testing"
	"time"

	"weave/internal/sim"
	"weave/peer"
)

// TestScale holds the network to what is promised at 1,000 peers, at sizes an
// ordinary test can afford. All times are simulated. `make sim` measures more.
func TestScale(t *testing.T) {
	idle := make(map[int]float64)
	for _, n := range []int{100, 300} {
		if n > 100 && testing.Short() {
			continue
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) { idle[n] = scale(t, n) })
	}
	if testing.Short() || t.Failed() {
		return
	}
	if idle[300] > 2*idle[100] {
		t.Errorf("idle bytes grow from %.1f to %.1f per second and peer", idle[100], idle[300])
	}
}

// scale returns the bytes per second and peer of the idle network.
func scale(t *testing.T, n int) float64 {
	w := sim.New(sim.Config{Seed: 1, Spread: 20 * time.Millisecond, Fast: true})
	if err := w.Grow(n); err != nil {
		t.Fatal(err)
	}
	settled := func() error { return sim.Settled(w.Running()) }
	took := mustReach(t, w, 15*time.Second, settled)
	if err := w.Run(time.Minute); err != nil {
		t.Fatal(err)
	}
	if s := sim.ShapeOf(w.Nodes); s.Diameter < 0 || s.Diameter > 6 || s.MaxDegree > 25 || s.MeanDegree > 11 {
		t.Errorf("%+v", s)
	}
	before := w.Stats
	if err := w.Run(time.Minute); err != nil {
		t.Fatal(err)
	}
	bytes := float64(w.Stats.Bytes-before.Bytes) / float64(n) / 60
	if bytes > 100 || w.Stats.Dials != before.Dials {
		t.Errorf("idle: %.1f B/s per peer, %d dials", bytes, w.Stats.Dials-before.Dials)
	}
	flap, err := w.Flap(w.Nodes[n/2], 2*time.Second)
	if err != nil {
		t.Errorf("flap: %v", err)
	}
	for i := 1; i < n; i += 10 {
		w.Nodes[i].Kill()
	}
	died := mustReach(t, w, 20*time.Second, settled)
	t.Logf("joined in %s, idle %.1f B/s, flap %s, 10%% dead after %s", took, bytes, flap, died)
	return bytes
}

// TestSparseChurn does random harm to a network that is large enough to be
// sparse, with Check after every step, then lets it calm down.
func TestSparseChurn(t *testing.T) {
	for seed := range uint64(2) {
		if seed > 0 && testing.Short() {
			break
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { sparseChurn(t, seed) })
	}
}

func sparseChurn(t *testing.T, seed uint64) {
	w := sim.New(sim.Config{Seed: seed, Spread: 20 * time.Millisecond, DialLoss: 0.05, Fast: true, CheckAll: true})
	if err := w.Grow(45); err != nil {
		t.Fatal(err)
	}
	rng := w.Rand()
	for range 15 {
		n := w.Nodes[rng.IntN(len(w.Nodes))]
		switch rng.IntN(6) {
		case 0, 1:
			n.Start(sim.Address(rng.IntN(len(w.Nodes))).String())
		case 2:
			if n.Up() {
				n.Kill()
			}
		case 3:
			if n.Up() {
				n.Leave()
			}
		case 4:
			w.BreakConnections(rng.Float64() / 2)
		case 5:
			parts := 1 + rng.IntN(3)
			w.Partition(func(i int) int { return i % parts })
		}
		if err := w.Run(time.Duration(rng.IntN(8000)) * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	w.Heal()
	for _, n := range w.Nodes {
		if !n.Up() {
			n.Start(sim.Address(0).String())
		}
		n.Step(peer.Connect{Targets: []string{sim.Address(0).String()}})
	}
	took := mustReach(t, w, 2*time.Minute, func() error { return sim.Settled(w.Running()) })
	if err := sim.LoopFree(w.Running()); err != nil {
		t.Error(err)
	}
	if err := w.Run(time.Minute); err != nil {
		t.Fatal(err)
	}
	s := sim.ShapeOf(w.Nodes)
	if s.Diameter < 0 || s.MaxDegree > 25 {
		t.Errorf("%+v", s)
	}
	t.Logf("calm in %s, %+v", took, s)
}
