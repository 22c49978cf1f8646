package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"weave/peer"
	"weave/peer/wire"
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
	// Fast is for thousands of peers: messages are handed over as they are and
	// counted by the size of their encoding, peers share the memory of equal
	// records and the checks of their signatures, and Check runs now and then,
	// unless CheckAll asks for it after every step.
	Fast     bool
	CheckAll bool
}

// checkSeldom is how many steps a Fast network makes between two Checks.
const checkSeldom = 997

// Stats count what the peers sent. Bytes are those of messages and of their
// frames (length, flags, tag: frameBytes), without TCP and IP.
type Stats struct {
	Messages, Bytes, Dials, Steps uint64
	Verified                      uint64 // signatures checked by peers that have ended
}

// frameBytes is what peer/control adds to a message of up to 64 KiB.
const (
	frameBytes = 2 + 1 + 16
	framePart  = 65518
)

func framed(size int) uint64 { return uint64(size + frameBytes*(1+size/framePart)) }

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
	named  map[peer.Name]*Node
	listen map[string]*Node
	shared shared
	pairs  map[[2]int]pair // by index, lower first
	walls  map[[2]int]bool // who cannot dial whom
}

// pair is what is special about the way between two nodes.
type pair struct {
	latency time.Duration // one way; 0 = as everywhere
	cut     bool          // nothing passes
}

// shared is what the nodes of a Fast network have in common.
type shared struct {
	opened *peer.Opened // nil unless Fast
	// The message whose size was computed last: the same one often goes to several
	// neighbours.
	message *wire.Control
	bytes   int
}

// New makes an empty network.
func New(cfg Config) *Network {
	if cfg.Latency == 0 {
		cfg.Latency = 2 * time.Millisecond
	}
	w := &Network{
		cfg:   cfg,
		rng:   rand.New(rand.NewPCG(cfg.Seed, 1)),
		now:   time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		named: make(map[peer.Name]*Node), listen: make(map[string]*Node),
		pairs: make(map[[2]int]pair), walls: make(map[[2]int]bool),
	}
	if cfg.Fast {
		w.shared.opened = peer.NewOpened(1 << 16)
	}
	return w
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
	return a.up && b.up && w.joined(a, b)
}

// joined reports whether there is a way between two nodes, up or not.
func (w *Network) joined(a, b *Node) bool {
	return w.groups[a.index] == w.groups[b.index] && !w.pairs[pairOf(a, b)].cut
}

func pairOf(a, b *Node) [2]int { return [2]int{min(a.index, b.index), max(a.index, b.index)} }

// Latency sets the one-way delay between two nodes.
func (w *Network) Latency(a, b *Node, d time.Duration) {
	p := w.pairs[pairOf(a, b)]
	p.latency = d
	w.pairs[pairOf(a, b)] = p
}

// Cut lets nothing pass between two nodes; their connections break within some
// seconds. Mend undoes it.
func (w *Network) Cut(a, b *Node) {
	p := w.pairs[pairOf(a, b)]
	p.cut = true
	w.pairs[pairOf(a, b)] = p
	for _, l := range a.sortedLinks() {
		if l.other(a) == b {
			w.breakLink(l)
		}
	}
}

// Mend undoes Cut.
func (w *Network) Mend(a, b *Node) {
	p := w.pairs[pairOf(a, b)]
	p.cut = false
	w.pairs[pairOf(a, b)] = p
}

// Wall lets from reach to no more by dialling; connections to's dials make work
// both ways, as through a firewall.
func (w *Network) Wall(from, to *Node) { w.walls[[2]int{from.index, to.index}] = true }

// delay is the one-way delay between two nodes, the same in both directions.
func (w *Network) delay(a, b *Node) time.Duration {
	if p := w.pairs[pairOf(a, b)]; p.latency > 0 {
		return p.latency
	}
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
	for len(w.events) > 0 && w.events[0].at <= end.UnixNano() && len(w.errs) == 0 {
		w.next()
	}
	w.now = end
	return w.Err()
}

// RunUntil lets time pass until done holds, looking every tenth of a second,
// and returns how long it took.
func (w *Network) RunUntil(limit time.Duration, done func() error) (time.Duration, error) {
	return w.runUntil(100*time.Millisecond, limit, done)
}

func (w *Network) runUntil(step, limit time.Duration, done func() error) (time.Duration, error) {
	start := w.now
	for {
		err := done()
		if err == nil || w.now.Sub(start) >= limit {
			return w.now.Sub(start), errors.Join(err, w.Err())
		}
		if err := w.Run(step); err != nil {
			return w.now.Sub(start), err
		}
	}
}

// event is something that happens at a time; do is called with the clock set.
type event struct {
	at  int64 // nanoseconds
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool {
	if e.at != o.at {
		return e.at < o.at
	}
	return e.seq < o.seq
}

// queue is a binary heap.
type queue []event

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0 && h[i].before(&h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

func (q *queue) pop() event {
	h := *q
	top, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	for i := 0; ; {
		least := 2*i + 1
		if least >= last {
			break
		}
		if least+1 < last && h[least+1].before(&h[least]) {
			least++
		}
		if !h[least].before(&h[i]) {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*q = h
	return top
}

func (w *Network) at(t time.Time, do func()) {
	w.seq++
	w.events.push(event{at: t.UnixNano(), seq: w.seq, do: do})
}

func (w *Network) after(d time.Duration, do func()) { w.at(w.now.Add(d), do) }

func (w *Network) next() {
	e := w.events.pop()
	if t := time.Unix(0, e.at).UTC(); t.After(w.now) {
		w.now = t
	}
	e.do()
}
