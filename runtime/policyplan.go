package runtime

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// PolicyPlan is the rules of a policy in an order of looks that spares most of them. Whoever walks it finds the same first match as whoever
// tries all rules in their order: parts come in the order of their rules, and what a part keeps a packet from cannot match it. A rule may stand
// in several leaves; each of its looks asks all that the rule says.
type PolicyPlan struct {
	Unions [][]int // further sides, numbered behind Policy.Sides: whoever is on one of these
	Parts  []PolicyPart
}

// PolicyPart is a run of rules. From and To are sides outside of which nobody need look, NoSide if there is none such.
type PolicyPart struct {
	From, To int
	Rules    []int        // in their order; behind Leaves those that are about every packet
	Leaves   []PolicyLeaf // by service; a packet needs one of them at most
}

// PolicyLeaf is what packets to some ports of a protocol look at. Ports of protocols without them are 0.
type PolicyLeaf struct {
	Proto uint8
	Ports PortRange
	Parts []PolicyPart // without leaves
}

// NoSide is the side of everybody, in a part.
const NoSide = -1

const (
	planRun   = 32 // so many rules may be looked at one by one
	planLeaf  = 8  // from so many rules on a leaf may end
	planWide  = 4  // rules about nearly every packet in a part with leaves, each of which has them
	planCopy  = 3  // times as many rules as the policy has may stand in leaves
	wideRange = 1 << 14
)

// PlanPolicy makes a plan. It depends on the policy, and in how it keeps packets from parts also on how many its members are at the moment;
// what has changed a little has a plan that has.
func PlanPolicy(p *Policy) PolicyPlan {
	pl := &planner{policy: p, known: map[string]int{}}
	for _, m := range p.Members {
		pl.members += len(m)
	}
	pl.spare = planCopy*pl.members + 8192
	var plain []int // rules that are not led by service, since the last that are
	flush := func() {
		pl.plan.Parts = append(pl.plan.Parts, pl.blocks(plain)...)
		plain = nil
	}
	for at := 0; at < len(p.Rules); {
		end := pl.stretch(at)
		if leaves, wide, ok := pl.leaves(at, end); ok {
			flush()
			pl.plan.Parts = append(pl.plan.Parts, PolicyPart{From: NoSide, To: NoSide, Rules: wide, Leaves: leaves})
		} else {
			for ; at < end; at++ {
				plain = append(plain, at)
			}
		}
		at = end
	}
	flush()
	return pl.plan
}

// PlainPlan is that of looking at all rules in their order.
func PlainPlan(p *Policy) PolicyPlan {
	one := PolicyPart{From: NoSide, To: NoSide}
	for i := range p.Rules {
		one.Rules = append(one.Rules, i)
	}
	return PolicyPlan{Parts: []PolicyPart{one}}
}

type planner struct {
	policy  *Policy
	plan    PolicyPlan
	known   map[string]int // unions by their sides
	members int
	spare   int // members that unions may still have
}

// stretch finds where rules that may be led by service end.
func (pl *planner) stretch(at int) int {
	wide := 0
	for ; at < len(pl.policy.Rules); at++ {
		if pl.policy.Rules[at].wide() {
			if wide++; wide > planWide {
				return at
			}
		}
	}
	return at
}

// wide tells that a rule is about nearly every packet.
func (r *PolicyRule) wide() bool {
	if len(r.Protos) == 0 {
		return true
	}
	total := 0
	for _, p := range r.Ports {
		total += int(p.Last-p.First) + 1
	}
	return total > wideRange || len(r.Ports) == 0 && slices.ContainsFunc(r.Protos, HasPorts)
}

// HasPorts tells which protocols have ports, at the same place: RFC 9293, RFC 768, RFC 9260.
func HasPorts(proto uint8) bool { return proto == 6 || proto == 17 || proto == 132 }

// leaves leads packets to rules by service; not ok: it does not pay.
func (pl *planner) leaves(at, end int) (leaves []PolicyLeaf, wide []int, ok bool) {
	if end-at <= planRun {
		return nil, nil, false
	}
	var protos []uint8
	for i := at; i < end; i++ {
		r := &pl.policy.Rules[i]
		if len(r.Protos) == 0 {
			wide = append(wide, i)
		}
		for _, p := range r.Protos {
			if !slices.Contains(protos, p) {
				protos = append(protos, p)
			}
		}
	}
	slices.Sort(protos)
	total := 0
	for _, p := range protos {
		for _, l := range pl.cut(p, at, end) {
			total += len(l.rules)
			leaves = append(leaves, PolicyLeaf{Proto: p, Ports: l.ports, Parts: pl.blocks(l.rules)})
		}
	}
	if total > planCopy*(end-at)+planRun {
		return nil, nil, false
	}
	return leaves, wide, true
}

// span is rules that ports of a protocol have in common, or a few more.
type span struct {
	ports PortRange
	rules []int // sorted
}

// edge is where a rule begins or ends to be about ports.
type edge struct {
	port, rule int
	begins     bool
}

// cut makes spans of all ports that rules of a protocol are about.
func (pl *planner) cut(proto uint8, at, end int) []span {
	edges, general := pl.edges(proto, at, end)
	var out []span
	active := map[int]int{}
	for i := 0; i < len(edges); {
		port := edges[i].port
		for ; i < len(edges) && edges[i].port == port; i++ {
			if e := edges[i]; e.begins {
				active[e.rule]++
			} else if active[e.rule]--; active[e.rule] == 0 {
				delete(active, e.rule)
			}
		}
		if len(active) == 0 {
			continue
		}
		one := span{PortRange{uint16(port), uint16(edges[i].port - 1)}, nil} // whatever is active ends
		for r := range active {
			one.rules = append(one.rules, r)
		}
		out = join(out, one)
	}
	for i := range out {
		out[i].rules = merged(out[i].rules, general)
	}
	return out
}

// edges lists them by port, and the rules that are about every protocol.
func (pl *planner) edges(proto uint8, at, end int) (edges []edge, general []int) {
	for i := at; i < end; i++ {
		r := &pl.policy.Rules[i]
		switch {
		case len(r.Protos) == 0:
			general = append(general, i)
		case !slices.Contains(r.Protos, proto):
		case !HasPorts(proto):
			edges = append(edges, edge{0, i, true}, edge{1, i, false})
		case len(r.Ports) == 0:
			edges = append(edges, edge{0, i, true}, edge{1 << 16, i, false})
		default:
			for _, p := range r.Ports {
				edges = append(edges, edge{int(p.First), i, true}, edge{int(p.Last) + 1, i, false})
			}
		}
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Compare(a.port, b.port) })
	return edges, general
}

// join puts a span behind others, or makes it part of the last one, with the ports in between. Where one ends does not depend on what was
// before it, most times, so that a change is one of few spans.
func join(list []span, one span) []span {
	slices.Sort(one.rules)
	if n := len(list); n > 0 {
		last := &list[n-1]
		all := merged(last.rules, one.rules)
		full := len(last.rules) >= planLeaf && scatter([]byte{byte(one.ports.First >> 8), byte(one.ports.First)})%planLeaf == 0
		if !full && len(all) <= planRun {
			last.ports.Last, last.rules = one.ports.Last, all
			return list
		}
	}
	return append(list, one)
}

// merged is the union of two sorted lists.
func merged(a, b []int) []int {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// scatter is a hash. FNV's last step leaves little of the last byte in the low bits.
func scatter(b []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(b) // never fails, package hash
	return h.Sum32() >> 8
}

// blocks cuts a list of rules into parts, each with who may need to look at it.
func (pl *planner) blocks(list []int) []PolicyPart {
	if len(list) == 0 {
		return nil
	}
	if len(list) <= planRun {
		return []PolicyPart{{From: NoSide, To: NoSide, Rules: list}}
	}
	size := 16
	for size*size < len(list) {
		size *= 2
	}
	var out []PolicyPart
	for len(list) > 0 {
		n := 1
		for n < len(list) && n < 2*size && (n < size/2 || scatter([]byte(pl.policy.Rules[list[n]].Text))%uint32(size/2) != 0) {
			n++
		}
		part := PolicyPart{Rules: list[:n:n]}
		part.From = pl.union(part.Rules, func(r *PolicyRule) int { return r.From })
		part.To = pl.union(part.Rules, func(r *PolicyRule) int { return r.To })
		if k := len(out) - 1; part.From == NoSide && part.To == NoSide && k >= 0 && out[k].From == NoSide && out[k].To == NoSide {
			out[k].Rules = append(out[k].Rules, part.Rules...)
		} else {
			out = append(out, part)
		}
		list = list[n:]
	}
	return out
}

// union is a side for all whom rules are about, if it keeps most away.
func (pl *planner) union(rules []int, of func(*PolicyRule) int) int {
	var sides []int
	for _, i := range rules {
		s := of(&pl.policy.Rules[i])
		if pl.policy.Sides[s].Any {
			return NoSide
		}
		sides = append(sides, s)
	}
	slices.Sort(sides)
	sides = slices.Compact(sides)
	if len(sides) == 1 {
		return sides[0]
	}
	var key []byte
	count := 0
	for _, s := range sides {
		key = append(key, byte(s>>16), byte(s>>8), byte(s))
		if s < len(pl.policy.Members) {
			count += len(pl.policy.Members[s])
		}
	}
	if n, ok := pl.known[string(key)]; ok {
		return n
	}
	if count > pl.members/2 || count > pl.spare {
		return NoSide
	}
	pl.spare -= count
	n := len(pl.policy.Sides) + len(pl.plan.Unions)
	pl.plan.Unions = append(pl.plan.Unions, sides)
	pl.known[string(key)] = n
	return n
}
