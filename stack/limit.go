package stack

import "sync/atomic"

// PortLimits keep what is behind one local port from taking all there is of the table and of everybody's attention. Zero is no
// limit. What goes to known addresses and to known members of groups is not limited.
type PortLimits struct {
	MACs       int32  // MACs learnt behind the port; frames from others are forwarded, and frames to those flooded
	Broadcasts uint32 // frames a second that are for everybody, or for a MAC that is not known
	Multicasts uint32 // frames a second for a group of which no members are known
}

// meter counts what a port flooded in the current second.
type meter [2]window

// What a meter tells apart.
const (
	broadcasts = iota
	multicasts
)

// window counts in one second: Stamp(32) | count(32).
type window struct{ atomic.Uint64 }

// take reports whether one more is within the limit. Seconds begin with the clock's, so that up to twice the limit may come at
// once.
func (w *window) take(now Stamp, limit uint32) bool {
	for {
		was := w.Load()
		if Stamp(was>>32) == now {
			return uint32(was) < limit && uint32(w.Add(1)) <= limit
		}
		if w.CompareAndSwap(was, uint64(now)<<32|1) {
			return true
		}
	}
}

// meters are those of the ports so far, with a new one for the port that changes.
func (s *Switch) meters(kinds []PortKind, p Port) []*meter {
	if s.limits.Broadcasts == 0 && s.limits.Multicasts == 0 {
		return nil
	}
	next := make([]*meter, len(kinds))
	copy(next, s.plan.Load().meters)
	next[p] = nil
	if kinds[p] == Local {
		next[p] = new(meter)
	}
	return next
}

// flood forwards to all ports of an outlet that a frame from this one may go to, if that is within its limits.
func (s *Switch) flood(to *outlet, p *plan, now Stamp, in Port, what int) Verdict {
	limit := s.limits.Broadcasts
	if what == multicasts {
		limit = s.limits.Multicasts
	}
	if limit > 0 && int(in) < len(p.meters) && p.meters[in] != nil && !p.meters[in][what].take(now, limit) {
		return s.drop(DropStorm)
	}
	return s.spread(to.from(in, p.kind(in)), Flood, DropNoPort)
}

// macsBehind is how many MACs are learnt behind a port of this kind; 0 is any number.
func (s *Switch) macsBehind(kind PortKind) int32 {
	if kind == Local {
		return s.limits.MACs
	}
	return 0
}
