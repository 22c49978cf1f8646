package stack

import (
	"fmt"
	"iter"
	"slices"
)

// PortSet is an immutable list of ports, each once, in no particular order. Local and remote ones are kept apart because what
// follows differs: a write to a TAP, or sealing for a peer. The slices must not be written to. A nil set is empty.
type PortSet struct {
	local, remote []Port
}

// Local gives the local ports.
func (s *PortSet) Local() []Port {
	if s == nil {
		return nil
	}
	return s.local
}

// Remote gives the ports that lead to peers.
func (s *PortSet) Remote() []Port {
	if s == nil {
		return nil
	}
	return s.remote
}

// Len is the number of ports.
func (s *PortSet) Len() int {
	if s == nil {
		return 0
	}
	return len(s.local) + len(s.remote)
}

// All walks the local ports, then the remote ones.
func (s *PortSet) All() iter.Seq[Port] {
	return func(yield func(Port) bool) {
		for _, p := range s.Local() {
			if !yield(p) {
				return
			}
		}
		for _, p := range s.Remote() {
			if !yield(p) {
				return
			}
		}
	}
}

// Contains says whether a port is in the set.
func (s *PortSet) Contains(p Port) bool {
	return slices.Contains(s.Local(), p) || slices.Contains(s.Remote(), p)
}

// outlet is a set of ports as seen from every port a frame may come from, made once, so that Decide only picks. The local ports
// are laid down twice in a row; "all but the i-th" is then one stretch of that, and n sets cost the memory of two.
//
//	locals a b c d a b c d
//	           └─from c─┘     = d a b
type outlet struct {
	locals []Port    // sorted, the first half of the double row
	inward PortSet   // from a remote port: the local ones
	whole  PortSet   // from a local port that is not in the set: all
	others []PortSet // from locals[i]: all but itself
}

// newOutlet takes the sorted ports of either kind; it keeps remotes, which must not change any more.
func newOutlet(locals, remotes []Port) *outlet {
	n := len(locals)
	row := slices.Concat(locals, locals)
	o := &outlet{
		locals: row[:n:n],
		inward: PortSet{local: row[:n:n]},
		whole:  PortSet{local: row[:n:n], remote: remotes},
		others: make([]PortSet, n),
	}
	for i := range o.others {
		o.others[i] = PortSet{local: row[i+1 : i+n : i+n], remote: remotes}
	}
	return o
}

// from gives the ports for a frame that came in at a port of this kind.
func (o *outlet) from(in Port, kind PortKind) *PortSet {
	if kind == Remote {
		return &o.inward
	}
	if i, found := slices.BinarySearch(o.locals, in); found {
		return &o.others[i]
	}
	return &o.whole
}

// plan is all that Decide reads besides the MAC table. It is never changed, only replaced.
type plan struct {
	kinds    []PortKind    // by port; 0 = no such port
	bypassed map[Port]bool // see Switch.Bypass
	flood    *outlet
	groups   *outlet // flood without what is bypassed
	segments map[segmentKey]*segment
}

// segment is what is known of multicast on one VLAN in one address family.
type segment struct {
	until   Stamp                 // groups may be relied on before, not from then on
	groups  map[groupAddr]*outlet // those that have members; what is not in here is flooded
	reports *outlet               // where reports go; nil: no router is known, so everywhere
}

func (p *plan) kind(port Port) PortKind {
	if int(port) >= len(p.kinds) {
		return 0
	}
	return p.kinds[port]
}

// newPlan lays out the ports, without segments.
func newPlan(kinds []PortKind, bypassed map[Port]bool) *plan {
	var locals, remotes, rest []Port
	for i, k := range kinds {
		switch k {
		case Local:
			locals = append(locals, Port(i))
		case Remote:
			remotes = append(remotes, Port(i))
			if !bypassed[Port(i)] {
				rest = append(rest, Port(i))
			}
		}
	}
	return &plan{
		kinds: kinds, bypassed: bypassed, flood: newOutlet(locals, remotes), groups: newOutlet(locals, rest),
		segments: map[segmentKey]*segment{},
	}
}

// pick makes an outlet of the ports for frames to groups that keep says belong in it.
func (p *plan) pick(keep func(Port, PortKind) bool) *outlet {
	var locals, remotes []Port
	for _, port := range p.flood.locals {
		if keep(port, Local) {
			locals = append(locals, port)
		}
	}
	for _, port := range p.groups.whole.remote {
		if keep(port, Remote) {
			remotes = append(remotes, port)
		}
	}
	return newOutlet(locals, remotes)
}

// check tells a broken invariant.
func (p *plan) check() error {
	for port := range p.bypassed {
		if p.kind(port) != Remote || p.groups.whole.Contains(port) {
			return fmt.Errorf("plan: port %d of kind %v is bypassed, and gets groups: %v", port, p.kind(port), p.groups.whole.Contains(port))
		}
	}
	for key, seg := range p.segments {
		for group, o := range seg.groups {
			for port := range o.whole.All() {
				if p.kind(port) == 0 || p.bypassed[port] {
					return fmt.Errorf("plan: segment %v group %v names port %d, which is gone or bypassed", key, group, port)
				}
			}
		}
	}
	return nil
}
