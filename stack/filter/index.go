package filter

import (
	"cmp"
	mathbits "math/bits"
	"net/netip"
	"slices"
)

// index finds the first rule that matches without trying them one by one: for each part of a packet there is the set of rules that this
// part could be of, and the first rule in all three sets is the one (Lakshman and Stiliadis, "High-speed policy-based packet forwarding
// using efficient multi-dimensional range matching", SIGCOMM 1998). It has one builder and is not changed then, but for classes, which only
// the builder knows.
type index struct {
	words    int // of a set of rules
	operands int
	byFrom   []bits // by operand: rules that have it as one side
	byTo     []bits
	services [256]portSets // by protocol, ICMP of both families as 1
	v4, v6   []netSets     // sorted; what they say holds up to the next one
	classes  map[string]*class
}

// portSets are sets of rules by destination port; starts[0] is 0.
type portSets struct {
	starts []uint32
	rules  []bits
}

// netSets are the rules that an address could be of by subnets, or as one of everybody.
type netSets struct {
	start    netip.Addr
	from, to bits
}

// class is rules that a known address could be of as one of groups.
type class struct{ from, to bits }

const (
	// indexWords bounds an index, in words of eight bytes. A policy that needs more is looked through rule by rule.
	indexWords = 1 << 20
	// maxClasses are remembered, so that addresses of the same groups share one.
	maxClasses = 4096
)

// newIndex is nil for a policy that would need too large a one.
func newIndex(d *Document) *index {
	x := &index{words: (len(d.Rules) + 63) / 64, operands: len(d.Operands), classes: map[string]*class{}}
	edges, nets := 0, 0
	for i := range d.Rules {
		edges += 2 * max(1, len(d.Rules[i].Ports)) * len(d.Rules[i].Protos)
	}
	for i := range d.Operands {
		nets += 4 * len(d.Operands[i].Nets())
	}
	if (edges+nets+2*len(d.Operands))*x.words > indexWords {
		return nil
	}
	x.byFrom, x.byTo = make([]bits, len(d.Operands)), make([]bits, len(d.Operands))
	for i := range d.Operands {
		x.byFrom[i], x.byTo[i] = make(bits, x.words), make(bits, x.words)
	}
	for i := range d.Rules {
		x.byFrom[d.Rules[i].From].set(i)
		x.byTo[d.Rules[i].To].set(i)
	}
	x.addServices(d)
	x.v4 = x.addNets(d, netip.IPv4Unspecified())
	x.v6 = x.addNets(d, netip.IPv6Unspecified())
	return x
}

func (b bits) set(i int)   { b[i/64] |= 1 << (i % 64) }
func (b bits) unset(i int) { b[i/64] &^= 1 << (i % 64) }

// add makes b the union with another set of no more words.
func (b bits) add(other bits) {
	for w, v := range other {
		b[w] |= v
	}
}

// portEdge is where a rule begins or ceases to be about ports.
type portEdge struct {
	port  uint32
	rule  int
	count int // 1 or -1
}

func (x *index) addServices(d *Document) {
	always := make(bits, x.words) // whatever the protocol
	var edges [256][]portEdge
	for i := range d.Rules {
		r := &d.Rules[i]
		if len(r.Protos) == 0 {
			always.set(i)
		}
		ranges := r.Ports
		if len(ranges) == 0 {
			ranges = []Ports{{0, 1<<16 - 1}}
		}
		for _, p := range r.Protos {
			for _, ports := range ranges {
				edges[p] = append(edges[p], portEdge{uint32(ports.First), i, 1}, portEdge{uint32(ports.Last) + 1, i, -1})
			}
		}
	}
	for p := range edges {
		x.services[p] = sweep(edges[p], always)
	}
}

// sweep goes through the edges of a protocol by port.
func sweep(edges []portEdge, always bits) portSets {
	out := portSets{[]uint32{0}, []bits{always}}
	slices.SortFunc(edges, func(a, b portEdge) int { return cmp.Compare(a.port, b.port) })
	now, ranges := slices.Clone(always), map[int]int{}
	for i := 0; i < len(edges); {
		port := edges[i].port
		for ; i < len(edges) && edges[i].port == port; i++ {
			e := edges[i]
			if ranges[e.rule] += e.count; ranges[e.rule] > 0 {
				now.set(e.rule)
			} else {
				now.unset(e.rule)
			}
		}
		if port == 0 {
			out.rules[0] = slices.Clone(now)
		} else {
			out.starts, out.rules = append(out.starts, port), append(out.rules, slices.Clone(now))
		}
	}
	return out
}

// addNets makes the list of a family, from its lowest address on. Subnets are either in each other or apart.
func (x *index) addNets(d *Document, lowest netip.Addr) []netSets {
	type net struct {
		netip.Prefix
		operand int
	}
	base := netSets{start: lowest, from: make(bits, x.words), to: make(bits, x.words)}
	var nets []net
	for i := range d.Operands {
		if d.Operands[i].Any {
			base.from.add(x.byFrom[i])
			base.to.add(x.byTo[i])
		}
		for _, p := range d.Operands[i].Nets() {
			if p.Addr().Is4() == lowest.Is4() {
				nets = append(nets, net{p, i})
			}
		}
	}
	slices.SortFunc(nets, func(a, b net) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	out := []netSets{base}
	var open []net // those that the place in the list is in
	mark := func(at netip.Addr) {
		if !at.IsValid() { // behind the highest
			return
		}
		next := netSets{start: at, from: slices.Clone(base.from), to: slices.Clone(base.to)}
		for _, n := range open {
			next.from.add(x.byFrom[n.operand])
			next.to.add(x.byTo[n.operand])
		}
		if out[len(out)-1].start == at {
			out[len(out)-1] = next
		} else {
			out = append(out, next)
		}
	}
	leave := func(before func(end netip.Addr) bool) {
		for len(open) > 0 {
			end := highest(open[len(open)-1].Prefix)
			if !before(end) {
				return
			}
			open = open[:len(open)-1]
			mark(end.Next())
		}
	}
	for _, n := range nets {
		leave(func(end netip.Addr) bool { return end.Less(n.Addr()) })
		open = append(open, n)
		mark(n.Addr())
	}
	leave(func(netip.Addr) bool { return true })
	return out
}

// highest is the last address of a subnet.
func highest(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// class is that of the operands that an address is in; nil for one that is in none.
func (x *index) class(in bits) *class {
	var key []byte
	for _, w := range in {
		for range 8 {
			key = append(key, byte(w))
			w >>= 8
		}
	}
	if c, ok := x.classes[string(key)]; ok {
		return c
	}
	c := &class{make(bits, x.words), make(bits, x.words)}
	for w, set := range in {
		for ; set != 0; set &= set - 1 {
			if i := 64*w + mathbits.TrailingZeros64(set); i < x.operands { // groups stand behind them
				c.from.add(x.byFrom[i])
				c.to.add(x.byTo[i])
			}
		}
	}
	if len(x.classes) >= maxClasses { // of times gone by, most of them
		clear(x.classes)
	}
	x.classes[string(key)] = c
	return c
}

// nobody is the class of unknown addresses.
var nobody = &class{}

// first gives the number of the first rule for a packet between addresses of these classes, -1 if there is none.
func (x *index) first(t *tuple, from, to *class) int {
	proto := t.proto
	if proto == protoICMPv6 {
		proto = protoICMP
	}
	service := x.services[proto].at(t.dport, hasPorts(proto))
	src, dst := x.subnet(t.src), x.subnet(t.dst)
	for w, rules := range service {
		f, g := src.from[w], dst.to[w]
		if w < len(from.from) {
			f |= from.from[w]
		}
		if w < len(to.to) {
			g |= to.to[w]
		}
		if rules &= f & g; rules != 0 {
			return 64*w + mathbits.TrailingZeros64(rules)
		}
	}
	return -1
}

// at finds the rules about a port; protocols without ports have them all at 0.
func (s *portSets) at(port uint16, has bool) bits {
	if !has || len(s.starts) == 1 {
		return s.rules[0]
	}
	low, high := 0, len(s.starts) // the last that does not begin behind the port
	for high-low > 1 {
		if middle := (low + high) / 2; s.starts[middle] <= uint32(port) {
			low = middle
		} else {
			high = middle
		}
	}
	return s.rules[low]
}

func (x *index) subnet(a netip.Addr) *netSets {
	list := x.v6
	if a.Is4() {
		list = x.v4
	}
	low, high := 0, len(list)
	for high-low > 1 {
		if middle := (low + high) / 2; list[middle].start.Compare(a) <= 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return &list[low]
}
