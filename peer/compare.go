package peer

import (
	"cmp"
	"math/bits"
	"time"

	"weave/peer/wire"
)

// Neighbours compare what they hold when they meet and every digestInterval.
// While there are few records each sends the list of all. With many:
//
//	A ──Summary, one sum of all──────────────► B   equal: done
//	A ◄─Summary, with a sum for each bucket─── B
//	A ──Part: all it holds in the buckets ───► B   B asks for what is newer
//	    that differ, "answer"
//	A ◄─Part: the same of B─────────────────── B   A asks for what is newer
const (
	digestInterval = 30 * time.Second
	fewRecords     = 64
	buckets        = 64
	// sumsEvery is how seldom one neighbour is sent our sums by bucket, and
	// askAgain how long others are not asked for what one neighbour was.
	sumsEvery = 2 * time.Second
	askAgain  = 2 * time.Second
)

// sums are the sums of the hashes of all records that are compared, by bucket
// of names; computed when asked for.
type sums struct {
	dirty   bool
	count   int
	buckets [buckets]uint64
	root    uint64
}

func bucketOf(n Name) int { return int(mix(n.number()) % buckets) }

// comparable reports whether a peer's record takes part in comparisons. The
// unreachable ones do not, so that neighbours do not hand the dead back and
// forth.
func (m *Mesh) comparable(n Name) bool {
	return m.topo.crdt.reaches(n) || m.conns.byPeer[n] != nil || n == m.cfg.Name
}

func (m *Mesh) sums() *sums {
	s := &m.gossip.sums
	if !s.dirty && s.count > 0 {
		return s
	}
	*s = sums{}
	for n, r := range m.topo.crdt.records {
		if r.found(&m.topo.crdt) || m.comparable(n) {
			s.count++
			s.buckets[bucketOf(n)] += r.hash()
		}
	}
	for i, b := range s.buckets {
		s.root += mix(b ^ uint64(i))
	}
	return s
}

func (m *Mesh) summary(detailed bool) *wire.Control {
	s := m.sums()
	out := &wire.Summary{Count: uint32(s.count), Root: s.root}
	if detailed {
		out.Sums = make([]uint32, buckets)
		for i, b := range s.buckets {
			out.Sums[i] = uint32(mix(b))
		}
	}
	return &wire.Control{Kind: &wire.Control_Summary{Summary: out}}
}

// compare begins a comparison with a neighbour that was met just now.
func (m *Mesh) compare(c *conn) {
	m.gossip.sums.dirty = true
	if m.topo.crdt.Len() <= fewRecords {
		m.send(c.id, m.digest())
		return
	}
	m.send(c.id, m.summary(true))
}

// compareInTurn compares notes with some neighbours in turn: all of a few,
// 2·log2 of many, so that the cost of a large mesh stays near-linear.
func (m *Mesh) compareInTurn() {
	for n, until := range m.gossip.asked {
		if m.now.After(until) {
			delete(m.gossip.asked, n)
		}
	}
	all := m.conns.joined()
	if len(all) == 0 {
		return
	}
	msg := m.digest
	if m.topo.crdt.Len() > fewRecords {
		msg = func() *wire.Control { return m.summary(false) }
	}
	one := msg()
	count := min(len(all), max(8, 2*bits.Len(uint(len(all)))))
	for i := range count {
		m.send(all[(m.gossip.turn+i)%len(all)].id, one)
	}
	m.gossip.turn = (m.gossip.turn + count) % len(all)
}

func entryOf(s *Signed) *wire.Digest_Entry {
	return &wire.Digest_Entry{Name: s.Record.Name[:], Uid: s.Record.UID, Version: s.Record.Version}
}

// digest lists what we hold of the peers we can reach.
func (m *Mesh) digest() *wire.Control {
	return &wire.Control{Kind: &wire.Control_Digest{Digest: &wire.Digest{Entries: m.entries(^uint64(0))}}}
}

// entries lists what we hold in some buckets.
func (m *Mesh) entries(mask uint64) []*wire.Digest_Entry {
	var out []*wire.Digest_Entry
	for _, n := range sortedNames(m.topo.crdt.records) {
		if mask>>bucketOf(n)&1 == 1 && m.comparable(n) {
			out = append(out, entryOf(m.topo.crdt.records[n].Signed))
		}
	}
	return out
}

func (m *Mesh) part(mask uint64, answer bool) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Part{Part: &wire.Part{
		Buckets: mask, Entries: m.entries(mask), Answer: answer,
	}}}
}

func (m *Mesh) summaryReceived(c *conn, s *wire.Summary) {
	own := m.sums()
	if s.GetRoot() == own.root {
		return
	}
	if m.now.Before(c.flow.sumsAt) {
		return
	}
	c.flow.sumsAt = m.now.Add(sumsEvery)
	if len(s.GetSums()) != buckets {
		m.send(c.id, m.summary(true))
		return
	}
	var mask uint64
	for i, sum := range s.GetSums() {
		if sum != uint32(mix(own.buckets[i])) {
			mask |= 1 << i
		}
	}
	if mask != 0 {
		m.send(c.id, m.part(mask, true))
	}
}

func (m *Mesh) partReceived(c *conn, p *wire.Part) {
	m.wantNewer(c, p.GetEntries())
	if p.GetAnswer() {
		m.send(c.id, m.part(p.GetBuckets(), false))
	}
}

// newer reads an entry of a list and reports whether it is newer than what we
// hold. The name is zero if the entry is malformed.
func (m *Mesh) newer(c *conn, e *wire.Digest_Entry) (n Name, newer bool) {
	n, ok := nameFromBytes(e.GetName())
	if !ok {
		m.badMessage(c)
		return Name{}, false
	}
	held := m.topo.crdt.get(n)
	if held == nil {
		return n, true
	}
	r := &held.Record
	return n, cmp.Or(cmp.Compare(e.GetVersion(), r.Version), cmp.Compare(e.GetUid(), r.UID)) > 0
}

// wantNewer asks for what the neighbour holds and we lack. What it lacks it
// finds in what we list.
func (m *Mesh) wantNewer(c *conn, entries []*wire.Digest_Entry) {
	var names []Name
	for _, e := range entries {
		n, newer := m.newer(c, e)
		if until, ok := m.gossip.asked[n]; newer && (!ok || m.now.After(until)) {
			names = append(names, n)
		}
	}
	if len(names) > 0 {
		m.send(c.id, &wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: m.ask(names)}}})
	}
}

// ask notes that the names are asked for now, and returns them as sent.
func (m *Mesh) ask(names []Name) [][]byte {
	g := &m.gossip
	if g.asked == nil {
		g.asked = make(map[Name]time.Time)
	}
	out := make([][]byte, 0, len(names))
	for i := range names {
		if len(g.asked) < maxListed {
			g.asked[names[i]] = m.now.Add(askAgain)
		}
		out = append(out, names[i][:])
	}
	m.counters.Asked += uint64(len(names))
	return out
}

func (m *Mesh) sendWanted(c *conn, wanted [][]byte) {
	names := make(map[Name]bool, len(wanted))
	for _, b := range wanted {
		n, ok := nameFromBytes(b)
		if !ok {
			m.badMessage(c)
			continue
		}
		names[n] = true
		delete(c.flow.pending, n)
	}
	m.sendRecords(c, sortedNames(names))
}
