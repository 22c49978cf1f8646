package peer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// greetingTimeout is how long a new connection may take to say Hello.
	greetingTimeout = 10 * time.Second
	// maxGreeting bounds accepted connections that said nothing yet.
	maxGreeting = 256
	// replaceAge: two connections between the same peers that are both younger
	// come from both dialling at once, and the tie-break decides. If the first
	// is older, the other end has lost it and the new one replaces it.
	replaceAge = 15 * time.Second
	// lastingAge: a connection that held this long is dialled again at once.
	lastingAge = time.Minute
)

// conn is one control connection.
type conn struct {
	id       ConnID
	dialled  string // "" when the other end dialled
	remote   netip.AddrPort
	static   [32]byte
	upAt     time.Time
	tiebreak uint64 // ours, told in our Hello

	// Known from the other end's Hello on:
	joined   bool
	joinedAt time.Time
	peer     Name
	uid      uint64
	sum      uint64  // both ends' tiebreaks, wrapping
	record   *Signed // as shown in Hello, or the newest of that run
	said     string  // reason of the other end's Goodbye
	standing standing
	flow     flow
}

// connTable holds the live connections. byPeer has exactly the joined ones.
type connTable struct {
	byID   map[ConnID]*conn
	byPeer map[Name]*conn
	paths  map[Name]path
}

// path is the last PathChanged of a peer, with RTT quantised.
type path struct {
	PathChanged
	uid uint64 // of the peer's run it belongs to; 0 = reported before it joined
}

func newConnTable() connTable {
	return connTable{
		byID: make(map[ConnID]*conn), byPeer: make(map[Name]*conn), paths: make(map[Name]path),
	}
}

func (t *connTable) sorted() []*conn {
	return slices.SortedFunc(maps.Values(t.byID), func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
}

// path returns the state of the data path with a peer; the zero value (down)
// if nothing was reported for its present run.
func (t *connTable) path(n Name) path {
	p := t.paths[n]
	if c := t.byPeer[n]; c != nil && p.uid != c.uid {
		return path{}
	}
	return p
}

// joined lists the joined connections by peer name.
func (t *connTable) joined() []*conn {
	out := make([]*conn, 0, Ample(len(t.byPeer)))
	for _, n := range sortedNames(t.byPeer) {
		out = append(out, t.byPeer[n])
	}
	return out
}

// fromHost reports whether a joined connection's other end has this address.
func (t *connTable) fromHost(a netip.Addr) bool {
	for _, c := range t.byPeer {
		if c.remote.Addr() == a {
			return true
		}
	}
	return false
}

func (t *connTable) greetingDeadline() time.Time {
	var at time.Time
	if len(t.byID) == len(t.byPeer) {
		return at
	}
	for _, c := range t.byID {
		if end := c.upAt.Add(greetingTimeout); !c.joined && (at.IsZero() || end.Before(at)) {
			at = end
		}
	}
	return at
}

func (m *Mesh) connUp(in ConnUp) {
	if m.conns.byID[in.Conn] != nil {
		return
	}
	c := &conn{
		id: in.Conn, dialled: in.Dialled, static: in.Static, upAt: m.now, tiebreak: m.rng.Uint64(),
		remote: netip.AddrPortFrom(in.Remote.Addr().Unmap().WithZone(in.Remote.Addr().Zone()), in.Remote.Port()),
	}
	m.conns.byID[c.id] = c
	if m.left || (c.dialled == "" && len(m.conns.byID)-len(m.conns.byPeer) > maxGreeting) {
		m.closeConn(c, "too many connections that have not said hello")
		return
	}
	m.maker.up(c)
	m.stale = true
	m.send(c.id, m.hello(c))
}

func (m *Mesh) connDown(in ConnDown) {
	c := m.conns.byID[in.Conn]
	if c == nil {
		return
	}
	reason := in.Reason
	if c.said != "" {
		reason = c.said
	}
	m.removeConn(c, reason)
}

// closeConn ends a connection from our side and tells the other why.
func (m *Mesh) closeConn(c *conn, reason string) {
	m.send(c.id, goodbye(reason))
	m.fx.Close = append(m.fx.Close, Close{Conn: c.id, Reason: reason})
	m.removeConn(c, reason)
}

// removeConn forgets a connection and all that hangs on it.
func (m *Mesh) removeConn(c *conn, reason string) {
	delete(m.conns.byID, c.id)
	lasted := time.Duration(0)
	if c.joined {
		lasted = m.now.Sub(c.joinedAt)
		m.counters.Terminations++
		level := LevelInfo
		if c.standing.surplus {
			level = LevelDebug
		}
		m.event(level, c.label()+": connection deleted", Attr{"reason", reason})
		if m.conns.byPeer[c.peer] == c {
			delete(m.conns.byPeer, c.peer)
			m.letters.hops = nil
			m.gossip.lost(m, c)
			if c.standing.surplus {
				m.ownGained()
				m.topo.touchRemote(m.now)
			} else {
				m.ownLost()
				m.topo.touch(m.now, recomputeInterval)
			}
		}
	}
	m.maker.down(m, c, reason, lasted)
	m.reviewSpare()
	m.stale = true
}

func (m *Mesh) expireGreetings() {
	if at := m.conns.greetingDeadline(); at.IsZero() || m.now.Before(at) {
		return
	}
	for _, c := range m.conns.sorted() {
		if !c.joined && !m.now.Before(c.upAt.Add(greetingTimeout)) {
			m.closeConn(c, "no hello within "+greetingTimeout.String())
		}
	}
}

// label names a connection in events, as Weave Net's log did.
func (c *conn) label() string {
	if !c.joined {
		return "->[" + c.remote.String() + "]"
	}
	return "->[" + c.remote.String() + "|" + Label(c.peer, c.record.Record.Nickname) + "]"
}

func (m *Mesh) pathChanged(in PathChanged) {
	if in.Peer.IsZero() || in.Peer == m.cfg.Name {
		return
	}
	c := m.conns.byPeer[in.Peer]
	old := m.conns.path(in.Peer)
	next := path{PathChanged: in}
	if c != nil {
		next.uid = c.uid
	} else if s := m.topo.crdt.get(in.Peer); s != nil {
		next.uid = s.Record.UID
	} else if !in.Up {
		delete(m.conns.paths, in.Peer)
		return
	} else {
		return // a peer we know nothing of; it will be reported again
	}
	next.RTT = quantise(old.RTT, in.RTT)
	if !in.Up {
		next.RTT = 0
	}
	m.conns.paths[in.Peer] = next
	if c == nil || next == old {
		return
	}
	if next.Up && !old.Up {
		m.event(LevelInfo, c.label()+": connection fully established")
	}
	switch {
	case old.Up && !next.Up:
		m.ownLost()
	case old.Up && old.Overlay == next.Overlay && old.MTU == next.MTU && old.Address == next.Address && old.Stream == next.Stream:
		m.ownWavered()
		if old.RTT != 0 {
			m.topo.touch(m.now, waverInterval)
			return
		}
	default:
		m.ownGained()
	}
	m.stale = true
}

const rttStep = 100 * time.Microsecond

// quantise returns the round-trip time to publish when old is published and
// rtt was measured: old unless rtt is off by more than a quarter and by more
// than a hop's cost, so that jitter makes no new versions.
func quantise(old, rtt time.Duration) time.Duration {
	if rtt <= 0 {
		return old
	}
	diff := (rtt - old).Abs()
	if old > 0 && (diff <= old/4 || diff <= hopCost) {
		return old
	}
	return max(rtt.Round(rttStep), rttStep)
}
