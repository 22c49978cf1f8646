package peer

import (
	"slices"
	"time"

	"weave/peer/wire"
)

const (
	// announceDelay is how long announcements wait: mostly, the neighbour has the
	// news by then and tells us so, and there is nothing left to announce.
	announceDelay = 500 * time.Millisecond
	// graftDelay is how long announced news may take to come by itself.
	graftDelay = 400 * time.Millisecond
	// lateLimit records more that came twice than were news make a neighbour
	// lazy.
	lateLimit = 3
)

// absent is news that was announced and has not come.
type absent struct {
	from ConnID
	at   time.Time // when to ask
}

func (m *Mesh) announce(c *conn) {
	var a wire.Announce
	for _, n := range sortedNames(c.flow.pending) {
		if s := m.topo.crdt.get(n); s != nil {
			a.Entries = append(a.Entries, entryOf(s))
		}
	}
	m.send(c.id, &wire.Control{Kind: &wire.Control_Announce{Announce: &a}})
}

// becomeLazy tells a neighbour whose news came after another's to announce them
// only, unless it is the last one that does not.
func (m *Mesh) becomeLazy(c *conn) {
	if !m.overlay.sparse || c.flow.lazy {
		return
	}
	for _, o := range m.conns.byPeer {
		if o != c && !o.flow.lazy {
			c.flow.lazy, c.flow.late = true, 0
			m.send(c.id, &wire.Control{Kind: &wire.Control_Prune{Prune: &wire.Prune{}}})
			m.gossip.queue(m, c)
			return
		}
	}
}

// lost notes that a connection ended. If it was the last to bring news in full,
// all others do until it is clear which is the fastest.
func (g *gossip) lost(m *Mesh, gone *conn) {
	for _, c := range m.conns.byPeer {
		if !c.flow.lazy {
			return
		}
	}
	for _, c := range m.conns.byPeer {
		c.flow.lazy = false
		g.waiting = true
	}
}

// arrived notes that we hold the news of a peer.
func (g *gossip) arrived(n Name) {
	delete(g.missing, n)
	delete(g.asked, n)
}

// announceReceived notes what should come by another neighbour soon.
func (m *Mesh) announceReceived(c *conn, entries []*wire.Digest_Entry) {
	g := &m.gossip
	for _, e := range entries {
		n, newer := m.newer(c, e)
		if !newer {
			if n != (Name{}) {
				delete(c.flow.pending, n)
			}
			continue
		}
		if old, ok := g.missing[n]; ok && m.conns.byID[old.from] != nil {
			continue
		}
		if g.missing == nil {
			g.missing = make(map[Name]absent)
		}
		if len(g.missing) >= maxListed {
			m.counters.TooMany++
			return
		}
		g.missing[n] = absent{from: c.id, at: m.now.Add(graftDelay)}
		g.graftAt = earlier(g.graftAt, m.now.Add(graftDelay))
	}
}

// graft asks for announced news that did not come, where they were announced.
func (m *Mesh) graft() {
	g := &m.gossip
	g.graftAt = time.Time{}
	ask := make(map[ConnID][]Name)
	for n, a := range g.missing {
		if m.now.Before(a.at) {
			g.graftAt = earlier(g.graftAt, a.at)
			continue
		}
		delete(g.missing, n)
		ask[a.from] = append(ask[a.from], n)
	}
	for _, c := range m.conns.joined() {
		names := ask[c.id]
		if len(names) == 0 {
			continue
		}
		slices.SortFunc(names, Name.Compare)
		c.flow.lazy = false
		m.send(c.id, &wire.Control{Kind: &wire.Control_Graft{Graft: &wire.Graft{Names: m.ask(names)}}})
		m.gossip.queue(m, c)
	}
}
