package filter

import (
	"maps"
	"net/netip"
	"sync/atomic"
)

// Count is how often something was decided.
type Count struct{ Packets, Bytes atomic.Uint64 }

func (c *Count) add(bytes int) {
	c.Packets.Add(1)
	c.Bytes.Add(uint64(bytes))
}

// Names of what is counted besides rules.
const (
	CountDefault = "default"   // what no rule is about
	CountOther   = "other"     // neither IP nor ARP
	CountTagged  = "tagged"    // with a VLAN tag
	CountBroken  = "malformed" // IP that cannot be read
	CountPieces  = "fragments" // pieces whose first one did not pass

	// CountUntracked is not of packets that were judged: there were too many flows to remember these, or others had to go for them.
	CountUntracked = "untracked"
)

// CountNames lists them.
var CountNames = []string{CountDefault, CountOther, CountTagged, CountPieces, CountBroken, CountUntracked}

// Counts are the counters of all policies so far: a rule that stays keeps its count. It has one user at a time.
type Counts struct{ byName map[string]*Count }

// NewCounts has counted nothing.
func NewCounts() *Counts { return &Counts{map[string]*Count{}} }

// Of gives the counter of a rule's text, or of one of the names above.
func (c *Counts) Of(name string) *Count {
	if c.byName[name] == nil {
		c.byName[name] = &Count{}
	}
	return c.byName[name]
}

// Filter is a policy that packets are held against.
type Filter struct {
	fallback Action
	rules    []compiled
	operands []side
	index    *index // nil: there would be too much of it, and rules are tried one by one
	known    map[netip.Addr]*holder
	service  netip.Addr
	flows    *Flows
	gen      uint32
	forbids  bool // a rule, or nothing but the default, may forbid what it did not as members come
	counts   struct{ fallback, other, tagged, broken, pieces *Count }
}

// compiled is a rule with its counter.
type compiled struct {
	*Rule
	count *Count
}

// side is an operand: addresses that are known to be in it have its bit.
type side struct {
	any  bool
	nets []netip.Prefix
}

// holder is what a known address is in. It is not changed.
type holder struct {
	in    bits
	class *class // by the index
}

// New makes a filter. service is where this host serves names to its containers, invalid if it does not.
func New(d *Document, m *Members, service netip.Addr, flows *Flows, counts *Counts) *Filter {
	f := &Filter{fallback: d.Default, index: newIndex(d), service: service, flows: flows, gen: flows.gen.Add(1) & genMask, forbids: d.Default == Allow}
	for i := range d.Operands {
		f.operands = append(f.operands, side{d.Operands[i].Any, d.Operands[i].Nets()})
	}
	for i := range d.Rules {
		f.rules = append(f.rules, compiled{&d.Rules[i], counts.Of(d.RuleText(i))})
		f.forbids = f.forbids || d.Rules[i].Action == Deny
	}
	f.counts.fallback, f.counts.other = counts.Of(CountDefault), counts.Of(CountOther)
	f.counts.tagged, f.counts.broken, f.counts.pieces = counts.Of(CountTagged), counts.Of(CountBroken), counts.Of(CountPieces)
	f.known = make(map[netip.Addr]*holder, len(m.byAddr))
	for a, h := range m.byAddr {
		f.known[a] = f.holder(h.in)
	}
	return f
}

// With is the same filter after changes of its members, for the one that makes filters. Flows are judged anew unless none of the changes can
// have forbidden one: more members of rules that allow do not.
func (f *Filter) With(m *Members, changes []Change) *Filter {
	n := *f
	n.known = maps.Clone(f.known)
	again := f.forbids
	for _, c := range changes {
		again = again || !c.Added
		if h := m.byAddr[c.Addr]; h != nil {
			n.known[c.Addr] = n.holder(h.in)
		} else {
			delete(n.known, c.Addr)
		}
	}
	if again {
		n.gen = f.flows.gen.Add(1) & genMask
	}
	return &n
}

func (f *Filter) holder(in bits) *holder {
	h := &holder{in: in, class: nobody}
	if f.index != nil {
		h.class = f.index.class(in)
	}
	return h
}

// Judge tells whether a frame may go on. Of a super-frame, or a frame in parts, the headers are enough; size is that of all of it.
func (f *Filter) Judge(now Stamp, frame []byte, size int) bool {
	p := parse(frame)
	switch p.kind {
	case kindPass:
		return true
	case kindTagged:
		f.counts.tagged.add(size)
		return false
	case kindBroken:
		f.counts.broken.add(size)
		return false
	case kindOther:
		f.counts.other.add(size)
		return f.fallback == Allow
	case kindPiece:
		if _, state := f.flows.find(now, f.flows.pieceTag(&p)); state != 0 {
			return true
		}
		f.counts.pieces.add(size)
		return false
	case kindICMPErr:
		if p.about.src == p.tuple.dst && (f.fresh(now, p.about) || f.fresh(now, p.about.reverse())) {
			return true
		}
	case kindPacket:
	}
	if !f.passes(now, &p, size) {
		return false
	}
	if p.first {
		f.flows.put(now, f.flows.pieceTag(&p), flowState(now+FlowPieces, false, f.gen))
	}
	return true
}

// passes judges a packet whose ports are known.
func (f *Filter) passes(now Stamp, p *packet, size int) bool {
	t := &p.tuple
	tag := f.flows.tag(*t)
	slot, state := f.flows.find(now, tag)
	if slot != nil && uint32(state)&genMask == f.gen {
		f.renew(now, slot, state, p)
		return true
	}
	if f.isService(t) {
		return true
	}
	if pass, known := f.answer(now, p); known {
		return pass
	}
	rule := f.decide(t)
	count, action := f.counts.fallback, f.fallback
	if rule != nil {
		count, action = rule.count, rule.Action
	}
	count.add(size)
	if action == Deny {
		return false
	}
	if slot != nil { // allowed before, and again
		f.renew(now, slot, state, p)
		return true
	}
	if p.begins() {
		f.flows.put(now, tag, flowState(now+p.patience(), false, f.gen))
	}
	return true
}

// patience is how long a flow is remembered for its first packet alone.
func (p *packet) patience() Stamp {
	switch {
	case p.tuple.proto != protoTCP:
		return FlowOnce
	case p.flags&tcpSYN != 0:
		return FlowAsked
	}
	return FlowNew
}

// renew notes a packet of a known flow. It writes once a second at most, while nothing changes. A flow that has ended is judged anew by
// what follows; of a segment in pieces nobody looks at that.
func (f *Filter) renew(now Stamp, slot *flowSlot, state uint64, p *packet) {
	closing, gen := state&closingBit != 0, f.gen
	until := now + FlowNew
	if p.tuple.proto == protoTCP {
		switch {
		case p.ends() && p.first && uint32(state)&genMask == f.gen:
			return
		case p.ends():
			closing, gen = true, 0
		case p.flags&tcpSYN != 0:
			closing = false
		}
		switch {
		case closing:
			until = now + FlowClosed
		case p.flags&tcpSYN == 0:
			until = now + FlowTCP
		default:
			until = now + FlowAsked
		}
	}
	if next := flowState(until, closing, gen); next != state {
		slot.state.Store(next)
	}
}

// fresh tells whether a flow was allowed since the last change.
func (f *Filter) fresh(now Stamp, t tuple) bool {
	slot, state := f.flows.find(now, f.flows.tag(t))
	return slot != nil && uint32(state)&genMask == f.gen
}

// answer judges what answers a flow, by the flow: if that is not allowed any more, it is forgotten.
func (f *Filter) answer(now Stamp, p *packet) (pass, known bool) {
	t := p.tuple.reverse()
	slot, state := f.flows.find(now, f.flows.tag(t))
	if slot == nil {
		return false, false
	}
	stale := uint32(state)&genMask != f.gen
	if stale {
		rule := f.decide(&t)
		if rule == nil && f.fallback == Deny || rule != nil && rule.Action == Deny {
			slot.state.Store(0)
			return false, true
		}
	}
	next := state
	switch {
	case !p.ends():
		next = state&^genMask | uint64(f.gen)
	case stale || !p.first: // the other end has ended it
		next = flowState(min(now+FlowClosed, expiry(state)), true, 0)
	}
	if next != state {
		slot.state.Store(next)
	}
	return true, true
}

// isService tells a question for names, or the answer.
func (f *Filter) isService(t *tuple) bool {
	if t.proto != protoUDP && t.proto != protoTCP || !f.service.IsValid() {
		return false
	}
	return t.dport == 53 && t.dst == f.service || t.sport == 53 && t.src == f.service
}

// strangers are addresses that nobody is known to have.
var strangers = &holder{class: nobody}

// decide finds the rule for a packet, nil if there is none.
func (f *Filter) decide(t *tuple) *compiled {
	from, to := f.known[t.src], f.known[t.dst]
	if from == nil {
		from = strangers
	}
	if to == nil {
		to = strangers
	}
	if f.index == nil {
		return f.search(t, from.in, to.in)
	}
	if i := f.index.first(t, from.class, to.class); i >= 0 {
		return &f.rules[i]
	}
	return nil
}

// search tries rules one by one.
func (f *Filter) search(t *tuple, from, to bits) *compiled {
	for i := range f.rules {
		r := &f.rules[i]
		if !r.Has(t.proto) || len(r.Ports) > 0 && !r.HasPort(t.dport) {
			continue
		}
		if f.within(r.From, from, t.src) && f.within(r.To, to, t.dst) {
			return r
		}
	}
	return nil
}

func (f *Filter) within(operand int, known bits, a netip.Addr) bool {
	s := &f.operands[operand]
	return s.any || known.has(operand) || contains(s.nets, a)
}
