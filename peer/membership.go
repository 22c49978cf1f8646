package peer

import (
	"maps"
	"slices"
	"time"
)

const (
	// recomputeInterval is the least time between two computations of what
	// follows from the topology: reachability, routes, who to dial.
	recomputeInterval = 100 * time.Millisecond
	// peerGrace is how long the record of an unreachable peer is kept. Long
	// enough to dial it again after a break, short enough to forget the dead.
	peerGrace = time.Minute
	// maxPeers bounds records held, and maxPins names pinned, against a member
	// that invents peers.
	maxPeers = 16384
	maxPins  = 65536
)

// membership is the topology with what this peer adds to it: pins, and who is
// reachable at present.
type membership struct {
	crdt      Topology
	pins      map[Name]PublicKey
	reach     map[Name]bool
	lostAt    map[Name]time.Time // unreachable since
	graph     *graph             // of routes
	routes    routes
	peers     []PeerView
	changedAt time.Time
	lastAt    time.Time
	gcAt      time.Time
}

func newMembership(cfg Config) membership {
	t := membership{
		pins:   make(map[Name]PublicKey, len(cfg.Pins)),
		reach:  make(map[Name]bool),
		lostAt: make(map[Name]time.Time),
	}
	maps.Copy(t.pins, cfg.Pins)
	t.pins[cfg.Name] = cfg.Identity.PublicKey()
	return t
}

func (t *membership) touch(now time.Time) {
	if t.changedAt.IsZero() {
		t.changedAt = now
	}
}

func (t *membership) dueAt() time.Time {
	at := t.gcAt
	if !t.changedAt.IsZero() {
		change := later(t.changedAt, t.lastAt.Add(recomputeInterval))
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
	t.reach = t.crdt.reachable(roots)
	for _, n := range sortedNames(t.crdt.records) {
		if t.reach[n] {
			delete(t.lostAt, n)
			continue
		}
		since, ok := t.lostAt[n]
		if !ok {
			since = m.now
			t.lostAt[n] = since
		}
		gone := since.Add(peerGrace)
		if !m.now.Before(gone) {
			t.crdt.drop(n)
			delete(t.lostAt, n)
			delete(m.conns.paths, n)
			continue
		}
		if t.gcAt.IsZero() || gone.Before(t.gcAt) {
			t.gcAt = gone
		}
	}
	var live []Signed
	for _, n := range sortedNames(t.reach) {
		live = append(live, t.crdt.records[n])
	}
	if g := dataGraph(live); t.graph == nil || !g.equal(t.graph) {
		t.graph, t.routes = g, g.routesFrom(m.cfg.Name)
	}
	t.peers = peerViews(live)
	m.maker.touch()
	m.stale = true
}

// admit decides whether a record from the network may enter the topology, and
// merges it. It reports whether the record was news.
func (m *Mesh) admit(s Signed) bool {
	name := s.Record.Name
	if held, ok := m.topo.crdt.Get(name); ok && s.Compare(held) <= 0 {
		m.counters.RecordsKnown++
		return false
	}
	if err := s.verify(); err != nil {
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
	if _, held := m.topo.crdt.Get(name); !held && m.topo.crdt.Len() >= maxPeers {
		m.counters.TooMany++
		return false
	}
	news, _ := m.topo.crdt.Merge([]Signed{s})
	if len(news) == 0 {
		return false
	}
	m.counters.RecordsNew++
	m.topo.touch(m.now)
	return true
}

// pin ties a name to the key it is first seen with and refuses any other.
func (m *Mesh) pin(r Record) bool {
	key, ok := m.topo.pins[r.Name]
	if ok && key == r.Key {
		return true
	}
	if ok {
		if m.counters.KeyConflicts == 0 || r.Name != m.gossip.lastConflict {
			m.gossip.lastConflict = r.Name
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
		m.topo.crdt.drop(n)
		m.save(pinKey(n), nil)
		m.topo.touch(m.now)
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

func peerViews(records []Signed) []PeerView {
	nick := make(map[Name]string, len(records))
	for _, s := range records {
		nick[s.Record.Name] = s.Record.Nickname
	}
	out := make([]PeerView, 0, len(records))
	for _, s := range records {
		r := &s.Record
		p := PeerView{
			Name: r.Name, Nickname: r.Nickname, Key: r.Key, UID: r.UID, Version: r.Version, Port: r.Port,
			X25519: s.x25519, Addresses: r.Addresses, Capabilities: r.Capabilities,
		}
		for _, l := range r.Links {
			p.Connections = append(p.Connections, PeerConn{
				Peer: l.Peer, Nickname: nick[l.Peer], Address: l.Address,
				Outbound: l.Outbound, Established: l.Established, RTT: l.RTT,
			})
		}
		out = append(out, p)
	}
	return out
}
