package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// serve goes through what waits: what can be answered is, and for the rest
// space is hunted for.
func (c *Core) serve() {
	if c.work.recheck && c.ring != nil {
		c.work.recheck = false
		c.watchAbsence(c.owners())
	}
	if !c.work.woken && !c.huntsDue() {
		return
	}
	c.work.woken = false
	wanted := map[netip.Prefix]*request{} // what to hunt for
	dry := map[netip.Prefix]bool{}        // subnets without a free address of ours
	c.work.pending = slices.DeleteFunc(c.work.pending, func(r *request) bool {
		done := c.answer(r, dry)
		if !done && c.ring != nil && r.kind != kindPrime && wanted[r.target()] == nil {
			wanted[r.target()] = r
		}
		c.out.stale = c.out.stale || done
		return done
	})
	if c.ring == nil {
		return
	}
	for _, r := range c.work.strays {
		if wanted[r.target()] == nil {
			wanted[r.target()] = r
		}
	}
	for target := range c.work.hunts {
		if wanted[target] == nil {
			delete(c.work.hunts, target)
		}
	}
	for _, target := range slices.SortedFunc(maps.Keys(wanted), netip.Prefix.Compare) {
		c.hunt(target, wanted[target])
	}
}

// target is what must become ours for a request.
func (r *request) target() netip.Prefix {
	if r.kind == kindClaim {
		return netip.PrefixFrom(r.hold.CIDR.Addr(), 32)
	}
	return r.hold.CIDR
}

// answer ends a request if it can be.
func (c *Core) answer(r *request, dry map[netip.Prefix]bool) bool {
	switch r.kind {
	case kindPrime:
		if c.ring != nil {
			c.reply(Reply{ID: r.id})
			return true
		}
	case kindClaim:
		if c.tryClaim(r) {
			return true
		}
	case kindAllocate:
		if c.ring == nil {
			break
		}
		if !dry[r.hold.CIDR] || len(c.held.of(r.hold.Ident)) > 0 {
			if c.tryAllocate(r) {
				return true
			}
			dry[r.hold.CIDR] = true
		}
	}
	switch {
	case c.ring == nil:
		r.reason = c.ringReason()
	case c.left:
		r.reason = "this peer has handed its addresses over; it is to be reset"
	case c.fenced():
		r.reason = "most peers have been out of reach for longer than --reclaim-after allows"
	}
	return false
}

// findStrays brings the strays up to the ring: what is held here in space of
// others.
func (c *Core) findStrays() {
	if c.ring == nil {
		return
	}
	for a := range c.work.strays {
		if c.space.owns(toUint(a)) {
			delete(c.work.strays, a)
		}
	}
	at := uint64(c.space.ranges.first)
	check := func(end uint64) { // up to, but without end
		for at < end {
			a, found := c.space.held.next(uint32(at), uint32(end-1), true)
			if !found {
				break
			}
			at = uint64(a) + 1
			addr := toAddr(a)
			if c.work.strays[addr] == nil {
				h, _ := c.held.get(addr, true)
				c.work.strays[addr] = &request{kind: kindClaim, hold: h, stray: true}
			}
		}
	}
	for _, o := range c.space.own {
		check(uint64(o.first))
		at = uint64(o.last) + 1
	}
	check(uint64(c.space.ranges.last) + 1)
}

// claimFault is what a claim of another's address gets.
func (c *Core) claimFault(r *request, owner Member, reason string) Fault {
	if reason != "" {
		reason = " - " + reason
	}
	return Fault(fmt.Sprintf("Unable to claim: address %s is owned by other peer %s (%s)%s",
		r.hold.CIDR, owner.Name, c.world.nicks[owner.Name], reason))
}

// endClaims answers the claims of an address that its owner refused, or that
// cannot be asked.
func (c *Core) endClaims(target netip.Prefix, owner Member, reason string, unreachable bool) {
	c.work.pending = slices.DeleteFunc(c.work.pending, func(r *request) bool {
		if r.kind != kindClaim || r.target() != target {
			return false
		}
		c.out.stale = true
		if unreachable && r.assume {
			c.hold(r.hold)
			c.stray(r)
			c.granted(r)
			return true
		}
		c.fail(r.id, c.claimFault(r, owner, reason))
		return true
	})
	if r := c.work.strays[target.Addr()]; r != nil && !unreachable && r.reason != reason {
		r.reason = reason
		c.event(LevelWarn, "an address in use here belongs to another peer, which keeps it", "address", r.hold.CIDR.String(),
			"ident", r.hold.Ident, "owner", c.label(owner.Name), "reason", reason)
	}
}
