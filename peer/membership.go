package peer

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// recomputeInterval is the least time between two computations of what
	// follows from the topology: reachability, routes, who to dial.
	recomputeInterval = 100 * time.Millisecond
	recomputeMax      = time.Second
	// waverInterval is recomputeInterval for round-trip times, which waver all the time on busy hosts. Each peer tells of its
	// own as rarely (rttInterval).
	waverInterval = 10 * time.Second
	peersPerStep  = 100 // so many peers stretch it once more, for changes far away
	// peerGrace is how long the record of an unreachable peer is kept. Long
	// enough to dial it again after a break, short enough to forget the dead.
	peerGrace = time.Minute
	// maxPeers bounds records held, and maxPins names pinned, against a member
	// that invents peers.
	maxPeers = 16384
	maxPins  = 65536
	// maxHeld bounds the bytes of all records held.
	maxHeld = 64 << 20
)

// membership is the topology with what this peer adds to it: pins, and who is
// reachable at present.
type membership struct {
	crdt      Topology
	pins      map[Name]PublicKey
	lostAt    map[Name]time.Time // unreachable since
	ways      *ways
	peers     []*PeerView
	pace      map[Name]bucket // of new versions
	changedAt time.Time
	wait      time.Duration // since lastAt, before the change is looked at
	lastAt    time.Time
	gcAt      time.Time
	signed    []byte // scratch of Mesh.verify
	warned    Name   // whose key conflict was logged last; repeats are only counted
}

func newMembership(cfg Config) membership {
	t := membership{
		pins:   make(map[Name]PublicKey, len(cfg.Pins)),
		lostAt: make(map[Name]time.Time),
		pace:   make(map[Name]bucket),
	}
	maps.Copy(t.pins, cfg.Pins)
	t.pins[cfg.Name] = cfg.Identity.PublicKey()
	return t
}

func (t *membership) touch(now time.Time, wait time.Duration) {
	if t.changedAt.IsZero() {
		t.changedAt, t.wait = now, wait
	}
	t.wait = min(t.wait, wait)
}

// touchRemote notes a change elsewhere in the network: the larger that is, the
// more of them are looked at together.
func (t *membership) touchRemote(now time.Time) {
	t.touch(now, min(recomputeInterval*time.Duration(1+t.crdt.reached/peersPerStep), recomputeMax))
}

// touchFor notes that a record takes the place of another of the same peer; nil: of none. It reports whether more than round-trip
// times is new.
func (t *membership) touchFor(now time.Time, held, next *Signed) bool {
	if held != nil && sameButTimes(&held.Record, &next.Record) {
		t.touch(now, waverInterval)
		return false
	}
	t.touchRemote(now)
	return true
}

func (t *membership) dueAt() time.Time {
	at := t.gcAt
	if !t.changedAt.IsZero() {
		change := later(t.changedAt, t.lastAt.Add(t.wait))
		if at.IsZero() || change.Before(at) {
			at = change
		}
	}
	return at
}

func (t *membership) due(now time.Time) bool {
	at := t.dueAt()
	return !at.IsZero() && !now.Before(at)
}

// recompute derives reachability, routes and the list of peers from the
// records, and forgets peers that have been unreachable for long.
func (m *Mesh) recompute() {
	t := &m.topo
	t.changedAt, t.lastAt, t.gcAt = time.Time{}, m.now, time.Time{}
	roots := append([]Name{m.cfg.Name}, sortedNames(m.conns.byPeer)...)
	t.crdt.walk(roots)
	for n, e := range t.crdt.records {
		if e.found(&t.crdt) {
			if len(t.lostAt) > 0 {
				delete(t.lostAt, n)
			}
			continue
		}
		since, ok := t.lostAt[n]
		if !ok {
			since = m.now
			t.lostAt[n] = since
		}
		gone := since.Add(peerGrace)
		if !m.now.Before(gone) {
			t.forget(n)
			delete(m.conns.paths, n)
			delete(m.letters.seen, n)
			continue
		}
		if t.gcAt.IsZero() || gone.Before(t.gcAt) {
			t.gcAt = gone
		}
	}
	t.list()
	t.ways = waysAfter(t.ways, m.cfg.Name, t.peers)
	m.gossip.sums.dirty = true
	m.letters.hops = nil
	m.reviewOverlay()
	m.maker.touch()
	m.stale = true
}

// list makes peers the reachable ones, sorted.
func (t *membership) list() {
	out := make([]*PeerView, 0, Ample(t.crdt.reached))
	for _, e := range t.crdt.records {
		if e.found(&t.crdt) {
			out = append(out, e.view)
		}
	}
	slices.SortFunc(out, func(a, b *PeerView) int { return cmp.Compare(a.number, b.number) })
	t.peers = out
}

func (t *membership) forget(n Name) {
	t.crdt.drop(n)
	delete(t.lostAt, n)
	delete(t.pace, n)
}

// put takes over a verified record and reports whether it was news.
func (t *membership) put(s *Signed) bool { return t.crdt.put(s) }

// admit decides whether a record from the network may enter the topology, and
// merges it. It reports whether the record was news.
func (m *Mesh) admit(s *Signed) bool {
	name := s.Record.Name
	held := m.topo.crdt.get(name)
	if held != nil && s.compare(held) <= 0 {
		m.counters.RecordsKnown++
		return false
	}
	if held != nil && !m.inPace(name) {
		m.counters.Throttled++
		return false
	}
	if err := m.verify(s); err != nil {
		m.countBad(err)
		return false
	}
	if !m.pin(s.Record) {
		return false
	}
	if name == m.cfg.Name {
		m.outbid(s.Record)
		return false
	}
	if (held == nil && m.topo.crdt.Len() >= maxPeers) || m.topo.crdt.bytes+s.weight() > maxHeld {
		m.counters.TooMany++
		return false
	}
	m.topo.touchFor(m.now, held, s)
	m.topo.put(s)
	m.share(m.conns.byPeer[name])
	m.gossip.sums.dirty = true
	m.counters.RecordsNew++
	return true
}

// share has a connection know its peer by the record held, if that is of the run
// the connection is with: the one shown in Hello would take as much memory again.
func (m *Mesh) share(c *conn) {
	if c == nil {
		return
	}
	if held := m.topo.crdt.get(c.peer); held != nil && held.Record.UID == c.uid && held.x25519 == c.static {
		c.record = held
	}
}

// verify checks the signature of a record that was only parsed so far.
func (m *Mesh) verify(s *Signed) error {
	m.counters.Verified++
	var err error
	m.topo.signed, err = s.verify(m.topo.signed)
	return err
}

// inPace reports whether another version of a peer's record may be looked at
// now. A peer that publishes faster is heard now and then.
func (m *Mesh) inPace(n Name) bool {
	b, ok := m.topo.pace[n]
	if !ok {
		b = bucket{level: versionBurst, at: m.now}
	}
	ok = b.take(m.now, 1, versionRate, versionBurst)
	m.topo.pace[n] = b
	return ok
}

// pin ties a name to the key it is first seen with and refuses any other.
func (m *Mesh) pin(r Record) bool {
	key, ok := m.topo.pins[r.Name]
	if ok && key == r.Key {
		return true
	}
	if ok {
		if r.Name != m.topo.warned {
			m.topo.warned = r.Name
			m.event(LevelWarn, pinText(r), Attr{"pinned", key.String()}, Attr{"shown", r.Key.String()})
		}
		m.counters.KeyConflicts++
		return false
	}
	if len(m.topo.pins) >= maxPins {
		m.counters.TooMany++
		return false
	}
	m.topo.pins[r.Name] = r.Key
	m.save(pinKey(r.Name), slices.Clone(r.Key[:]))
	return true
}

func pinText(r Record) string {
	return "peer " + Label(r.Name, r.Nickname) + " shows another key than the one known under its name"
}

func (m *Mesh) unpin(names []Name) {
	for _, n := range names {
		if _, ok := m.topo.pins[n]; !ok || n == m.cfg.Name {
			continue
		}
		delete(m.topo.pins, n)
		m.topo.forget(n)
		m.save(pinKey(n), nil)
		m.topo.touch(m.now, recomputeInterval)
		if c := m.conns.byPeer[n]; c != nil {
			m.closeConn(c, "its key was unpinned")
		}
	}
}

// outbid answers a record of ourselves that is newer than the one we publish.
func (m *Mesh) outbid(r Record) {
	if r.Version < m.own.version {
		return
	}
	if m.own.contestAt.IsZero() || r.UID == m.cfg.UID {
		m.event(LevelInfo, "the network holds a newer record of ourselves; publishing above it")
	} else {
		m.event(LevelWarn, "the network holds a newer record of ourselves again: does another host run with a copy of our key?")
	}
	m.own.outbid(m.now, r.Version)
}

func peerView(s *Signed) *PeerView {
	r := &s.Record
	return &PeerView{
		Name: r.Name, Nickname: r.Nickname, Key: r.Key, UID: r.UID, Version: r.Version, Port: r.Port,
		X25519: s.x25519, Addresses: r.Addresses, Capabilities: r.Capabilities, Connections: r.Links,
		Secrets: r.Secrets, MTU: r.MTU, TunnelKey: r.TunnelKey,
		number: r.Name.number(),
	}
}
