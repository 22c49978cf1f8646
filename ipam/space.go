package ipam

import (
	"math/bits"
	"net/netip"
	"slices"
)

// space is the addresses that are ours by the ring, and which of all addresses
// of the range are held here.
type space struct {
	own    []span // sorted, apart from each other
	size   uint64 // of own
	held   bitmap
	inUse  int // of held, those in own
	ranges span
}

// setOwn replaces what is ours.
func (s *space) setOwn(own []span) {
	s.own, s.size, s.inUse = own, 0, 0
	for _, o := range own {
		s.size += o.size()
		s.inUse += s.held.count(o)
	}
}

func (s *space) owns(a uint32) bool {
	i, _ := slices.BinarySearchFunc(s.own, a, func(o span, a uint32) int {
		switch {
		case o.last < a:
			return -1
		case o.first > a:
			return 1
		}
		return 0
	})
	return i < len(s.own) && s.own[i].has(a)
}

func (s *space) add(a uint32) {
	if !s.held.has(a) && s.owns(a) {
		s.inUse++
	}
	s.held.add(a)
}

func (s *space) remove(a uint32) {
	if s.held.has(a) && s.owns(a) {
		s.inUse--
	}
	s.held.remove(a)
}

// free is the number of our addresses that nobody holds.
func (s *space) free() uint64 { return s.size - uint64(s.inUse) }

// hosts are the addresses of a subnet that can be given to somebody: all but
// the first, its name, and the last, its broadcast address.
func hosts(subnet netip.Prefix) span {
	s := spanOf(subnet)
	return span{s.first + 1, s.last - 1}
}

// lowest is the lowest free address of ours in the subnet.
func (s *space) lowest(subnet netip.Prefix) (uint32, bool) {
	in := hosts(subnet)
	for _, o := range s.own {
		if m, some := o.meet(in); some {
			if a, found := s.held.next(m.first, m.last, false); found {
				return a, true
			}
		}
	}
	return 0, false
}

// gaps lists the free runs of our space within s.
func (s *space) gaps(within span) []span {
	var out []span
	for _, o := range s.own {
		m, some := o.meet(within)
		for some {
			first, found := s.held.next(m.first, m.last, false)
			if !found {
				break
			}
			end, more := s.held.next(first, m.last, true)
			if !more {
				out = append(out, span{first, m.last})
				break
			}
			out = append(out, span{first, end - 1})
			m.first = end
		}
	}
	return out
}

// spare is what we give away to a peer that needs addresses in the subnet: the
// largest free block on CIDR borders, but at most half of what is free there,
// and one address at least; of several the last, since we use the first
// ourselves. It contains an address that the subnet can give to somebody.
func (s *space) spare(subnet netip.Prefix) (span, bool) {
	useful := hosts(subnet)
	gaps := s.gaps(spanOf(subnet))
	var free uint64
	for _, g := range gaps {
		if m, some := g.meet(useful); some {
			free += m.size()
		}
	}
	if free == 0 {
		return span{}, false
	}
	limit := uint64(1) << (bits.Len64(max(free/2, 1)) - 1)
	var best span
	for _, g := range gaps {
		b := lastBlock(g, limit)
		if _, some := b.meet(useful); !some {
			m, any := g.meet(useful)
			if !any {
				continue
			}
			b = lastBlock(m, limit)
		}
		if best == (span{}) || b.size() >= best.size() {
			best = b
		}
	}
	return best, true
}

// lastBlock is the largest block in g on CIDR borders with at most limit
// addresses, a power of two, and of those the last.
func lastBlock(g span, limit uint64) span {
	for size := limit; ; size /= 2 {
		end := (uint64(g.last) + 1) / size * size
		if end >= size && end-size >= uint64(g.first) {
			return span{uint32(end - size), uint32(end - 1)}
		}
	}
}
