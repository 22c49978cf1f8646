package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"weave/peer"
)

// View is what users see of the allocator. It is never written again.
type View struct {
	Status    string // one of Weave Net's
	Range     netip.Prefix
	Paxos     *PaxosView // nil unless the first ring is being decided
	Segments  []SegmentView
	HasRing   bool
	Active    int    // addresses held here, those outside the range included
	LocalUsed int    // of the range, and ours
	Owned     uint64 // addresses
	Pending   []PendingView
	Strays    []StrayView
	Faults    []string // what we disagree about with others
	Removed   []string // peers whose space has an heir
	Counters  Counters
}

// PaxosView is how far the first ring is.
type PaxosView struct {
	Elector       bool
	Known, Quorum int
}

// SegmentView is a part of the ring and its owner.
type SegmentView struct {
	Start    netip.Addr
	Size     uint64
	Owner    peer.Name
	Nickname string
	Near     bool // can be reached
	Version  uint32
}

// PendingView is a request that waits.
type PendingView struct {
	Claim  bool
	Ident  string
	CIDR   netip.Prefix // invalid for prime
	Reason string
}

// StrayView is an address in use here that is another peer's.
type StrayView struct {
	Holding
	Owner  string
	Reason string // why it does not give it to us; "" = not known yet
}

func (c *Core) view() *View {
	v := &View{
		Range: c.cfg.Range, HasRing: c.ring != nil, Active: c.held.len(), LocalUsed: c.space.inUse, Owned: c.space.size,
		Counters: c.out.count,
	}
	if c.ring != nil && c.out.table == nil {
		c.out.table = c.segmentViews()
	}
	v.Segments = c.out.table
	for _, r := range c.work.pending {
		p := PendingView{Claim: r.kind == kindClaim, Ident: r.hold.Ident, Reason: r.reason}
		if r.kind != kindPrime {
			p.CIDR = r.hold.CIDR
		}
		v.Pending = append(v.Pending, p)
	}
	for a, r := range c.work.strays {
		s := StrayView{Holding: r.hold, Reason: r.reason}
		if o, known := ownerAt(c.segs, toUint(a)); known {
			s.Owner = c.label(o.Owner.Name)
		}
		v.Strays = append(v.Strays, s)
	}
	slices.SortFunc(v.Strays, func(x, y StrayView) int { return x.CIDR.Addr().Compare(y.CIDR.Addr()) })
	for n, f := range c.world.faults {
		v.Faults = append(v.Faults, c.label(n)+": "+f)
	}
	slices.Sort(v.Faults)
	if c.ring != nil {
		for gone := range c.ring.tombs {
			v.Removed = append(v.Removed, fmt.Sprintf("%s (heir: %s)", c.label(gone.Name), c.label(c.ring.Heir(gone).Name)))
		}
		slices.Sort(v.Removed)
	}
	v.Status, v.Paxos = c.status()
	return v
}

func (c *Core) segmentViews() []SegmentView {
	out := make([]SegmentView, len(c.segs))
	for i, s := range c.segs {
		out[i] = SegmentView{
			Start: toAddr(s.Start), Size: s.Size(), Owner: s.Owner.Name, Nickname: c.world.nicks[s.Owner.Name],
			Near: c.isNear(s.Owner.Name), Version: s.Version,
		}
	}
	return out
}

// status says how the allocator is, in Weave Net's words.
func (c *Core) status() (string, *PaxosView) {
	waits := len(c.work.pending) > 0
	if c.ring == nil {
		d := c.decrees[Member{}]
		switch {
		case c.cfg.Init.Mode == InitObserver && waits:
			return "priming", &PaxosView{}
		case c.cfg.Init.Mode != InitObserver && d != nil && (waits || len(d.votes) > 0):
			return fmt.Sprintf("awaiting consensus (quorum: %d, known: %d)", c.quorum(), len(d.votes)),
				&PaxosView{Elector: true, Known: len(d.votes), Quorum: c.quorum()}
		}
		return "idle", nil
	}
	if slices.ContainsFunc(c.work.pending, func(r *request) bool { return r.kind == kindAllocate }) {
		others := 0
		for _, n := range c.owners() {
			if n != c.cfg.Name && c.isNear(n) {
				others++
			}
		}
		if others == 0 && len(c.owners()) > 1 {
			return "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead", nil
		}
		return "waiting for IP(s) to become available", nil
	}
	return "ready", nil
}

// Reasons tells what the requests of an ident wait for.
func (v *View) Reasons(ident string) []string {
	var out []string
	for _, p := range v.Pending {
		if p.Ident == ident && p.Reason != "" && !slices.Contains(out, p.Reason) {
			out = append(out, p.Reason)
		}
	}
	return out
}
