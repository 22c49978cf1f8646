package ipam

import (
	"time"

	"weave/peer"
)

// handover is the end of our part in the network.
type handover struct {
	id    ReqID
	heir  Member
	next  time.Time
	until time.Time
}

// handOver makes another peer the heir of all that is ours: one that can be
// reached and owns something, else one that can be reached, else any.
func (c *Core) handOver(id ReqID) {
	heir, found := c.chooseHeir()
	if !found {
		c.reply(Reply{ID: id})
		return
	}
	c.left = true
	c.dropRequests(func(*request) bool { return true }, "this peer hands its addresses over; it is to be reset")
	c.mergeRing(c.cfg.Name, Delta{Genesis: c.ring.genesis, Tombs: map[Member]Member{c.self: heir}})
	c.event(LevelInfo, "handed all addresses over", "heir", c.label(heir.Name))
	c.sendAll()
	c.work.hand = &handover{id: id, heir: heir, next: c.now, until: c.now.Add(handoverTime)}
}

func (c *Core) chooseHeir() (Member, bool) {
	if c.ring == nil || c.space.size == 0 || c.left {
		return Member{}, false
	}
	var best Member
	rank := 0
	consider := func(m Member, r int) {
		if m.Name != c.cfg.Name && r > rank {
			best, rank = m, r
		}
	}
	for _, s := range c.segs {
		r := 1
		if c.isNear(s.Owner.Name) {
			r = 3
		}
		consider(s.Owner, r)
	}
	for _, n := range c.pickSome(c.nearAllocators(), len(c.world.heard)) {
		consider(Member{n, c.ring.nextLife(n)}, 2)
	}
	return best, rank > 0
}

func (c *Core) nearAllocators() []peer.Name {
	var out []peer.Name
	for n, o := range c.world.heard {
		if o.genesis == c.ring.genesis.ID() || o.genesis == 0 {
			out = append(out, n)
		}
	}
	return out
}

// runHandover waits until the heir has shown that it knows.
func (c *Core) runHandover() {
	h := c.work.hand
	if h == nil {
		return
	}
	o := c.world.heard[h.heir.Name]
	done := o != nil && o.sum == c.ring.sum
	if done || !c.now.Before(h.until) || !c.isNear(h.heir.Name) {
		c.work.hand = nil
		c.reply(Reply{ID: h.id, Text: h.heir.Name.String()})
		if !done {
			c.event(LevelWarn, "the heir has not said that it knows", "heir", c.label(h.heir.Name))
		}
		return
	}
	if !c.now.Before(h.next) {
		delete(c.gossip.told, h.heir.Name)
		c.sendState(h.heir.Name, true)
		h.next = c.now.Add(handoverTime / 6)
	}
}
