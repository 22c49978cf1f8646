package peer

import (
	"iter"
	"slices"
	"time"

	"weave/peer/wire"
)

// Up to sparseAbove reachable peers everybody keeps a connection with everybody.
// In a larger network each peer chooses, from the names it knows:
//
//   - its ringSide successors and predecessors on the ring of hashed names,
//     which keep the graph connected whoever joins or dies;
//   - shortcuts peers drawn by rendezvous hashing of the pair of names, which
//     make its diameter logarithmic and change little when membership does.
//
// The choice depends on names only, so peers that know the same names agree on
// it without talking. A connection that neither end needs is closed after a
// while, those with the longest round trip first; with degreeKeep connections
// or fewer nothing is closed.
const (
	sparseAbove = 32
	sparseBelow = 24
	ringSide    = 2
	shortcuts   = 3
	degreeKeep  = 10
	// Above degreeMax connections those go too that only the other end's
	// operator asked for, and sooner.
	degreeMax = 20
	spareFor  = 5 * time.Second // how long a connection must have been of no need
	excessFor = 2 * time.Second
	// pruneEvery is the least time between two that are closed.
	pruneEvery  = time.Second
	excessEvery = 50 * time.Millisecond
	// givenUp failures make a chosen peer count as out of our reach: another is
	// chosen beside it.
	givenUp = 3

	textSurplus = "not needed: the network holds without this connection"
)

// tie says why a peer was chosen; tieNone that it was not.
type tie uint8

const (
	tieNone tie = iota
	tieRing
	tieShortcut
)

// overlay is whom this peer wants connections with, in a sparse network.
type overlay struct {
	sparse  bool
	chosen  map[Name]tie // among the reachable
	dial    map[Name]tie // also lost ones and those that do not answer
	pruneAt time.Time    // zero: nothing is of no need

	observed map[Name][]string // addresses of missing peers, since the last review
}

// need says what a connection means to one end.
type need struct{ overlay, target bool }

// standing is what a connection is needed for.
type standing struct {
	told, theirs need
	spareSince   time.Time // zero while somebody needs it
	surplus      bool      // the other end closes it as of no need
}

func newStanding() standing { return standing{told: need{overlay: true}, theirs: need{overlay: true}} }

// mix is a permutation of 64 bits in which every bit depends on all (the
// finaliser of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (n Name) number() uint64 {
	var x uint64
	for _, b := range n {
		x = x<<8 | uint64(b)
	}
	return x
}

// pairHash is the same for (a, b) and (b, a).
func pairHash(a, b uint64) uint64 { return mix(mix(min(a, b)) + max(a, b)) }

// ranked is a list of the few names with the lowest keys.
type ranked struct {
	limit int
	keys  []uint64
	names []Name
}

func (r *ranked) offer(key uint64, n Name) {
	if len(r.keys) == r.limit && key >= r.keys[r.limit-1] {
		return
	}
	at, _ := slices.BinarySearch(r.keys, key)
	if len(r.keys) == r.limit {
		r.keys, r.names = r.keys[:r.limit-1], r.names[:r.limit-1]
	}
	r.keys, r.names = slices.Insert(r.keys, at, key), slices.Insert(r.names, at, n)
}

// choose picks the peers that self needs in a sparse network of these names.
func choose(self Name, names iter.Seq[Name]) map[Name]tie {
	after, before, far := ranked{limit: ringSide}, ranked{limit: ringSide}, ranked{limit: shortcuts}
	me := self.number()
	at := mix(me)
	for n := range names {
		if n == self {
			continue
		}
		x := n.number()
		ahead := mix(x) - at
		after.offer(ahead, n)
		before.offer(-ahead, n)
		far.offer(pairHash(me, x), n)
	}
	out := make(map[Name]tie, 2*ringSide+shortcuts)
	for _, n := range far.names {
		out[n] = tieShortcut
	}
	for _, n := range slices.Concat(after.names, before.names) {
		out[n] = tieRing
	}
	return out
}

// reviewOverlay follows the membership: it chooses anew and tells the
// neighbours what they are to us.
func (m *Mesh) reviewOverlay() {
	o := &m.overlay
	size := m.topo.crdt.reached
	o.sparse = size > sparseAbove || (o.sparse && size >= sparseBelow)
	o.chosen, o.dial = nil, nil
	o.observed = make(map[Name][]string)
	if o.sparse {
		deaf := m.maker.deaf(m)
		o.chosen = choose(m.cfg.Name, func(yield func(Name) bool) {
			for _, p := range m.topo.peers {
				if !deaf[p.Name] && !yield(p.Name) {
					return
				}
			}
		})
		o.dial = choose(m.cfg.Name, func(yield func(Name) bool) {
			for n := range m.topo.crdt.records {
				if !yield(n) {
					return
				}
			}
		})
		for n, t := range o.chosen {
			o.dial[n] = t
		}
	}
	m.tellNeeds()
	m.reviewSpare()
}

// deaf returns the peers all of whose addresses failed several times.
func (k *maker) deaf(m *Mesh) map[Name]bool {
	out := make(map[Name]bool)
	for _, a := range k.attempts {
		if !a.to.IsZero() && a.fails >= givenUp && m.conns.byPeer[a.to] == nil {
			out[a.to] = true
		}
	}
	for _, a := range k.attempts {
		if a.fails < givenUp {
			delete(out, a.to)
		}
	}
	return out
}

// needs says what we need a connection for.
func (m *Mesh) needs(c *conn) need {
	n := need{overlay: !m.overlay.sparse || m.cfg.NoDiscovery || m.overlay.chosen[c.peer] != tieNone}
	for _, a := range m.maker.attempts {
		if a.explicit && (a.peer == c.peer || a.conn == c.id) {
			n.target = true
		}
	}
	return n
}

// tellNeeds tells each neighbour when our need of it has changed.
func (m *Mesh) tellNeeds() {
	for _, c := range m.conns.joined() {
		n := m.needs(c)
		if n == c.standing.told {
			continue
		}
		c.standing.told = n
		m.send(c.id, &wire.Control{Kind: &wire.Control_Need{Need: &wire.Need{Overlay: n.overlay, Target: n.target}}})
	}
}

func (m *Mesh) needReceived(c *conn, n *wire.Need) {
	c.standing.theirs = need{n.GetOverlay(), n.GetTarget()}
	if n.GetSurplus() {
		c.standing.surplus = true
	}
	m.reviewSpare()
}

// maxDegree is how many connections are kept that others need only as targets.
func (m *Mesh) maxDegree() int {
	if m.cfg.ConnLimit > 0 {
		return min(m.cfg.ConnLimit, degreeMax)
	}
	return degreeMax
}

// reviewSpare notes which connections are of no need, and since when.
func (m *Mesh) reviewSpare() {
	o := &m.overlay
	if !o.sparse || m.left || m.cfg.NoDiscovery {
		o.pruneAt = time.Time{}
		for _, c := range m.conns.byPeer {
			c.standing.spareSince = time.Time{}
		}
		return
	}
	crowded := len(m.conns.byPeer) > m.maxDegree()
	any := false
	for _, c := range m.conns.byPeer {
		s := &c.standing
		if s.told != (need{}) || s.theirs.overlay || (s.theirs.target && !crowded) {
			s.spareSince = time.Time{}
			continue
		}
		any = true
		if s.spareSince.IsZero() {
			s.spareSince = m.now
		}
	}
	switch {
	case !any || len(m.conns.byPeer) <= degreeKeep:
		o.pruneAt = time.Time{}
	case o.pruneAt.IsZero():
		o.pruneAt = m.now.Add(excessFor)
	}
}

// prune closes one connection that nobody needs, if there is one and the rest
// of the graph is known to hold without it.
func (m *Mesh) prune() {
	o := &m.overlay
	if o.pruneAt.IsZero() || m.now.Before(o.pruneAt) {
		return
	}
	wait, every := spareFor, pruneEvery
	if len(m.conns.byPeer) > m.maxDegree() {
		wait, every = excessFor, excessEvery
	}
	o.pruneAt = m.now.Add(every)
	if !m.ringHolds() && len(m.conns.byPeer) <= 2*degreeMax {
		o.pruneAt = m.now.Add(pruneEvery)
		return
	}
	if c := m.sparest(wait); c != nil {
		m.send(c.id, &wire.Control{Kind: &wire.Control_Need{Need: &wire.Need{Surplus: true}}})
		c.standing.surplus = true
		m.closeConn(c, textSurplus)
	}
	m.reviewSpare()
}

// ringHolds reports whether all our neighbours on the ring are connected.
func (m *Mesh) ringHolds() bool {
	for n, t := range m.overlay.chosen {
		if t == tieRing && m.conns.byPeer[n] == nil {
			return false
		}
	}
	return true
}

// sparest returns the slowest connection that has been of no need for long
// enough and is no bridge.
func (m *Mesh) sparest(wait time.Duration) *conn {
	var worst *conn
	var worstRTT time.Duration
	for _, c := range m.conns.joined() {
		s := &c.standing
		if s.spareSince.IsZero() || m.now.Before(s.spareSince.Add(wait)) {
			continue
		}
		rtt := m.conns.path(c.peer).RTT
		if rtt == 0 {
			rtt = time.Hour // never measured
		}
		if (worst != nil && rtt <= worstRTT) || m.isBridge(c) {
			continue
		}
		worst, worstRTT = c, rtt
	}
	return worst
}

// isBridge reports whether no other way is known to the peer of c: a walk from
// it, over links that both ends tell of, finds none of our other neighbours.
func (m *Mesh) isBridge(c *conn) bool {
	seen := map[Name]bool{c.peer: true, m.cfg.Name: true}
	queue := []Name{c.peer}
	for at := 0; at < len(queue); at++ {
		s := m.topo.crdt.get(queue[at])
		if s == nil {
			continue
		}
		for i := range s.Record.Links.Len() {
			n := s.Record.Links.Peer(i)
			if seen[n] || !m.topo.crdt.linked(queue[at], n) {
				continue
			}
			if m.conns.byPeer[n] != nil {
				return false
			}
			seen[n] = true
			queue = append(queue, n)
		}
	}
	return true
}
