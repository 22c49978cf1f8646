package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// work is what has not been done yet.
type work struct {
	pending []*request              // in the order they came
	hunts   map[netip.Prefix]*hunt  // by subnet, or by address with 32 bits
	strays  map[netip.Addr]*request // holdings in space of others
	given   map[string]grant        // the last grant to each peer, in case the answer got lost
	wanted  time.Time               // until then somebody elsewhere waits for the first ring
	hand    *handover
	woken   bool // something changed that may end a wait
	recheck bool // who is away may have changed
}

func newWork() work {
	return work{hunts: map[netip.Prefix]*hunt{}, strays: map[netip.Addr]*request{}, given: map[string]grant{}}
}

type kind uint8

const (
	kindAllocate kind = iota
	kindClaim
	kindPrime
)

// request is an input that is not answered yet.
type request struct {
	id     ReqID
	kind   kind
	hold   Holding // Claim: whole; Allocate: CIDR is the subnet
	anon   bool
	assume bool
	reason string // what it waits for
	stray  bool   // nobody waits for it: a holding that its owner has not granted
}

func checkIdent(ident string) Fault {
	switch {
	case ident == "":
		return "no container given"
	case len(ident) > maxIdent:
		return Fault(fmt.Sprintf("a container's name has more than %d bytes", maxIdent))
	case printable(ident, maxIdent) != ident:
		return "a container's name has unprintable characters"
	}
	return ""
}

func (c *Core) enqueue(r *request) {
	c.work.pending = append(c.work.pending, r)
	c.work.woken, c.out.stale = true, true
}

func (c *Core) allocate(in Allocate) {
	if f := checkIdent(in.Ident); f != "" && !in.Anonymous {
		c.fail(in.ID, f)
		return
	}
	if err := CheckSubnet(in.Subnet, c.cfg.Range); err != nil {
		c.fail(in.ID, Fault(err.Error()))
		return
	}
	r := &request{id: in.ID, kind: kindAllocate, hold: Holding{in.Ident, in.Subnet, in.Container}, anon: in.Anonymous}
	if len(c.work.pending) == 0 && c.ring != nil && c.tryAllocate(r) { // nothing to wait for
		return
	}
	c.enqueue(r)
}

// tryAllocate answers r if what we have is enough.
func (c *Core) tryAllocate(r *request) bool {
	subnet := r.hold.CIDR
	for _, h := range c.held.of(r.hold.Ident) {
		a := h.CIDR.Addr()
		if r.anon || !subnet.Contains(a) || !c.inRange(a) {
			continue
		}
		delete(c.held.dying, r.hold.Ident)
		c.reply(Reply{ID: r.id, CIDRs: []netip.Prefix{netip.PrefixFrom(a, subnet.Bits())}})
		return true
	}
	if c.left || c.fenced() {
		return false
	}
	at, found := c.space.lowest(subnet)
	if !found {
		return false
	}
	h := Holding{r.hold.Ident, netip.PrefixFrom(toAddr(at), subnet.Bits()), r.hold.Container}
	if r.anon {
		h.Ident = toAddr(at).String()
	}
	c.hold(h)
	c.out.count.Allocated++
	c.reply(Reply{ID: r.id, CIDRs: []netip.Prefix{h.CIDR}})
	return true
}

// hold makes h a holding, durably.
func (c *Core) hold(h Holding) {
	a := h.CIDR.Addr()
	in := c.inRange(a)
	c.held.set(h, in)
	delete(c.held.dying, h.Ident)
	if in {
		c.space.add(toUint(a))
	}
	if s := c.work.strays[a]; s != nil {
		s.hold = h
	}
	c.saveHolding(h)
	c.out.stale = true
}

// release ends a holding.
func (c *Core) release(a netip.Addr) {
	in := c.inRange(a)
	c.held.remove(a, in)
	if in {
		c.space.remove(toUint(a))
	}
	delete(c.work.strays, a)
	c.save(holdingPrefix+a.String(), nil)
	c.out.count.Freed++
	c.out.stale, c.work.woken = true, true
}

func (c *Core) claim(in Claim) {
	h := Holding{in.Ident, in.CIDR, in.Container}
	if in.Anonymous && in.CIDR.IsValid() {
		h.Ident = in.CIDR.Addr().String()
	}
	if f := checkIdent(h.Ident); f != "" {
		c.fail(in.ID, f)
		return
	}
	if !in.CIDR.IsValid() || in.CIDR.Addr().Is4In6() {
		c.fail(in.ID, Fault(fmt.Sprintf("Unable to claim: invalid address %s", in.CIDR)))
		return
	}
	c.enqueue(&request{id: in.ID, kind: kindClaim, hold: h, anon: in.Anonymous, assume: in.Assume})
}

// tryClaim answers r if that can be done here and now.
func (c *Core) tryClaim(r *request) bool {
	a := r.hold.CIDR.Addr()
	in := c.inRange(a)
	old, taken := c.held.get(a, in)
	_, dying := c.held.dying[old.Ident]
	switch {
	case taken && old.Ident != r.hold.Ident && !r.anon && !dying:
		c.fail(r.id, Fault(fmt.Sprintf("Unable to claim: address %s is already owned by %s", r.hold.CIDR, old.Ident)))
		return true
	case taken && r.anon: // whoever has it keeps it
		r.hold = old
	}
	switch {
	case taken || !in:
	case c.ring == nil:
		if !r.assume {
			return false
		}
		c.stray(r)
	case !c.space.owns(toUint(a)):
		return false
	case c.left:
		return false
	}
	c.hold(r.hold)
	c.granted(r)
	return true
}

func (c *Core) granted(r *request) {
	c.out.count.Claimed++
	c.reply(Reply{ID: r.id, CIDRs: []netip.Prefix{r.hold.CIDR}})
}

// stray makes r a claim that goes on although it was answered.
func (c *Core) stray(r *request) {
	c.work.strays[r.hold.CIDR.Addr()] = &request{kind: kindClaim, hold: r.hold, stray: true, assume: r.assume}
	c.work.woken = true
}

func (c *Core) lookup(in Lookup) {
	out := []netip.Prefix{}
	for _, h := range c.held.of(in.Ident) {
		if in.Subnet.IsValid() && !in.Subnet.Contains(h.CIDR.Addr()) {
			continue
		}
		out = append(out, h.CIDR)
	}
	c.reply(Reply{ID: in.ID, CIDRs: out})
}

func (c *Core) list(in List) {
	c.reply(Reply{ID: in.ID, Holdings: c.held.all()})
}

func (c *Core) free(in Free) {
	if !in.Addr.IsValid() {
		if len(c.held.of(in.Ident)) == 0 {
			c.fail(in.ID, Fault("Delete: no addresses for "+in.Ident))
			return
		}
		c.releaseAll(in.Ident)
		c.reply(Reply{ID: in.ID})
		return
	}
	h, there := c.held.get(in.Addr, c.inRange(in.Addr))
	if !there || h.Ident != in.Ident {
		c.fail(in.ID, Fault(fmt.Sprintf("Unable to free: Free: address %s not found for %s", in.Addr, in.Ident)))
		return
	}
	c.release(in.Addr)
	c.reply(Reply{ID: in.ID})
}

func (c *Core) releaseAll(ident string) {
	for _, h := range c.held.of(ident) {
		c.release(h.CIDR.Addr())
	}
}

func (c *Core) cancel(id ReqID) {
	c.dropRequests(func(r *request) bool { return r.id == id }, ErrCancelled)
	c.cancelRemoval(id)
	if c.work.hand != nil && c.work.hand.id == id {
		c.work.hand = nil
		c.fail(id, ErrCancelled)
	}
}

func (c *Core) dropRequests(which func(*request) bool, f Fault) {
	c.work.pending = slices.DeleteFunc(c.work.pending, func(r *request) bool {
		if !which(r) {
			return false
		}
		c.fail(r.id, f)
		c.out.stale = true
		return true
	})
}

// died keeps what the container has for a while, and ends what it waits for.
func (c *Core) died(ident string) {
	c.dropRequests(func(r *request) bool { return r.hold.Container && r.hold.Ident == ident }, ErrCancelled)
	for _, h := range c.held.of(ident) {
		if h.Container {
			c.held.dying[ident] = c.now.Add(holdTime)
			return
		}
	}
}

func (c *Core) gone(ident string) {
	c.dropRequests(func(r *request) bool { return r.hold.Container && r.hold.Ident == ident }, ErrCancelled)
	for _, h := range c.held.of(ident) {
		if h.Container {
			c.release(h.CIDR.Addr())
		}
	}
}

func (c *Core) expireDead() {
	for ident, at := range c.held.dying {
		if !c.now.Before(at) {
			delete(c.held.dying, ident)
			c.gone(ident)
		}
	}
}

// dueAt is when waiting work is to be looked at again.
func (w *work) dueAt() time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, h := range w.hunts {
		sooner(h.dueAt())
	}
	if w.hand != nil {
		sooner(w.hand.next)
	}
	return next
}
