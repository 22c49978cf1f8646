package peer

import (
	"errors"
	"time"
	"unicode"
	"unicode/utf8"

	"weave/peer/wire"
)

const (
	// flushInterval is the least time between two deliveries of news to the
	// neighbours; news arriving meanwhile goes out together.
	flushInterval       = 20 * time.Millisecond
	flushIntervalSparse = 50 * time.Millisecond
	// maxRecordsBytes is about how much one Records message may carry.
	maxRecordsBytes = 256 << 10
	// maxListed bounds the entries of one received list of peers.
	maxListed = 2 * maxPeers
	maxReason = 256 // bytes of a Goodbye's reason that are kept
)

// flow is the gossip with one neighbour.
type flow struct {
	pending map[Name]bool // what it has not got from us yet
	// lazy: it gets announcements only, as the news reach it faster by another
	// neighbour. In a sparse network the connections that are not lazy come to
	// form a spanning tree, because whoever gets a record twice asks the slower
	// sender to be lazy (epidemic broadcast trees: Leitao, Pereira, Rodrigues,
	// SRDS 2007).
	lazy    bool
	late    int    // records that came twice, less those that were news
	work    bucket // what it may still make us do
	sumsAt  time.Time
	trouble string // what it does wrong, for users
}

func newFlow(now time.Time) flow {
	return flow{pending: make(map[Name]bool), work: bucket{level: workBurst, at: now}}
}

// gossip is when to tell the neighbours what. What to tell each is in its
// flow's pending set; a name pending twice is sent once, in its newest version.
type gossip struct {
	waiting    bool // some flow that is not lazy has something pending
	flushedAt  time.Time
	announceAt time.Time // zero: no lazy flow has
	digestAt   time.Time
	turn       int                // where the next digest round starts among the neighbours
	missing    map[Name]absent    // announced, not received
	graftAt    time.Time          // zero: nothing is missing
	asked      map[Name]time.Time // asked for, and until when nobody else is
	sums       sums
}

func (g *gossip) dueAt(flush time.Duration) time.Time {
	at := g.digestAt
	if g.waiting {
		at = earlier(at, g.flushedAt.Add(flush))
	}
	return earlier(earlier(at, g.announceAt), g.graftAt)
}

func (m *Mesh) flushEvery() time.Duration {
	if m.overlay.sparse {
		return flushIntervalSparse
	}
	return flushInterval
}

// spread queues a record for the neighbours that will not get it otherwise:
// not the one it came from, not its own peer, and not those to which its peer
// says it is connected itself, as it sends to them. What that misses when a
// connection breaks at the wrong time, the next comparison finds.
func (g *gossip) spread(m *Mesh, s *Signed, from ConnID) {
	name := s.Record.Name
	for _, c := range m.conns.byPeer {
		if c.id == from || c.peer == name || (name != m.cfg.Name && s.Record.names(c.peer)) {
			continue
		}
		c.flow.pending[name] = true
		g.queue(m, c)
	}
}

// queue sees that what a flow has pending leaves in time.
func (g *gossip) queue(m *Mesh, c *conn) {
	switch {
	case !c.flow.lazy:
		g.waiting = true
	case g.announceAt.IsZero():
		g.announceAt = m.now.Add(announceDelay)
	}
}

// runGossip does what is due.
func (m *Mesh) runGossip() {
	g := &m.gossip
	if g.digestAt.IsZero() {
		g.digestAt = m.now.Add(digestInterval)
	}
	if !m.now.Before(g.digestAt) {
		g.digestAt = m.now.Add(digestInterval)
		m.compareInTurn()
	}
	if !g.graftAt.IsZero() && !m.now.Before(g.graftAt) {
		m.graft()
	}
	flush := g.waiting && !m.now.Before(g.flushedAt.Add(m.flushEvery()))
	announce := !g.announceAt.IsZero() && !m.now.Before(g.announceAt)
	if !flush && !announce {
		return
	}
	if flush {
		g.waiting, g.flushedAt = false, m.now
	}
	if announce {
		g.announceAt = time.Time{}
	}
	for _, c := range m.conns.joined() {
		switch {
		case len(c.flow.pending) == 0 || (c.flow.lazy && !announce) || (!c.flow.lazy && !flush):
			continue
		case c.flow.lazy:
			m.announce(c)
		default:
			m.sendRecords(c, sortedNames(c.flow.pending))
		}
		clear(c.flow.pending)
	}
}

// sendRecords sends the records held for the names, in as many messages as
// their size asks for.
func (m *Mesh) sendRecords(c *conn, names []Name) {
	var batch []*wire.SignedRecord
	size := 0
	flush := func() {
		if len(batch) > 0 {
			m.send(c.id, &wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{Records: batch}}})
		}
		batch, size = nil, 0
	}
	for _, n := range names {
		s := m.topo.crdt.get(n)
		if s == nil {
			continue
		}
		if size += len(s.bytes) + len(s.signature); size > maxRecordsBytes {
			flush()
			size = len(s.bytes) + len(s.signature)
		}
		batch = append(batch, s.Wire())
	}
	flush()
}

// received handles one message. Nothing in it ever cuts the connection, except
// a first message that is no acceptable Hello.
func (m *Mesh) received(in Received) {
	c := m.conns.byID[in.Conn]
	if c == nil {
		return // closed meanwhile
	}
	if g, ok := in.Message.GetKind().(*wire.Control_Goodbye); ok {
		m.goodbyeReceived(c, g.Goodbye.GetReason())
		return
	}
	if !c.joined {
		if h, ok := in.Message.GetKind().(*wire.Control_Hello); ok && h.Hello != nil {
			c.sum = c.tiebreak + h.Hello.GetTiebreak()
			m.greet(c, h.Hello)
			return
		}
		m.counters.BadMessages++
		return
	}
	if !m.affordable(c, in.Message) {
		return
	}
	switch k := in.Message.GetKind().(type) {
	case *wire.Control_Records:
		m.recordsReceived(c, k.Records)
	case *wire.Control_Digest:
		m.wantNewer(c, k.Digest.GetEntries())
	case *wire.Control_Want:
		m.sendWanted(c, k.Want.GetNames())
	case *wire.Control_Summary:
		m.summaryReceived(c, k.Summary)
	case *wire.Control_Part:
		m.partReceived(c, k.Part)
	case *wire.Control_Announce:
		m.announceReceived(c, k.Announce.GetEntries())
	case *wire.Control_Graft:
		c.flow.lazy = false
		m.sendWanted(c, k.Graft.GetNames())
		m.gossip.queue(m, c)
	case *wire.Control_Prune:
		c.flow.lazy = true
		m.gossip.queue(m, c)
	case *wire.Control_Need:
		m.needReceived(c, k.Need)
	case *wire.Control_Tell:
		m.tellReceived(c, k.Tell)
	case *wire.Control_Heartbeat:
	default:
		m.unknownMessage(c, in.Message)
	}
}

// unknownMessage tells a newer protocol from nonsense.
func (m *Mesh) unknownMessage(c *conn, msg *wire.Control) {
	if msg != nil && len(msg.ProtoReflect().GetUnknown()) > 0 {
		m.counters.UnknownKinds++
		return
	}
	m.badMessage(c)
}

func (m *Mesh) goodbyeReceived(c *conn, reason string) {
	c.said = printable(reason, maxReason)
	m.fx.Close = append(m.fx.Close, Close{Conn: c.id, Reason: c.said})
	m.removeConn(c, c.said)
}

func (m *Mesh) recordsReceived(c *conn, rs *wire.Records) {
	news, twice := 0, 0
	for _, w := range rs.GetRecords() {
		s, err := m.cfg.Opened.parse(w)
		if err != nil {
			m.badRecord(c, err)
			continue
		}
		name := s.Record.Name
		_, solicited := m.gossip.asked[name]
		if !solicited && !m.charge(c, costRecord) {
			continue
		}
		bad, throttled := m.counters.refusals(), m.counters.Throttled
		if m.admit(s) {
			news++
			m.gossip.arrived(name)
			m.gossip.spread(m, s, c.id)
		} else if m.counters.refusals() != bad {
			m.charge(c, costBad)
			m.trouble(c, "sends records that are not accepted")
		} else if m.counters.Throttled != throttled && name == c.peer {
			m.trouble(c, "publishes its record too often")
		}
		// The neighbour has this version now, no need to send it back.
		if held := m.topo.crdt.get(name); held != nil {
			order := s.compare(held)
			if order >= 0 {
				delete(c.flow.pending, name)
			}
			if order == 0 && !solicited {
				twice++
			}
		}
	}
	c.flow.late = max(c.flow.late+twice-news, -lateLimit)
	if c.flow.late >= lateLimit {
		m.becomeLazy(c)
	}
}

func (m *Mesh) countBad(err error) {
	switch {
	case errors.Is(err, ErrBadSignature):
		m.counters.BadSignatures++
	case errors.Is(err, ErrBadKey):
		m.counters.BadKeys++
	default:
		m.counters.BadRecords++
	}
}

// printable makes text from the network fit for a terminal: valid UTF-8 of at
// most limit bytes without control characters.
func printable(s string, limit int) string {
	out := make([]byte, 0, min(len(s), limit))
	for _, r := range s {
		if unicode.IsControl(r) {
			r = '?'
		}
		if len(out)+utf8.RuneLen(r) > limit {
			break
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

// earlier returns the first of two times of which the zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
