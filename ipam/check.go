package ipam

import (
	"errors"
	"fmt"
	"slices"
)

// Check verifies the invariants of the Core; an error is a bug of this
// package, whatever the input was. It costs time in proportion to the ring and
// to what is held.
func (c *Core) Check() error {
	return errors.Join(c.checkHoldings(), c.checkRing(), c.checkWork())
}

func (c *Core) checkHoldings() error {
	if c.held.inside.n != c.space.held.n {
		return fmt.Errorf("%d holdings in the range, %d addresses in use", c.held.inside.n, c.space.held.n)
	}
	n, used := 0, 0
	for _, h := range c.held.all() {
		a := h.CIDR.Addr()
		if !slices.Contains(c.held.of(h.Ident), h) {
			return fmt.Errorf("%s is not listed for %s", a, h.Ident)
		}
		n++
		if !c.inRange(a) {
			continue
		}
		ours := c.space.owns(toUint(a))
		if ours {
			used++
		}
		if !c.space.held.has(toUint(a)) {
			return fmt.Errorf("%s is held, but counts as free", a)
		}
		if stray := c.work.strays[a] != nil; c.ring != nil && stray == ours {
			return fmt.Errorf("%s: stray %t, in our space %t", a, stray, ours)
		}
	}
	if n != c.held.len() || used != c.space.inUse {
		return fmt.Errorf("%d of %d holdings have an ident, %d of our addresses in use and not %d", n, c.held.len(), used, c.space.inUse)
	}
	for ident := range c.held.dying {
		if len(c.held.of(ident)) == 0 {
			return fmt.Errorf("%s is dying and holds nothing", ident)
		}
	}
	return nil
}

func (c *Core) checkRing() error {
	if c.ring == nil {
		if len(c.segs) > 0 || c.space.size > 0 {
			return errors.New("space without a ring")
		}
		return nil
	}
	if c.ring.Buried(c.self) && !c.left {
		return errors.New("we live on under a tombstone")
	}
	if !slices.Equal(c.segs, c.ring.Segments()) {
		return errors.New("segments are not those of the ring")
	}
	if !slices.Equal(c.space.own, spansOf(c.segs, c.self)) {
		return errors.New("our space is not that of the ring")
	}
	return c.ring.check()
}

// check verifies that the ring is in order, and its sum the one of its content.
func (r *Ring) check() error {
	other := emptyRing(r.genesis)
	var last uint64
	for i, e := range r.entries {
		if i > 0 && uint64(e.Start) <= last {
			return fmt.Errorf("entry at %s out of order", toAddr(e.Start))
		}
		last = uint64(e.Start)
	}
	if _, err := other.Merge(r.Snapshot()); err != nil {
		return err
	}
	if other.sum != r.sum {
		return errors.New("the ring's sum is not that of its content")
	}
	return nil
}

func (c *Core) checkWork() error {
	for a, r := range c.work.strays {
		if h, there := c.held.get(a, true); !there || r.hold.CIDR.Addr() != a || h.Ident == "" {
			return fmt.Errorf("stray %s is not held", a)
		}
	}
	for target, h := range c.work.hunts {
		if h.target != target || h.dueAt().IsZero() {
			return fmt.Errorf("the hunt for %s sleeps for ever", target)
		}
	}
	for gone, d := range c.decrees {
		if c.ring != nil && (gone.IsZero() || c.ring.Buried(gone)) {
			return fmt.Errorf("the decree about %s is over", gone)
		}
		if d.wants && d.retry.IsZero() && c.electors() != 0 {
			return fmt.Errorf("the decree about %s sleeps for ever", gone)
		}
	}
	return nil
}
