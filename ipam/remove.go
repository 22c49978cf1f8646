package ipam

import (
	"fmt"
	"slices"
	"time"

	"weave/peer"
)

// A removed peer's space goes to an heir. Who that is is a decree of all peers
// that can be reached, so that two that are told to remove the same peer do not
// both take its space. That it is dead is the word of the person who asked, or
// the experience of a majority that has not seen it for --reclaim-after. The
// decree once made is a tombstone in the ring.

// removal is a part of a Remove request: one of its peers.
type removal struct {
	req   *removeRequest
	index int
}

type removeRequest struct {
	id     ReqID
	counts []uint64
	left   int
}

// remove begins to take over the space of the peers named.
func (c *Core) remove(in Remove) {
	req := &removeRequest{id: in.ID, counts: make([]uint64, len(in.Peers)), left: len(in.Peers)}
	var found []Member
	for _, text := range in.Peers {
		m, known := c.findOwner(text)
		if known && c.world.near[m.Name] {
			c.fail(in.ID, Fault(fmt.Sprintf("peer %s is reachable, so its addresses are in use: stop it first, or run 'weave reset' there", c.label(m.Name))))
			return
		}
		found = append(found, m)
	}
	for i, m := range found {
		if m.IsZero() || slices.Contains(found[:i], m) {
			c.removed(removal{req, i}, 0)
			continue
		}
		d := c.beginRemoval(m, false)
		d.requests = append(d.requests, removal{req, i})
	}
	if len(found) == 0 {
		c.reply(Reply{ID: in.ID, Counts: req.counts})
	}
}

// findOwner finds the owner that a name or nickname means; the zero Member if
// that is nobody, or ourselves.
func (c *Core) findOwner(text string) (Member, bool) {
	n, err := peer.ParseName(text)
	isName := err == nil
	for _, s := range c.segs {
		o := s.Owner
		if o.Name == c.cfg.Name {
			continue
		}
		if isName && o.Name == n || c.world.nicks[o.Name] == text {
			return o, true
		}
	}
	return Member{}, false
}

func (c *Core) removed(r removal, count uint64) {
	if r.req.left <= 0 { // failed already
		return
	}
	r.req.counts[r.index] = count
	if r.req.left--; r.req.left == 0 {
		c.reply(Reply{ID: r.req.id, Counts: r.req.counts})
	}
}

// cancelRemoval forgets who waits for a removal. It goes on all the same.
func (c *Core) cancelRemoval(id ReqID) {
	known := false
	for _, d := range c.decrees {
		d.requests = slices.DeleteFunc(d.requests, func(r removal) bool {
			known = known || r.req.id == id
			return r.req.id == id
		})
	}
	if known {
		c.fail(id, ErrCancelled)
	}
}

// beginRemoval has us propose ourselves as the heir.
func (c *Core) beginRemoval(gone Member, reclaim bool) *decree {
	d := c.decree(gone)
	if d.wants && d.reclaim == reclaim {
		return d
	}
	d.wants, d.reclaim, d.retry = true, reclaim, c.now
	d.own = ballot{} // an old one of ours may stand; a new one is above it
	d.until = c.now.Add(removeTime)
	d.required = map[peer.Name]bool{c.cfg.Name: true}
	for _, n := range c.owners() {
		if c.isNear(n) {
			d.required[n] = true
		}
	}
	for n := range c.world.heard {
		if c.isNear(n) {
			d.required[n] = true
		}
	}
	d.propose(c.cfg.Name)
	c.save(voteKey(gone), marshal(d.wire(gone, c.cfg.Name)))
	c.sendVote(peer.Name{}, gone, d)
	d.retry = c.now.Add(ballotTime + time.Duration(c.rng.Int64N(int64(ballotTime))))
	return d
}

// runRemoval takes a decree about an heir on.
func (c *Core) runRemoval(gone Member, d *decree) {
	if c.ring == nil { // we vote, but have nothing to inherit with
		d.wants, d.required = false, nil
	}
	if d.wants && c.world.near[gone.Name] {
		c.endRemoval(gone, d, "peer "+c.label(gone.Name)+" has come back")
		return
	}
	if d.wants && !c.now.Before(d.until) {
		if d.reclaim {
			c.endRemoval(gone, d, "not all peers answered")
			return
		}
		for n := range d.required { // who has gone meanwhile does not count any more
			if !c.isNear(n) {
				delete(d.required, n)
			}
		}
		d.until = c.now.Add(removeTime)
	}
	all := func(has func(peer.Name) bool) bool {
		if len(d.required) == 0 {
			return false // not ours to decide
		}
		for n := range d.required {
			if !has(n) {
				return false
			}
		}
		return true
	}
	c.runBallots(gone, d, all, func() []Member { return []Member{c.self} })
	value, done := d.decided(all)
	if !done || c.ring == nil || len(value) != 1 || value[0].Name == gone.Name {
		return
	}
	news := Delta{Genesis: c.ring.genesis, Tombs: map[Member]Member{gone: value[0]}}
	c.event(LevelInfo, "a peer was removed; its addresses have an heir", "peer", c.label(gone.Name), "heir", c.label(value[0].Name))
	c.mergeRing(c.cfg.Name, news)
	c.broadcast(c.ownTombs(news))
}

// ownTombs adds what the heir should know as well.
func (c *Core) ownTombs(d Delta) Delta {
	part := c.ownPart()
	part.Tombs = d.Tombs
	return part
}

// buried ends the decree about a peer that has been removed, and says to those
// who asked how much we took over.
func (c *Core) buried(gone Member) {
	d := c.decrees[gone]
	var count uint64
	if c.ring.Heir(gone) == c.self {
		count = c.ownedBy(gone)
	}
	for _, r := range d.requests {
		c.removed(r, count)
		count = 0 // the others took over nothing more
	}
	c.dropDecree(gone)
}

// ownedBy counts what a buried member would own if it were not.
func (c *Core) ownedBy(gone Member) uint64 {
	r := *c.ring
	r.tombs = map[Member]Member{}
	for m, heir := range c.ring.tombs {
		if m != gone {
			r.tombs[m] = heir
		}
	}
	var n uint64
	for _, s := range r.Segments() {
		if s.Owner == gone {
			n += s.Size()
		}
	}
	return n
}

// endRemoval gives up; the votes stay, because others may count on them.
func (c *Core) endRemoval(gone Member, d *decree, why string) {
	d.wants, d.retry, d.required, d.own = false, time.Time{}, nil, ballot{}
	for _, r := range d.requests {
		if r.req.left > 0 {
			r.req.left = 0
			c.fail(r.req.id, Fault(why))
		}
	}
	d.requests = nil
	c.event(LevelInfo, "a removal came to nothing", "peer", c.label(gone.Name), "reason", why)
}

// removalVote takes in a vote about the heir of a peer.
func (c *Core) removalVote(from peer.Name, gone Member, voter peer.Name, v vote, w *WireVote, answered bool) {
	d := c.decrees[gone]
	if w.GetRefused() {
		// Who has just lost a peer hears of it a moment before others do.
		early := d != nil && !d.reclaim && d.until.Sub(c.now) > removeTime-refusalTime
		if d != nil && d.wants && !early {
			c.endRemoval(gone, d, fmt.Sprintf("peer %s can be reached from %s", c.label(gone.Name), c.label(from)))
		}
		return
	}
	switch {
	case c.ring != nil && c.ring.Buried(gone):
		c.sendState(from, false)
		return
	case c.refuses(gone, w.GetReclaim()):
		refusal := &WireVote{Gone: gone.Name[:], GoneLife: gone.Life, Voter: c.cfg.Name[:], Refused: true}
		c.send(from, &WireMessage{Votes: []*WireVote{refusal}})
		return
	case d == nil && len(c.decrees) > maxDecrees:
		return
	case v.accepted != ballot{} && (len(v.value) != 1 || v.value[0].Name == gone.Name):
		c.out.count.BadMessages++
		return
	}
	d = c.decree(gone)
	news := d.joinVote(voter, v)
	c.answerVote(from, gone, d, v, news || answered)
}

// maxDecrees bounds what others can make us remember.
const maxDecrees = 1024

// refuses tells whether we have no part in the removal of a peer: we are it, we
// can reach it, or it is to be removed for its absence and we have not missed it
// for so long.
func (c *Core) refuses(gone Member, reclaim bool) bool {
	if c.isNear(gone.Name) {
		return true
	}
	if !reclaim {
		return false
	}
	since, away := c.world.away[gone.Name]
	return c.cfg.ReclaimAfter <= 0 || !away || c.now.Sub(since) < c.cfg.ReclaimAfter*9/10
}
