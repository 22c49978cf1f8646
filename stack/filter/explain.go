package filter

import (
	mathbits "math/bits"
	"net/netip"
)

// Verdict is what a policy says of a first packet from one address to another, and why.
type Verdict struct {
	Action   Action
	Rule     int // index of Document.Rules; -1: the default
	From, To []string
}

// Explain tells what would be decided. proto 0 asks about a packet of no protocol in particular: rules with protocols do not match.
func (m *Members) Explain(from, to netip.Addr, proto uint8, port uint16) Verdict {
	v := Verdict{Action: m.doc.Default, Rule: -1, From: m.groupsOf(from), To: m.groupsOf(to)}
	for i := range m.doc.Rules {
		r := &m.doc.Rules[i]
		if !r.Has(proto) || !r.HasPort(port) || !m.inside(r.From, from) || !m.inside(r.To, to) {
			continue
		}
		v.Action, v.Rule = r.Action, i
		return v
	}
	return v
}

func (m *Members) inside(operand int, a netip.Addr) bool {
	o := &m.doc.Operands[operand]
	if o.Any || contains(o.Nets(), a) {
		return true
	}
	h := m.byAddr[a]
	return h != nil && h.in.has(operand)
}

// groupsOf lists the groups that an address is in, whether rules name them or not.
func (m *Members) groupsOf(a netip.Addr) []string {
	var out []string
	h := m.byAddr[a]
	for g := range m.doc.Groups {
		if h != nil && h.in.has(len(m.doc.Operands)+g) || contains(m.doc.Groups[g].nets(), a) {
			out = append(out, m.doc.Groups[g].Name)
		}
	}
	return out
}

// Sizes counts the known addresses in each group.
func (m *Members) Sizes() []int {
	out := make([]int, len(m.doc.Groups))
	nets := map[int][]netip.Prefix{} // of groups that have some
	for g := range out {
		if list := m.doc.Groups[g].nets(); len(list) > 0 {
			nets[g] = list
		}
	}
	first := len(m.doc.Operands)
	for a, h := range m.byAddr {
		for w, set := range h.in {
			for ; set != 0; set &= set - 1 {
				if g := 64*w + mathbits.TrailingZeros64(set) - first; g >= 0 {
					out[g]++
				}
			}
		}
		for g, list := range nets {
			if !h.in.has(first+g) && contains(list, a) {
				out[g]++
			}
		}
	}
	return out
}

// nets are the subnets of which every address is in the group.
func (g *Group) nets() []netip.Prefix { return Operand{Terms: g.Terms}.Nets() }
