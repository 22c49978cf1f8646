package ipam

import (
	"fmt"
	"slices"
	"time"

	"weave/peer"
)

// gossip is when to compare rings with whom.
type gossip struct {
	dueAt     time.Time
	greet     []peer.Name // became reachable
	told      map[peer.Name]time.Time
	reclaimed map[Member]time.Time // when to try again to remove who is absent
}

const (
	// digestFan is how many peers a ring is compared with at a time. News that
	// no broadcast brought spread like an epidemic: in some log(n) rounds.
	digestFan = 3
	// soonAfter is how long after a cause for it rings are compared.
	soonAfter = 100 * time.Millisecond
	// stateEvery bounds how often one peer is sent all of the ring.
	stateEvery = 200 * time.Millisecond
	// chunkEntries keeps a message with part of a ring below 256 KiB.
	chunkEntries = 8192
)

// soon has rings compared in a moment.
func (g *gossip) soon(now time.Time) {
	if at := now.Add(soonAfter); g.dueAt.IsZero() || at.Before(g.dueAt) {
		g.dueAt = at
	}
}

// runGossip compares rings with some others: with those that became reachable,
// and with a few more.
func (c *Core) runGossip() {
	if c.gossip.dueAt.IsZero() {
		c.gossip.dueAt = c.now
	}
	if c.now.Before(c.gossip.dueAt) {
		return
	}
	c.gossip.dueAt = c.now.Add(digestEvery*3/4 + time.Duration(c.rng.Int64N(int64(digestEvery/2))))
	to := c.pickSome(c.gossip.greet, digestFan)
	if len(c.gossip.greet) > len(to) { // a large network came in sight: the rest as chance will have it
		c.gossip.soon(c.now)
		c.gossip.greet = nil
	} else {
		c.gossip.greet = nil
		all := make([]peer.Name, 0, len(c.world.near))
		for n := range c.world.near {
			if !slices.Contains(to, n) {
				all = append(all, n)
			}
		}
		to = append(to, c.pickSome(all, digestFan-len(to))...)
	}
	for _, n := range to {
		c.send(n, &WireMessage{Digest: true, Votes: c.ownVotes(), Wanted: c.wantsRing()})
	}
}

// pickSome takes up to n of the names that are near, by chance.
func (c *Core) pickSome(names []peer.Name, n int) []peer.Name {
	var out []peer.Name
	for _, name := range names {
		if c.world.near[name] && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, peer.Name.Compare)
	c.rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:max(0, min(n, len(out)))]
}

// send completes a message with what each one has, and sends it.
func (c *Core) send(to peer.Name, m *WireMessage) {
	m.RangeStart, m.RangeBits = c.space.ranges.first, uint32(c.cfg.Range.Bits())
	if c.ring != nil {
		m.Genesis, m.Sum = c.ring.genesis.ID(), c.ring.sum
		m.Free = c.space.free()
	}
	c.out.Send = append(c.out.Send, Send{To: to, Data: marshal(m)})
}

func (c *Core) wireDelta(d Delta) *WireDelta { return d.wire(c.world.nicks) }

// broadcast tells everybody a part of the ring.
func (c *Core) broadcast(d Delta) {
	c.send(peer.Name{}, &WireMessage{Delta: c.wireDelta(d)})
}

// sendState sends all of the ring, in pieces that each make sense alone. Last
// come the tombstones, since an heir should know what it does not inherit. With
// digest the receiver sends back what we lack.
func (c *Core) sendState(to peer.Name, digest bool) {
	if c.gossip.told == nil {
		c.gossip.told = map[peer.Name]time.Time{}
	}
	if at, told := c.gossip.told[to]; told && c.now.Sub(at) < stateEvery {
		return
	}
	c.gossip.told[to] = c.now
	all := c.ring.Snapshot()
	for len(all.Entries) > chunkEntries {
		piece := Delta{Genesis: all.Genesis, Entries: all.Entries[:chunkEntries]}
		all.Entries = all.Entries[chunkEntries:]
		c.send(to, &WireMessage{Delta: c.wireDelta(piece)})
	}
	c.send(to, &WireMessage{Delta: c.wireDelta(all), Digest: digest})
}

// sendAll sends all of the ring to everybody, for what happens seldom.
func (c *Core) sendAll() {
	delete(c.gossip.told, peer.Name{})
	c.sendState(peer.Name{}, false)
}

// receive takes in a message of another peer.
func (c *Core) receive(in Message) {
	if in.From == c.cfg.Name || in.From.IsZero() {
		return
	}
	m, r, err := parseMessage(in.Data)
	if err != nil {
		c.out.count.BadMessages++
		return
	}
	if r != c.cfg.Range {
		c.fault(in.From, fmt.Sprintf(incompatible+" (received: %s, ours: %s)", r, c.cfg.Range))
		return
	}
	if c.world.near[in.From] {
		c.world.heard[in.From] = &other{m.GetGenesis(), m.GetSum(), m.GetFree()}
	}
	if m.GetWanted() {
		c.ringWanted(in.From)
	}
	if m.Delta != nil && !c.takeDelta(in.From, m) {
		return
	}
	c.compareGenesis(in.From, m)
	c.takeVotes(in.From, m)
	if m.Ask != nil {
		c.asked(in.From, m.Ask)
	}
	if m.Answer != nil {
		c.answered(in.From, m.Answer)
	}
	if m.GetDigest() {
		c.compare(in.From, m)
	}
}

// takeDelta takes in part of another's ring; false if the rest of the message
// is not worth a look.
func (c *Core) takeDelta(from peer.Name, m *WireMessage) bool {
	d, nicks, err := m.Delta.delta(c.cfg.Range)
	if err != nil || d.Genesis.ID() == 0 || d.Genesis.ID() != m.GetGenesis() || !slices.IsSortedFunc(d.Genesis.Seeds, peer.Name.Compare) {
		c.out.count.BadMessages++
		return false
	}
	for n, nick := range nicks {
		if !c.world.near[n] && n != c.cfg.Name {
			c.learnNick(n, nick)
		}
	}
	id := d.Genesis.ID()
	switch {
	case c.ring == nil:
	case id == c.ring.genesis.ID():
		delete(c.world.rivals, from)
		c.mergeRing(from, d)
		return true
	default:
		c.world.rivals[from] = d.Genesis
		if !slices.Contains(d.Settled, c.ring.genesis.ID()) || !d.Genesis.outranks(c.ring.genesis) {
			return true
		}
		c.event(LevelWarn, "our ring gives way to another, as a repair decided", "seeds were", c.seedList(c.ring.genesis), "are", c.seedList(d.Genesis))
		delete(c.world.rivals, from)
	}
	r := NewRing(d.Genesis)
	if _, err := r.Merge(d); err != nil {
		c.out.count.BadMessages++
		return false
	}
	c.adopt(r)
	return true
}

// compareGenesis notes or forgets a disagreement about how it all began.
func (c *Core) compareGenesis(from peer.Name, m *WireMessage) {
	if c.ring == nil || m.GetGenesis() == 0 || m.GetGenesis() == c.ring.genesis.ID() {
		c.fault(from, "")
		return
	}
	theirs := "unknown"
	if g, known := c.world.rivals[from]; known {
		theirs = c.seedList(g)
		if m.GetGiveWay() == g.ID() && c.ring.genesis.outranks(g) {
			c.supersede(g)
		}
	}
	c.fault(from, fmt.Sprintf("IP allocation was seeded by different peers (received: %s, ours: %s)", theirs, c.seedList(c.ring.genesis)))
}

// compare answers a peer that showed the sum of its ring.
func (c *Core) compare(from peer.Name, m *WireMessage) {
	switch {
	case c.ring == nil:
		if m.GetGenesis() != 0 { // we want what it has
			c.send(from, &WireMessage{Digest: true})
		}
	case m.GetGenesis() == c.ring.genesis.ID() && m.GetSum() == c.ring.sum:
		if m.Delta != nil { // it sent all it has, and should know that this arrived
			c.send(from, &WireMessage{})
		}
	default:
		c.sendState(from, m.Delta == nil)
	}
}

// fault notes what we disagree about with a peer, "" is nothing.
func (c *Core) fault(from peer.Name, text string) {
	old := c.world.faults[from]
	if old == text {
		return
	}
	c.out.stale = true
	if text == "" {
		delete(c.world.faults, from)
		return
	}
	if !c.world.near[from] {
		return
	}
	c.world.faults[from] = text
	c.event(LevelWarn, text, "peer", c.label(from))
}
