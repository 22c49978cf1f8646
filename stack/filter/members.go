package filter

import (
	"net/netip"
	"slices"
)

// Endpoint is something with addresses. It is not changed.
type Endpoint struct {
	ID       string
	Peer     string // the name of the host's peer
	Nickname string // of the same
	Names    []string
	Labels   map[string]string
	Addrs    []netip.Addr
}

// Change says that an operand of the policy has one address more, or less.
type Change struct {
	Operand int
	Addr    netip.Addr
	Added   bool
}

// Members says which known addresses the operands of a policy have. It has one user at a time.
type Members struct {
	doc    *Document
	byID   map[string]*member
	byAddr map[netip.Addr]*holders
	living []int // operands in which endpoints come and go
}

// member is an endpoint with the operands that each of its addresses is in.
type member struct {
	Endpoint
	in []bits // by index of Addrs
}

// holders is who has an address: more than one while it moves.
type holders struct {
	list []*member
	in   bits // what any of them is in
}

// bits is a set of operands. It is not changed.
type bits []uint64

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]>>(i%64)&1 == 1 }

// NewMembers knows of nobody.
func NewMembers(d *Document) *Members {
	m := &Members{doc: d, byID: map[string]*member{}, byAddr: map[netip.Addr]*holders{}}
	for i := range d.Operands {
		if d.Operands[i].Living() {
			m.living = append(m.living, i)
		}
	}
	return m
}

// Put makes an endpoint known, or says what it is now.
func (m *Members) Put(e Endpoint) []Change {
	n := &member{Endpoint: e}
	for _, a := range e.Addrs {
		n.in = append(n.in, m.within(&n.Endpoint, a))
	}
	was := m.byID[e.ID]
	m.byID[e.ID] = n
	return m.replace(was, n)
}

// Remove forgets an endpoint.
func (m *Members) Remove(id string) []Change {
	was := m.byID[id]
	delete(m.byID, id)
	return m.replace(was, nil)
}

// within tells which operands an endpoint is in with one of its addresses. Subnets alone are left to Operand.Nets.
func (m *Members) within(e *Endpoint, a netip.Addr) bits {
	var b bits
	for _, i := range m.living {
		for t := range m.doc.Operands[i].Terms {
			term := &m.doc.Operands[i].Terms[t]
			if !term.OnlySubnets() && term.matches(e, a) {
				if b == nil {
					b = make(bits, (len(m.doc.Operands)+63)/64)
				}
				b[i/64] |= 1 << (i % 64)
				break
			}
		}
	}
	return b
}

// replace puts one state of an endpoint in another's place and says what that changes.
func (m *Members) replace(was, now *member) []Change {
	var touched []netip.Addr
	if was != nil {
		for _, a := range was.Addrs {
			touched = append(touched, a)
			if h := m.byAddr[a]; h != nil {
				h.list = slices.DeleteFunc(h.list, func(x *member) bool { return x == was })
			}
		}
	}
	if now != nil {
		for _, a := range now.Addrs {
			if !slices.Contains(touched, a) {
				touched = append(touched, a)
			}
			if m.byAddr[a] == nil {
				m.byAddr[a] = &holders{}
			}
			if h := m.byAddr[a]; !slices.Contains(h.list, now) {
				h.list = append(h.list, now)
			}
		}
	}
	var out []Change
	for _, a := range touched {
		out = m.refresh(a, out)
	}
	return out
}

// refresh computes anew what an address is in.
func (m *Members) refresh(a netip.Addr, out []Change) []Change {
	h := m.byAddr[a]
	if h == nil {
		return out
	}
	next := make(bits, (len(m.doc.Operands)+63)/64)
	for _, x := range h.list {
		if i := slices.Index(x.Addrs, a); i >= 0 {
			for w, v := range x.in[i] {
				next[w] |= v
			}
		}
	}
	for _, i := range m.living {
		if had, has := h.in.has(i), next.has(i); had != has {
			out = append(out, Change{i, a, has})
		}
	}
	if h.in = next; len(h.list) == 0 {
		delete(m.byAddr, a)
	}
	return out
}

// Of lists the known addresses of an operand, sorted.
func (m *Members) Of(operand int) []netip.Addr {
	var out []netip.Addr
	for a, h := range m.byAddr {
		if h.in.has(operand) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// snapshot is for a Filter: it is not changed later.
func (m *Members) snapshot() map[netip.Addr]bits {
	out := make(map[netip.Addr]bits, len(m.byAddr))
	for a, h := range m.byAddr {
		out[a] = h.in
	}
	return out
}

// matches tells whether all that a term has holds of an endpoint with an address.
func (t *Term) matches(e *Endpoint, a netip.Addr) bool {
	if len(t.Names) > 0 && !anyGlob(t.Names, e.Names...) {
		return false
	}
	if len(t.Peers) > 0 && !anyGlob(t.Peers, e.Peer, e.Nickname) {
		return false
	}
	for _, l := range t.Labels {
		if v, there := e.Labels[l.Key]; !there || !glob(l.Value, v) {
			return false
		}
	}
	return len(t.Subnets) == 0 || contains(t.Subnets, a)
}

func contains(nets []netip.Prefix, a netip.Addr) bool {
	for _, s := range nets {
		if s.Contains(a) {
			return true
		}
	}
	return false
}

func anyGlob(patterns []string, texts ...string) bool {
	for _, p := range patterns {
		for _, t := range texts {
			if t != "" && glob(p, t) {
				return true
			}
		}
	}
	return false
}

// glob matches a text as a whole: * is any run of characters, ? is one byte. It goes back to the latest * only, which is enough.
func glob(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// All lists the known addresses of each operand.
func (m *Members) All() [][]netip.Addr {
	out := make([][]netip.Addr, len(m.doc.Operands))
	for a, h := range m.byAddr {
		for _, i := range m.living {
			if h.in.has(i) {
				out[i] = append(out[i], a)
			}
		}
	}
	return out
}
