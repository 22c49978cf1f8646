package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"weave/peer"
)

// Port is what every simulated peer listens on.
const Port = 6783

// Config describes the weather.
type Config struct {
	Seed      uint64
	Latency   time.Duration // least one-way delay; the default is 2 ms
	Spread    time.Duration // how much more some pairs have
	DialLoss  float64       // part of the dials that fail for no reason
	ConnLimit int
	Isolated  bool // no discovery: targets only
}

// Stats count what the peers sent.
type Stats struct {
	Messages, Bytes, Dials, Steps uint64
}

// Network is the world the nodes live in.
type Network struct {
	Nodes []*Node
	Stats Stats

	cfg    Config
	rng    *rand.Rand
	now    time.Time
	events queue
	seq    uint64
	groups []int // partition group by node; all zero = whole
	nextID peer.ConnID
	errs   []error
}

// New makes an empty network.
func New(cfg Config) *Network {
	if cfg.Latency == 0 {
		cfg.Latency = 2 * time.Millisecond
	}
	return &Network{
		cfg: cfg,
		rng: rand.New(rand.NewPCG(cfg.Seed, 1)),
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// Now returns the simulated time.
func (w *Network) Now() time.Time { return w.now }

// Rand returns the network's source of randomness.
func (w *Network) Rand() *rand.Rand { return w.rng }

// Err returns what went wrong so far: failed Checks and misuse of the driver's
// side of the contract.
func (w *Network) Err() error { return errors.Join(w.errs...) }

func (w *Network) fail(format string, args ...any) {
	if len(w.errs) < 10 {
		w.errs = append(w.errs, fmt.Errorf("at %s: "+format, append([]any{w.now.Format("15:04:05.000")}, args...)...))
	}
}

// Address returns where node i listens.
func Address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Port)
}

// Partition splits the network: nodes of different groups cannot talk. Their
// connections break within some seconds.
func (w *Network) Partition(group func(i int) int) {
	for i := range w.groups {
		w.groups[i] = group(i)
	}
	for _, n := range w.Nodes {
		for _, l := range n.sortedLinks() {
			if l.dialler == n && !w.open(l.dialler, l.acceptor) {
				w.breakLink(l)
			}
		}
	}
}

// Heal ends the partition.
func (w *Network) Heal() {
	for i := range w.groups {
		w.groups[i] = 0
	}
}

// BreakConnections breaks a part of all connections.
func (w *Network) BreakConnections(part float64) {
	for _, n := range w.Nodes {
		for _, l := range n.sortedLinks() {
			if l.dialler == n && w.rng.Float64() < part {
				w.breakLink(l)
			}
		}
	}
}

func (w *Network) open(a, b *Node) bool {
	return a.up && b.up && w.groups[a.index] == w.groups[b.index]
}

// delay is the one-way delay between two nodes, the same in both directions.
func (w *Network) delay(a, b *Node) time.Duration {
	if w.cfg.Spread == 0 {
		return w.cfg.Latency
	}
	lo, hi := min(a.index, b.index), max(a.index, b.index)
	h := rand.New(rand.NewPCG(uint64(lo), uint64(hi))).Float64()
	return w.cfg.Latency + time.Duration(h*float64(w.cfg.Spread))
}

// Run lets time pass.
func (w *Network) Run(d time.Duration) error {
	end := w.now.Add(d)
	for len(w.events) > 0 && !w.events[0].at.After(end) && len(w.errs) == 0 {
		w.next()
	}
	w.now = end
	return w.Err()
}

// RunUntil lets time pass until done holds, looking every tenth of a second,
// and returns how long it took.
func (w *Network) RunUntil(limit time.Duration, done func() error) (time.Duration, error) {
	start := w.now
	for {
		err := done()
		if err == nil || w.now.Sub(start) >= limit {
			return w.now.Sub(start), errors.Join(err, w.Err())
		}
		if err := w.Run(100 * time.Millisecond); err != nil {
			return w.now.Sub(start), err
		}
	}
}

// event is something that happens at a time; do is called with the clock set.
type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type queue []event

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	(*q)[last] = event{}
	*q = (*q)[:last]
	return x
}

func (w *Network) at(t time.Time, do func()) {
	w.seq++
	heap.Push(&w.events, event{at: t, seq: w.seq, do: do})
}

func (w *Network) after(d time.Duration, do func()) { w.at(w.now.Add(d), do) }

func (w *Network) next() {
	e := heap.Pop(&w.events).(event)
	if e.at.After(w.now) {
		w.now = e.at
	}
	e.do()
}
