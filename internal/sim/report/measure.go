package main

import (
	"fmt"
	"os"
	goruntime "runtime"
	"time"

	"golang.org/x/sys/unix"

	"weave/internal/sim"
	"weave/peer"
)

// cost is what a part of a run took, per peer.
type cost struct {
	took     time.Duration // simulated, until the goal was reached
	ran      time.Duration // simulated, all
	messages float64
	bytes    float64
	cpu      float64 // seconds of a processor, signatures included
}

// column is all that was measured at one size.
type column struct {
	peers      int
	shape      sim.Shape
	join, idle cost
	flap, die  cost
	split      cost // into halves
	heal       cost
	seedBytes  uint64  // sent by the seed while all joined
	heap       float64 // bytes per peer, equal records shared
	heapAlone  float64 // if each peer held its own
	routes     time.Duration
	wall       time.Duration
}

// lab is a network with what is counted beside it.
type lab struct {
	w         *sim.Network
	peers     int
	signature time.Duration // what checking one costs
}

// limit is when a scenario is given up, simulated.
const limit = 5 * time.Minute

func measure(n int, seed uint64) (column, error) {
	c := column{peers: n}
	l := &lab{peers: n, signature: signatureCost()}
	before := heap()
	l.w = sim.New(sim.Config{Seed: seed, Spread: 20 * time.Millisecond, Fast: true})
	begun := time.Now()
	var err error
	steps := []func() error{
		func() (err error) { c.join, err = l.cost(0, l.join, l.settled); return err },
		func() error { c.seedBytes = l.w.Nodes[0].Sent.Bytes; return l.w.Run(time.Minute) },
		func() (err error) { c.idle, err = l.cost(time.Minute, nil, nil); return err },
		func() error { c.heap = float64(heap()-before) / float64(n); return nil },
		func() error { c.shape = sim.ShapeOf(l.w.Running()); return nil },
		func() (err error) { c.flap, err = l.flap(); return err },
		func() error { return l.w.Run(time.Minute) },
		func() (err error) { c.die, err = l.cost(0, l.decimate, l.settled); return err },
		func() error { return l.w.Run(2 * time.Minute) },
		func() (err error) { c.split, err = l.cost(time.Minute, l.halve, l.halvesSettled); return err },
		func() (err error) { c.heal, err = l.cost(0, l.reunite, l.settled); return err },
	}
	for i, step := range steps {
		if err = step(); err != nil {
			return c, fmt.Errorf("step %d: %w", i+1, err)
		}
		fmt.Fprintf(os.Stderr, "%d peers: step %d of %d done, %s\n", n, i+1, len(steps), time.Since(begun).Round(time.Second))
	}
	_, _, held := l.w.Nodes[0].Mesh.Sum()
	c.heapAlone = c.heap + float64(held)
	c.routes = routeCost(l.w.Nodes[0].View)
	c.wall = time.Since(begun)
	return c, nil
}

// cost does something and lets time pass until a goal is reached, and at least
// for a time.
func (l *lab) cost(atLeast time.Duration, do func() error, goal func() error) (cost, error) {
	stats, cpu, verified, from := l.w.Stats, processor(), l.verified(), l.w.Now()
	if do != nil {
		if err := do(); err != nil {
			return cost{}, err
		}
	}
	var out cost
	var err error
	if goal != nil {
		if out.took, err = l.w.RunUntil(limit, goal); err != nil {
			return out, err
		}
	}
	if err = l.w.Run(max(0, atLeast-l.w.Now().Sub(from))); err != nil {
		return out, err
	}
	n := float64(l.peers)
	out.ran = l.w.Now().Sub(from)
	out.messages = float64(l.w.Stats.Messages-stats.Messages) / n
	out.bytes = float64(l.w.Stats.Bytes-stats.Bytes) / n
	checks := time.Duration(l.verified()-verified) * l.signature
	out.cpu = (processor() - cpu + checks).Seconds() / n
	return out, nil
}

func (l *lab) join() error { return l.w.Grow(l.peers) }

func (l *lab) settled() error { return sim.Settled(l.w.Running()) }

// flap breaks one connection, five times over, and keeps the slowest.
func (l *lab) flap() (cost, error) {
	var worst cost
	for i := range 5 {
		stats := l.w.Stats
		took, err := l.w.Flap(l.w.Nodes[i*(l.peers-1)/5], limit)
		if err != nil {
			return worst, err
		}
		if err := l.w.Run(20 * time.Second); err != nil {
			return worst, err
		}
		bytes := float64(l.w.Stats.Bytes-stats.Bytes) / float64(l.peers)
		worst.took, worst.bytes = max(worst.took, took), max(worst.bytes, bytes)
	}
	return worst, nil
}

// decimate kills a tenth of the peers, the seed not among them.
func (l *lab) decimate() error {
	for _, i := range l.w.Rand().Perm(l.peers - 1)[:l.peers/10] {
		l.w.Nodes[i+1].Kill()
	}
	return nil
}

func (l *lab) halve() error {
	l.w.Partition(func(i int) int { return i % 2 })
	return nil
}

func (l *lab) halvesSettled() error {
	var halves [2][]*sim.Node
	for i, n := range l.w.Nodes {
		if n.Up() {
			halves[i%2] = append(halves[i%2], n)
		}
	}
	if err := sim.Settled(halves[0]); err != nil {
		return err
	}
	return sim.Settled(halves[1])
}

func (l *lab) reunite() error {
	l.w.Heal()
	return nil
}

// verified counts the signatures that the peers looked at.
func (l *lab) verified() uint64 {
	sum := l.w.Stats.Verified
	for _, n := range l.w.Nodes {
		if n.Up() {
			sum += n.Mesh.Counters().Verified
		}
	}
	return sum
}

// processor is the processor time that this process has used.
func processor() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	goruntime.GC()
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.HeapAlloc
}

// signatureCost measures the check of one record.
func signatureCost() time.Duration {
	id := peer.IdentityFromSeed([peer.KeyLen]byte{1})
	r := peer.Record{Name: peer.NameFromKey(id.PublicKey()), Key: id.PublicKey(), Version: 1}
	var links [10]peer.Link
	for i := range links {
		links[i] = peer.Link{Peer: peer.Name{2, 5: byte(i)}, Address: "10.0.0.1:6783"}
	}
	r.Links = peer.MakeLinks(links[:]...)
	s := id.SignRecord(r).Wire()
	const rounds = 500
	begun := processor()
	for range rounds {
		if _, err := peer.OpenRecord(s); err != nil {
			return 0
		}
	}
	return (processor() - begun) / rounds
}

// routeCost measures one computation of all routes of a view like v.
func routeCost(v *peer.View) time.Duration {
	fresh := v.Again()
	begun := time.Now()
	fresh.Routes()
	return time.Since(begun)
}
