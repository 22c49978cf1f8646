package filter

import (
	mathbits "math/bits"
	"net/netip"
	"slices"
	"strings"
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
	index  map[string][]termOf // by what an endpoint must have, see termKeys
	others []termOf            // about which nothing so simple can be said
}

// termOf is a term of a side.
type termOf struct {
	side int
	*Term
}

// member is an endpoint with the sides that each of its addresses is in.
type member struct {
	Endpoint
	in []bits // by index of Addrs
}

// holders is who has an address: more than one while it moves.
type holders struct {
	list []*member
	in   bits // what any of them is in
}

// bits is a set of sides: operands, and behind them groups. It is not changed.
type bits []uint64

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]>>(i%64)&1 == 1 }

// NewMembers knows of nobody.
func NewMembers(d *Document) *Members {
	m := &Members{doc: d, byID: map[string]*member{}, byAddr: map[netip.Addr]*holders{}, index: map[string][]termOf{}}
	for i := range d.Operands {
		m.enter(i, d.Operands[i].Terms)
	}
	for g := range d.Groups {
		m.enter(len(d.Operands)+g, d.Groups[g].Terms)
	}
	return m
}

// enter has terms looked at for a side: an operand, or behind those a group.
func (m *Members) enter(side int, terms []Term) {
	for t := range terms {
		one := termOf{side, &terms[t]}
		keys := termKeys(one.Term)
		for _, k := range keys {
			m.index[k] = append(m.index[k], one)
		}
		if len(keys) == 0 && !one.OnlySubnets() {
			m.others = append(m.others, one)
		}
	}
}

// sides is how many there are.
func (m *Members) sides() int { return len(m.doc.Operands) + len(m.doc.Groups) }

// termKeys gives texts of which whoever a term is about has one; none if that cannot be said.
func termKeys(t *Term) []string {
	plain := func(list []string, prefix string) (out []string) {
		for _, s := range list {
			if strings.ContainsAny(s, "*?") {
				return nil
			}
			out = append(out, prefix+s)
		}
		return out
	}
	if keys := plain(t.Names, "name "); keys != nil {
		return keys
	}
	for _, l := range t.Labels {
		if keys := plain([]string{l.Value}, "label "+l.Key+"="); keys != nil {
			return keys
		}
	}
	return plain(t.Peers, "peer ")
}

// candidates are the terms that may be about an endpoint; some may come twice.
func (m *Members) candidates(e *Endpoint) []termOf {
	out := slices.Clone(m.others)
	for _, n := range e.Names {
		out = append(out, m.index["name "+n]...)
	}
	for k, v := range e.Labels {
		out = append(out, m.index["label "+k+"="+v]...)
	}
	return append(append(out, m.index["peer "+e.Peer]...), m.index["peer "+e.Nickname]...)
}

// Put makes an endpoint known, or says what it is now.
func (m *Members) Put(e Endpoint) []Change {
	n := &member{Endpoint: e}
	candidates := m.candidates(&n.Endpoint)
	for _, a := range e.Addrs {
		n.in = append(n.in, m.within(&n.Endpoint, candidates, a))
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
func (m *Members) within(e *Endpoint, candidates []termOf, a netip.Addr) bits {
	var b bits
	for _, t := range candidates {
		if !b.has(t.side) && t.matches(e, a) {
			if b == nil {
				b = make(bits, (m.sides()+63)/64)
			}
			b[t.side/64] |= 1 << (t.side % 64)
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
	next := make(bits, (m.sides()+63)/64)
	for _, x := range h.list {
		if i := slices.Index(x.Addrs, a); i >= 0 {
			for w, v := range x.in[i] {
				next[w] |= v
			}
		}
	}
	for w := range next {
		var had uint64
		if w < len(h.in) {
			had = h.in[w]
		}
		for changed := had ^ next[w]; changed != 0; changed &= changed - 1 {
			if i := 64*w + mathbits.TrailingZeros64(changed); i < len(m.doc.Operands) {
				out = append(out, Change{i, a, next.has(i)})
			}
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
		for w, set := range h.in {
			for ; set != 0; set &= set - 1 {
				if i := 64*w + mathbits.TrailingZeros64(set); i < len(out) {
					out[i] = append(out[i], a)
				}
			}
		}
	}
	return out
}
