package ipam

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"weave/peer"
)

// The first ring: whoever wants addresses asks for it, and those that are no
// observers decide who shares the range, by a decree.

// wantedFor is how long a wish of another peer is remembered.
const wantedFor = 10 * time.Second

// wantsRing tells whether somebody here waits for the first ring.
func (c *Core) wantsRing() bool { return c.ring == nil && len(c.work.pending) > 0 }

// waitForRing has others make the first ring: an observer does not vote.
func (c *Core) waitForRing() {
	d := c.decree(Member{})
	if !c.wantsRing() {
		d.retry = time.Time{}
		return
	}
	if d.retry.IsZero() || !c.now.Before(d.retry) {
		c.send(peer.Name{}, &WireMessage{Wanted: true, Digest: true})
		d.retry = c.now.Add(retryEvery)
	}
}

// ringWanted notes that another peer waits for the first ring, or sends it.
func (c *Core) ringWanted(from peer.Name) {
	if c.ring != nil {
		c.sendState(from, false)
		return
	}
	c.work.wanted = c.now.Add(wantedFor)
}

// electors is of how many peers a majority is needed; 0 while that is not known.
func (c *Core) electors() int {
	if c.cfg.Init.Count > 0 {
		return c.cfg.Init.Count
	}
	if c.world.electors == 0 {
		return 0
	}
	return max(1, c.world.electors-c.world.foreign())
}

func (c *Core) quorum() int { return c.electors()/2 + 1 }

// decree finds or begins one.
func (c *Core) decree(gone Member) *decree {
	d := c.decrees[gone]
	if d == nil {
		d = newDecree()
		c.decrees[gone] = d
	}
	return d
}

// runDecrees takes every decree on.
func (c *Core) runDecrees() {
	switch {
	case c.ring != nil:
	case c.cfg.Init.Mode == InitObserver:
		c.waitForRing()
	default:
		c.elect()
	}
	for _, gone := range slices.SortedFunc(maps.Keys(c.decrees), Member.Compare) {
		if d := c.decrees[gone]; !gone.IsZero() && d != nil {
			c.runRemoval(gone, d)
		}
	}
}

// elect takes the election of the first ring on.
func (c *Core) elect() {
	wants := c.wantsRing() || c.now.Before(c.work.wanted)
	if c.electors() == 0 || !wants && c.decrees[Member{}] == nil {
		return
	}
	d := c.decree(Member{})
	d.wants = wants
	majority := func(has func(peer.Name) bool) bool {
		n := 0
		for v := range d.votes {
			if has(v) {
				n++
			}
		}
		return n >= c.quorum()
	}
	c.runBallots(Member{}, d, majority, func() []Member {
		var out []Member
		for _, n := range d.voters() {
			out = append(out, Member{n, 1})
		}
		return out
	})
	if value, done := d.decided(majority); done {
		g := Genesis{Range: c.cfg.Range}
		for _, m := range value {
			g.Seeds = append(g.Seeds, m.Name)
		}
		slices.SortFunc(g.Seeds, peer.Name.Compare)
		g.Seeds = slices.Compact(g.Seeds)
		c.event(LevelInfo, "the network agreed on who shares the address range", "seeds", c.seedList(g))
		c.adopt(NewRing(g))
		c.broadcast(c.ring.Snapshot())
	}
}

// runBallots proposes when that is due, follows the others' votes, and sends
// and saves ours where they changed.
func (c *Core) runBallots(gone Member, d *decree, quorum func(func(peer.Name) bool) bool, ours func() []Member) {
	changed, again := false, false
	if d.wants && !c.now.Before(d.retry) {
		switch top := d.top(); {
		case d.own != ballot{} && d.own == top: // nobody has overtaken us: a message was lost
			again = true
		case d.retry.IsZero() && top != ballot{}: // somebody else is at it
		default:
			d.propose(c.cfg.Name)
			changed = true
		}
		d.retry = c.now.Add(ballotTime + time.Duration(c.rng.Int64N(int64(ballotTime))))
	}
	if !d.wants {
		d.retry = time.Time{}
	}
	changed = d.vote(c.cfg.Name) || changed
	changed = d.advance(c.cfg.Name, quorum, ours) || changed
	if changed {
		c.save(voteKey(gone), marshal(d.wire(gone, c.cfg.Name)))
		c.out.stale = true
	}
	if changed || again {
		c.sendVote(peer.Name{}, gone, d)
	}
}

// top is the highest ballot anybody promised.
func (d *decree) top() ballot {
	var top ballot
	for _, v := range d.votes {
		if v.promise.compare(top) > 0 {
			top = v.promise
		}
	}
	return top
}

// sendVote sends our vote. In the decree about an heir it says as well what we
// own: that may have been given to us by the peer that is gone, without the
// heir having heard of it.
func (c *Core) sendVote(to peer.Name, gone Member, d *decree) {
	m := &WireMessage{Votes: []*WireVote{d.wire(gone, c.cfg.Name)}, Wanted: gone.IsZero() && d.wants}
	if !gone.IsZero() && c.ring != nil {
		m.Delta = c.wireDelta(c.ownPart())
	}
	c.send(to, m)
}

// smallRing is up to how many entries a ring is sent whole with a vote.
const smallRing = 1024

func (c *Core) ownPart() Delta {
	all := c.ring.Snapshot()
	if len(all.Entries) > smallRing {
		all.Entries = slices.DeleteFunc(all.Entries, func(e Entry) bool { return e.Owner != c.self })
	}
	return all
}

// ownVotes are ours in what is not decided yet.
func (c *Core) ownVotes() []*WireVote {
	var out []*WireVote
	if d := c.decrees[Member{}]; d != nil && d.votes[c.cfg.Name].promise != (ballot{}) {
		out = append(out, d.wire(Member{}, c.cfg.Name))
	}
	return out
}

// takeVotes takes in votes of others.
func (c *Core) takeVotes(from peer.Name, m *WireMessage) {
	for _, w := range m.GetVotes() {
		gone, voter, v, err := w.parse()
		if err != nil {
			c.out.count.BadMessages++
			continue
		}
		switch {
		case gone.IsZero():
			c.electionVote(from, voter, v, m.GetAnswered())
		default:
			c.removalVote(from, gone, voter, v, w, m.GetAnswered())
		}
	}
}

func (c *Core) electionVote(from, voter peer.Name, v vote, answered bool) {
	if c.ring != nil {
		c.sendState(from, false)
		return
	}
	if c.cfg.Init.Mode == InitObserver {
		return
	}
	d := c.decree(Member{})
	news := d.joinVote(voter, v)
	c.out.stale = c.out.stale || news
	c.answerVote(from, Member{}, d, v, news || answered)
}

// answerVote sends ours to who voted like before and does not know it, perhaps.
func (c *Core) answerVote(from peer.Name, gone Member, d *decree, v vote, enough bool) {
	mine := d.votes[c.cfg.Name]
	if enough || mine.promise == (ballot{}) {
		return
	}
	m := &WireMessage{Votes: []*WireVote{d.wire(gone, c.cfg.Name)}, Answered: true}
	if !gone.IsZero() && c.ring != nil {
		m.Delta = c.wireDelta(c.ownPart())
	}
	c.send(from, m)
}

// dropDecree forgets a decree that was carried out.
func (c *Core) dropDecree(gone Member) {
	if c.decrees[gone] != nil {
		delete(c.decrees, gone)
		c.save(voteKey(gone), nil)
	}
}

func voteKey(gone Member) string { return votePrefix + gone.String() }

// ringReason says what a request waits for that there is no ring for.
func (c *Core) ringReason() string {
	if c.cfg.Init.Mode == InitObserver {
		return "this peer is an observer: it waits until the others have shared the address range"
	}
	known := 0
	if d := c.decrees[Member{}]; d != nil {
		known = len(d.votes)
	}
	if c.electors() == 0 {
		return "the network is not known yet"
	}
	return fmt.Sprintf("the peers have to agree first on who shares the address range: %d of them are needed, %d have answered", c.quorum(), known)
}
