package peer

import (
	"cmp"
	"errors"
	"math/bits"
	"time"
	"unicode"
	"unicode/utf8"

	"weave/peer/wire"
)

const (
	digestInterval = 30 * time.Second
	// flushInterval is the least time between two deliveries of news to the
	// neighbours; news arriving meanwhile goes out together.
	flushInterval = 20 * time.Millisecond
	// maxRecordsBytes is about how much one Records message may carry.
	maxRecordsBytes = 256 << 10
	// maxListed bounds the entries of one received Digest or Want.
	maxListed = 2 * maxPeers
	maxReason = 256 // bytes of a Goodbye's reason that are kept
)

// gossip is when to tell the neighbours what. What to tell each is in its
// conn's pending set; a name pending twice is sent once, in its newest version.
type gossip struct {
	waiting   bool // some conn has something pending
	flushedAt time.Time
	digestAt  time.Time
	turn      int // where the next digest round starts among the neighbours
}

func (g *gossip) dueAt() time.Time {
	at := g.digestAt
	if next := g.flushedAt.Add(flushInterval); g.waiting && (at.IsZero() || next.Before(at)) {
		at = next
	}
	return at
}

// spread queues a record for the neighbours that will not get it otherwise:
// not the one it came from, not its own peer, and not those to which its peer
// says it is connected itself, as it sends to them. What that misses when a
// connection breaks at the wrong time, the next digest finds.
func (g *gossip) spread(m *Mesh, s Signed, from ConnID) {
	name := s.Record.Name
	direct := make(map[Name]bool, len(s.Record.Links))
	if name != m.cfg.Name {
		for _, l := range s.Record.Links {
			direct[l.Peer] = true
		}
	}
	for _, c := range m.conns.byPeer {
		if c.id == from || c.peer == name || direct[c.peer] {
			continue
		}
		c.pending[name] = true
		g.waiting = true
	}
}

// runGossip sends what is due: pending records and digests.
func (m *Mesh) runGossip() {
	g := &m.gossip
	if g.digestAt.IsZero() {
		g.digestAt = m.now.Add(digestInterval)
	}
	if !m.now.Before(g.digestAt) {
		g.digestAt = m.now.Add(digestInterval)
		m.sendDigests()
	}
	if !g.waiting || m.now.Before(g.flushedAt.Add(flushInterval)) {
		return
	}
	g.waiting = false
	g.flushedAt = m.now
	for _, c := range m.conns.joined() {
		if len(c.pending) > 0 {
			m.sendRecords(c, sortedNames(c.pending))
			clear(c.pending)
		}
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
		s, ok := m.topo.crdt.Get(n)
		if !ok {
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

// digest lists what we hold of the peers we can reach. The unreachable ones
// are left out so that neighbours do not hand the dead back and forth.
func (m *Mesh) digest() *wire.Control {
	var d wire.Digest
	for _, n := range sortedNames(m.topo.crdt.records) {
		if !m.topo.reach[n] && m.conns.byPeer[n] == nil && n != m.cfg.Name {
			continue
		}
		r := m.topo.crdt.records[n].Record
		d.Entries = append(d.Entries, &wire.Digest_Entry{Name: n[:], Uid: r.UID, Version: r.Version})
	}
	return &wire.Control{Kind: &wire.Control_Digest{Digest: &d}}
}

// sendDigests compares notes with some neighbours in turn: all of a few,
// 2·log2 of many, so that the cost of a large mesh stays near-linear.
func (m *Mesh) sendDigests() {
	all := m.conns.joined()
	if len(all) == 0 {
		return
	}
	msg := m.digest()
	count := min(len(all), max(8, 2*bits.Len(uint(len(all)))))
	for i := range count {
		m.send(all[(m.gossip.turn+i)%len(all)].id, msg)
	}
	m.gossip.turn = (m.gossip.turn + count) % len(all)
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
	switch k := in.Message.GetKind().(type) {
	case *wire.Control_Records:
		m.recordsReceived(c, k.Records)
	case *wire.Control_Digest:
		m.digestReceived(c, k.Digest)
	case *wire.Control_Want:
		m.wantReceived(c, k.Want)
	case *wire.Control_Heartbeat:
	default:
		m.counters.BadMessages++
	}
}

func (m *Mesh) goodbyeReceived(c *conn, reason string) {
	c.said = printable(reason, maxReason)
	m.fx.Close = append(m.fx.Close, Close{Conn: c.id, Reason: c.said})
	m.removeConn(c, c.said)
}

func (m *Mesh) recordsReceived(c *conn, rs *wire.Records) {
	for _, w := range rs.GetRecords() {
		s, err := parseSigned(w)
		if err != nil {
			m.countBad(err)
			continue
		}
		if m.admit(s) {
			held, _ := m.topo.crdt.Get(s.Record.Name)
			m.gossip.spread(m, held, c.id)
		}
		// The neighbour has this version now, no need to send it back.
		if held, ok := m.topo.crdt.Get(s.Record.Name); ok && s.Compare(held) >= 0 {
			delete(c.pending, s.Record.Name)
		}
	}
}

// digestReceived asks for what the neighbour holds and we lack. What it lacks
// it finds in our digest.
func (m *Mesh) digestReceived(c *conn, d *wire.Digest) {
	var want [][]byte
	if len(d.GetEntries()) > maxListed {
		m.counters.TooMany++
		return
	}
	for _, e := range d.GetEntries() {
		n, ok := nameFromBytes(e.GetName())
		if !ok {
			m.counters.BadMessages++
			continue
		}
		held, ok := m.topo.crdt.Get(n)
		newer := cmp.Or(cmp.Compare(e.GetVersion(), held.Record.Version), cmp.Compare(e.GetUid(), held.Record.UID)) > 0
		if !ok || newer {
			want = append(want, n[:])
		}
	}
	if len(want) > 0 {
		m.send(c.id, &wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: want}}})
	}
}

func (m *Mesh) wantReceived(c *conn, w *wire.Want) {
	if len(w.GetNames()) > maxListed {
		m.counters.TooMany++
		return
	}
	names := make(map[Name]bool, len(w.GetNames()))
	for _, b := range w.GetNames() {
		n, ok := nameFromBytes(b)
		if !ok {
			m.counters.BadMessages++
			continue
		}
		names[n] = true
		delete(c.pending, n)
	}
	m.sendRecords(c, sortedNames(names))
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
