package ipam

import (
	"slices"
	"time"

	"weave/peer"
)

// reclaimAt is when the absence of an owner has lasted long enough; zero is
// never.
func (c *Core) reclaimAt() time.Time {
	var next time.Time
	if c.cfg.ReclaimAfter <= 0 || c.ring == nil || c.left {
		return next
	}
	for _, gone := range c.absentOwners() {
		at := c.world.away[gone.Name].Add(c.cfg.ReclaimAfter)
		if d := c.decrees[gone]; d != nil && d.wants {
			continue
		}
		if tried := c.gossip.reclaimed[gone]; tried.After(at) {
			at = tried
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

func (c *Core) absentOwners() []Member {
	var out []Member
	for _, s := range c.segs {
		if _, away := c.world.away[s.Owner.Name]; away && !slices.Contains(out, s.Owner) {
			out = append(out, s.Owner)
		}
	}
	return out
}

// startReclaims begins to remove owners that have been absent for so long, if
// those here are a majority, and all who are missing are missing for so long:
// one of those might have been given some of it.
func (c *Core) startReclaims() {
	at := c.reclaimAt()
	if at.IsZero() || c.now.Before(at) {
		return
	}
	owners := c.owners()
	near := slices.DeleteFunc(slices.Clone(owners), func(n peer.Name) bool { return !c.isNear(n) })
	rank := time.Duration(max(0, slices.Index(near, c.cfg.Name)))
	absent := c.absentOwners()
	recent := slices.ContainsFunc(absent, func(m Member) bool {
		return c.now.Sub(c.world.away[m.Name]) < c.cfg.ReclaimAfter
	})
	if c.gossip.reclaimed == nil {
		c.gossip.reclaimed = map[Member]time.Time{}
	}
	for _, gone := range absent {
		due := c.world.away[gone.Name].Add(c.cfg.ReclaimAfter + rank*ballotTime)
		if tried := c.gossip.reclaimed[gone]; tried.After(due) {
			due = tried
		}
		if c.now.Before(due) {
			c.gossip.reclaimed[gone] = due
			continue
		}
		c.gossip.reclaimed[gone] = c.now.Add(retryEvery + time.Duration(c.rng.Int64N(int64(retryEvery))))
		if !recent && len(near) > len(owners)/2 {
			c.beginRemoval(gone, true)
		}
	}
}
