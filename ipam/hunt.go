package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weave/peer"
)

// hunt is the search for space: in a subnet, or for one address.
//
//	asked one peer ── granted ──► (over)
//	  ▲   │ refused, or no answer in time
//	  │   ▼
//	  │ asked up to three at once
//	  │   │ nobody left
//	  │   ▼
//	  └── resting until next
type hunt struct {
	target netip.Prefix
	asked  map[peer.Name]question
	tried  map[peer.Name]bool // refused, or did not answer, in this round
	next   time.Time          // of the next round
	tries  int                // rounds without anybody to ask
	slow   bool               // nobody waits for it
}

type question struct {
	id    uint64
	until time.Time
}

// grant is what a peer was given last.
type grant struct {
	id    uint64
	delta Delta
}

// fanOut is how many peers are asked at once when the first has refused.
const fanOut = 3

// strayEvery is how often the owner of a stray is asked again.
const strayEvery = 30 * time.Second

func (h *hunt) dueAt() time.Time {
	if len(h.asked) == 0 {
		return h.next
	}
	var next time.Time
	for _, q := range h.asked {
		if next.IsZero() || q.until.Before(next) {
			next = q.until
		}
	}
	return next
}

func (c *Core) huntsDue() bool {
	for _, h := range c.work.hunts {
		if at := h.dueAt(); !at.IsZero() && !c.now.Before(at) {
			return true
		}
	}
	return false
}

// hunt takes the search for target on.
func (c *Core) hunt(target netip.Prefix, r *request) {
	h := c.work.hunts[target]
	if h == nil {
		h = &hunt{target: target, asked: map[peer.Name]question{}, tried: map[peer.Name]bool{}}
		c.work.hunts[target] = h
	}
	h.slow = r.stray
	for n, q := range h.asked {
		if !c.isNear(n) || !c.now.Before(q.until) {
			delete(h.asked, n)
			h.tried[n] = true
		}
	}
	if c.left || c.fenced() {
		h.rest(c.now)
		return
	}
	if len(h.asked) > 0 {
		return
	}
	if !h.next.IsZero() && c.now.Before(h.next) {
		return
	}
	if !h.next.IsZero() { // a new round
		h.next = time.Time{}
		clear(h.tried)
	}
	if r.kind == kindClaim {
		c.huntAddress(h, r)
	} else {
		c.huntSubnet(h)
	}
}

func (h *hunt) rest(now time.Time) {
	h.next = now.Add(retryEvery)
	if h.slow {
		h.next = now.Add(strayEvery)
	}
}

// huntSubnet asks those who own part of the subnet.
func (c *Core) huntSubnet(h *hunt) {
	weights, absent := c.candidates(h)
	n := 1
	if len(h.tried) > 0 {
		n = fanOut
	}
	for ; n > 0 && len(weights) > 0; n-- {
		c.ask(h, c.choose(weights), "")
	}
	if len(h.asked) > 0 {
		c.explain(h.target, "asking other peers for addresses in "+h.target.String())
		return
	}
	h.rest(c.now)
	reason := "no peer has a free address in " + h.target.String()
	if len(absent) > 0 {
		reason += "; not reachable: " + strings.Join(absent, ", ")
	}
	c.explain(h.target, reason)
}

// candidates are the peers that may have free addresses in the subnet, with
// how many that may be, and those that cannot be asked.
func (c *Core) candidates(h *hunt) (map[peer.Name]uint64, []string) {
	owned := map[peer.Name]uint64{}
	total := map[peer.Name]uint64{}
	in := hosts(h.target)
	for _, s := range c.segs {
		total[s.Owner.Name] += s.Size()
		if m, some := s.span().meet(in); some {
			owned[s.Owner.Name] += m.size()
		}
	}
	var absent []string
	for n, size := range owned {
		switch {
		case n == c.cfg.Name || h.tried[n]:
			delete(owned, n)
		case !c.isNear(n):
			absent = append(absent, c.label(n))
			delete(owned, n)
		case c.world.heard[n] != nil: // what it has free, as if that were spread evenly
			owned[n] = max(1, uint64(float64(size)*float64(min(c.world.heard[n].free, total[n]))/float64(total[n])))
		}
	}
	slices.Sort(absent)
	return owned, absent
}

// choose takes one out at random, weighed by what it may have.
func (c *Core) choose(weights map[peer.Name]uint64) peer.Name {
	names := make([]peer.Name, 0, len(weights))
	var sum uint64
	for n, w := range weights {
		names, sum = append(names, n), sum+w
	}
	slices.SortFunc(names, peer.Name.Compare)
	pick := c.rng.Uint64N(sum)
	for _, n := range names {
		if pick < weights[n] {
			delete(weights, n)
			return n
		}
		pick -= weights[n]
	}
	panic("ipam: weights do not add up")
}

// huntAddress asks the owner of the one address.
func (c *Core) huntAddress(h *hunt, r *request) {
	owner, known := ownerAt(c.segs, toUint(h.target.Addr()))
	switch {
	case known && c.isNear(owner.Owner.Name) && owner.Owner != c.self && !h.tried[owner.Owner.Name]:
		c.ask(h, owner.Owner.Name, r.hold.Ident)
		c.explain(h.target, "asking its owner "+c.label(owner.Owner.Name))
		return
	case !known:
		c.explain(h.target, "it is not known yet who owns it")
	default:
		c.explain(h.target, "its owner "+c.label(owner.Owner.Name)+" is not reachable")
	}
	h.rest(c.now)
	h.tries++
	if h.tries >= claimTries || r.assume {
		h.tries = 0
		c.endClaims(h.target, owner.Owner, "not reachable", true)
	}
}

// explain says to those who wait for target what for.
func (c *Core) explain(target netip.Prefix, reason string) {
	for _, r := range c.work.pending {
		if r.target() == target && r.reason != reason {
			r.reason = reason
			c.out.stale = true
		}
	}
}

func (c *Core) ask(h *hunt, n peer.Name, ident string) {
	q := question{id: c.rng.Uint64() | 1, until: c.now.Add(askTimeout)}
	h.asked[n] = q
	c.out.count.Asked++
	s := spanOf(h.target)
	c.send(n, &WireMessage{Ask: &WireAsk{
		Id: q.id, Start: s.first, Bits: uint32(h.target.Bits()), Ident: ident, Life: c.self.Life,
	}})
}

// answered takes in the answer to a question; what was granted is in the ring
// already.
func (c *Core) answered(from peer.Name, a *WireAnswer) {
	for target, h := range c.work.hunts {
		q, there := h.asked[from]
		if !there || q.id != a.GetId() {
			continue
		}
		delete(h.asked, from)
		h.tried[from] = true
		c.work.woken = true
		if !a.GetRefused() {
			clear(h.tried)
			return
		}
		if target.Bits() == 32 {
			h.rest(c.now)
			if owner, known := ownerAt(c.segs, toUint(target.Addr())); !known || owner.Owner.Name == from {
				c.endClaims(target, Member{Name: from}, printable(a.GetReason(), maxNick), false)
			}
		}
		return
	}
}

// asked answers a peer that asks for space.
func (c *Core) asked(from peer.Name, q *WireAsk) {
	key := from.String()
	if g, there := c.work.given[key]; there && g.id == q.GetId() {
		c.send(from, &WireMessage{Delta: c.wireDelta(g.delta), Answer: &WireAnswer{Id: q.GetId()}})
		return
	}
	target, err := prefixOf(q.GetStart(), q.GetBits())
	block, refusal := span{}, ""
	switch {
	case err != nil || target.Bits() > MinSubnet && target.Bits() != 32:
		c.out.count.BadMessages++
		return
	case c.ring == nil:
		refusal = "there is no ring yet"
	case c.left || c.fenced():
		refusal = "this peer gives nothing at the moment"
	case target.Bits() == 32:
		block, refusal = c.oneAddress(toUint(target.Addr()))
	default:
		var some bool
		if block, some = c.space.spare(target); !some {
			refusal = "no free address"
		}
	}
	if refusal != "" {
		m := &WireMessage{Answer: &WireAnswer{Id: q.GetId(), Refused: true, Reason: refusal}}
		if c.ring != nil { // what the asker believes may be old
			m.Digest = true
		}
		c.send(from, m)
		return
	}
	to := Member{from, max(c.ring.nextLife(from), min(q.GetLife(), maxLife))}
	c.donate(q.GetId(), to, block)
}

func (c *Core) oneAddress(a uint32) (span, string) {
	if !c.space.owns(a) {
		return span{}, "it has another owner now"
	}
	if h, taken := c.held.get(toAddr(a), true); taken {
		return span{}, fmt.Sprintf("in use by %s", h.Ident)
	}
	return span{a, a}, ""
}

// donate gives a block to a peer that asked, and tells everybody.
func (c *Core) donate(id uint64, to Member, block span) {
	d := Delta{Genesis: c.ring.genesis, Entries: c.ring.give(c.self, to, block)}
	c.saveDelta(d)
	c.redraw()
	c.work.given[to.Name.String()] = grant{id, d}
	c.out.count.Given += block.size()
	c.event(LevelDebug, "gave addresses away", "peer", c.label(to.Name), "first", toAddr(block.first).String(), "count", fmt.Sprint(block.size()))
	c.send(to.Name, &WireMessage{Delta: c.wireDelta(d), Answer: &WireAnswer{Id: id}})
	c.send(peer.Name{}, &WireMessage{Delta: c.wireDelta(d)})
}
