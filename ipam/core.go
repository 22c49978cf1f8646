package ipam

import (
	"fmt"
	"net/netip"
	"time"

	"weave/peer"
)

// Step takes one input and returns what to do about it. now must not go back
// between calls.
func (c *Core) Step(now time.Time, in Input) Effects {
	c.now = now
	c.handle(in)
	c.settle()
	fx := c.out.Effects
	c.out.Effects = Effects{}
	return fx
}

func (c *Core) handle(in Input) {
	switch in := in.(type) {
	case Tick:
	case Allocate:
		c.allocate(in)
	case Claim:
		c.claim(in)
	case Lookup:
		c.lookup(in)
	case List:
		c.list(in)
	case Free:
		c.free(in)
	case Prime:
		c.enqueue(&request{id: in.ID, kind: kindPrime})
	case Cancel:
		c.cancel(in.ID)
	case Died:
		c.died(in.Ident)
	case Gone:
		c.gone(in.Ident)
	case Remove:
		c.remove(in)
	case HandOver:
		c.handOver(in.ID)
	case Repair:
		c.repair(in.ID)
	case Reachable:
		c.reachable(in)
	case Message:
		c.receive(in)
	default:
		panic(fmt.Sprintf("ipam: unknown input %T", in))
	}
}

// settle does everything that is due. The order matters: each stage may make
// work for the later ones, never for an earlier.
func (c *Core) settle() {
	c.expireDead()
	c.startReclaims()
	c.runDecrees()
	c.serve()
	c.runHandover()
	c.runGossip()
	if c.out.stale {
		c.out.stale = false
		c.out.Publish = c.view()
	}
}

// Deadline returns when the Core wants its next Step, at the latest; zero is
// never.
func (c *Core) Deadline() time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, t := range c.held.dying {
		sooner(t)
	}
	sooner(c.reclaimAt())
	for _, d := range c.decrees {
		sooner(d.retry)
	}
	sooner(c.work.dueAt())
	sooner(c.gossip.dueAt)
	return next
}

// Counters returns the current counters.
func (c *Core) Counters() Counters { return c.out.count }

// inRange tells whether the ring is concerned with an address.
func (c *Core) inRange(a netip.Addr) bool { return c.cfg.Range.Contains(a) }

// adopt makes r the ring, whatever there was before.
func (c *Core) adopt(r *Ring) {
	if c.ring != nil {
		c.unsaveRing()
	}
	c.ring = r
	c.self.Life = r.nextLife(c.cfg.Name)
	c.dropDecree(Member{})
	c.saveMeta()
	c.saveDelta(r.Snapshot())
	c.redraw()
	c.gossip.soon(c.now)
}

// redraw brings all that depends on the ring up to it.
func (c *Core) redraw() {
	if c.ring.Buried(c.self) && !c.left {
		c.reborn()
	}
	c.segs = c.ring.Segments()
	c.space.setOwn(spansOf(c.segs, c.self))
	c.findStrays()
	c.out.stale, c.out.table = true, nil
	c.work.woken, c.work.recheck = true, true
	for gone := range c.decrees {
		if !gone.IsZero() && c.ring.Buried(gone) {
			c.buried(gone)
		}
	}
}

// reborn starts our next life, after others removed the last one.
func (c *Core) reborn() {
	heir := c.ring.Heir(c.self)
	c.self.Life = c.ring.nextLife(c.cfg.Name)
	c.saveMeta()
	c.event(LevelWarn, "this peer was removed from the network while it was away; it begins again without address space",
		"heir", c.label(heir.Name), "addresses in use, claimed anew", fmt.Sprint(c.held.len()))
}

// mergeRing takes in a part of a ring with our genesis.
func (c *Core) mergeRing(from peer.Name, d Delta) {
	before := c.space.own
	news, err := c.ring.Merge(d)
	if err != nil {
		c.out.count.BadMessages++
		c.event(LevelDebug, "malformed update", "peer", c.label(from), "err", err.Error())
		return
	}
	if news.Empty() {
		return
	}
	c.saveDelta(news)
	life := c.self
	c.redraw()
	if life == c.self {
		c.noteLosses(before, from)
	}
}

// noteLosses says so when somebody else owns now what was ours.
func (c *Core) noteLosses(before []span, from peer.Name) {
	for _, s := range before {
		for at := uint64(s.first); at <= uint64(s.last); {
			g, known := ownerAt(c.segs, uint32(at))
			if !known {
				return
			}
			if g.Owner != c.self && !c.left {
				c.event(LevelWarn, fmt.Sprintf("Received update for IP range I own at %s: incoming message says owner %s v%d",
					toAddr(uint32(at)), c.label(g.Owner.Name), g.Version), "peer", c.label(from))
			}
			at = uint64(g.Last) + 1
		}
	}
}

func (c *Core) event(l Level, text string, attrs ...string) {
	e := Event{Level: l, Text: text}
	for i := 0; i+1 < len(attrs); i += 2 {
		e.Attrs = append(e.Attrs, Attr{attrs[i], attrs[i+1]})
	}
	c.out.Events = append(c.out.Events, e)
}

func (c *Core) reply(r Reply) { c.out.Replies = append(c.out.Replies, r) }

func (c *Core) fail(id ReqID, f Fault) { c.reply(Reply{ID: id, Fault: f}) }

// label is a peer as users see it.
func (c *Core) label(n peer.Name) string { return peer.Label(n, c.world.nicks[n]) }
