package filter

import (
	"net/netip"
	"slices"
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
	for g := range m.doc.Groups {
		if slices.ContainsFunc(m.doc.Groups[g].Terms, func(t Term) bool { return m.meant(&t, a) }) {
			out = append(out, m.doc.Groups[g].Name)
		}
	}
	return out
}

// meant tells whether a term is about an address.
func (m *Members) meant(t *Term, a netip.Addr) bool {
	if t.OnlySubnets() {
		return contains(t.Subnets, a)
	}
	h := m.byAddr[a]
	return h != nil && slices.ContainsFunc(h.list, func(x *member) bool { return t.matches(&x.Endpoint, a) })
}

// Size counts the known addresses in a group.
func (m *Members) Size(group int) int {
	n := 0
	for a := range m.byAddr {
		for t := range m.doc.Groups[group].Terms {
			if m.meant(&m.doc.Groups[group].Terms[t], a) {
				n++
				break
			}
		}
	}
	return n
}
