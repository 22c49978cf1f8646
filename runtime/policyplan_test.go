package runtime

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// look is a packet, as rules see it.
type look struct {
	from, to netip.Addr
	proto    uint8
	port     uint16
}

// walker asks rules about a packet, and counts how many it had to ask.
type walker struct {
	policy *Policy
	plan   PolicyPlan
	look   look
	asked  int
}

func (w *walker) inside(side int, a netip.Addr) bool {
	if side == NoSide {
		return true
	}
	if side >= len(w.policy.Sides) {
		return slices.ContainsFunc(w.plan.Unions[side-len(w.policy.Sides)], func(s int) bool { return w.inside(s, a) })
	}
	s := w.policy.Sides[side]
	return s.Any || slices.Contains(w.policy.Members[side], a) || slices.ContainsFunc(s.Nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (w *walker) matches(i int) bool {
	w.asked++
	r := &w.policy.Rules[i]
	service := len(r.Protos) == 0 || slices.Contains(r.Protos, w.look.proto)
	if len(r.Ports) > 0 {
		service = service && slices.ContainsFunc(r.Ports, func(p PortRange) bool { return p.First <= w.look.port && w.look.port <= p.Last })
	}
	return service && w.inside(r.From, w.look.from) && w.inside(r.To, w.look.to)
}

// walk goes by the plan.
func (w *walker) walk(parts []PolicyPart) int {
	for _, p := range parts {
		w.asked++
		if !w.inside(p.From, w.look.from) || !w.inside(p.To, w.look.to) {
			continue
		}
		for _, l := range p.Leaves {
			if l.Proto == w.look.proto && l.Ports.First <= w.look.port && w.look.port <= l.Ports.Last {
				if r := w.walk(l.Parts); r >= 0 {
					return r
				}
			}
		}
		for _, r := range p.Rules {
			if w.matches(r) {
				return r
			}
		}
	}
	return -1
}

// first tries all rules.
func (w *walker) first() int {
	for i := range w.policy.Rules {
		if w.matches(i) {
			return i
		}
	}
	return -1
}

func planAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// drawPolicy draws one of up to some hundred rules, which are alike as those of people are.
func drawPolicy(t *rapid.T) *Policy {
	p := &Policy{Sides: []Side{{Any: true}, {Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.8/29")}}}, Members: [][]netip.Addr{nil, nil}}
	for range rapid.IntRange(1, 40).Draw(t, "sides") {
		var members []netip.Addr
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 40), 0, 4).Draw(t, "members") {
			members = append(members, planAddr(i))
		}
		p.Sides, p.Members = append(p.Sides, Side{Living: true}), append(p.Members, members)
	}
	like := rapid.IntRange(0, 3).Draw(t, "rules are alike")
	side := rapid.IntRange(0, len(p.Sides)-1)
	for i := range rapid.SampledFrom([]int{5, 60, 300}).Draw(t, "rules") {
		r := PolicyRule{Text: fmt.Sprint("rule ", i), Allow: i%3 > 0, From: max(side.Draw(t, "from"), min(like, 2)), To: side.Draw(t, "to")}
		if like != 1 && rapid.IntRange(0, 9).Draw(t, "has a service") > 0 {
			r.Protos = rapid.SampledFrom([][]uint8{{6}, {17}, {6, 17}, {1}, {47, 6}, {6}}).Draw(t, "protocols")
		}
		if len(r.Protos) > 0 && !slices.ContainsFunc(r.Protos, func(p uint8) bool { return !HasPorts(p) }) {
			for range rapid.IntRange(0, 3).Draw(t, "ranges") {
				first := rapid.IntRange(1, 400).Draw(t, "port")
				r.Ports = append(r.Ports, PortRange{uint16(first), uint16(first + rapid.SampledFrom([]int{0, 0, 1, 30, 65000}).Draw(t, "more"))})
			}
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

func TestPlanFindsTheFirstMatch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &walker{policy: drawPolicy(rt)}
		w.plan = PlanPolicy(w.policy)
		for range 60 {
			w.look = look{
				from: planAddr(rapid.IntRange(0, 45).Draw(rt, "src")), to: planAddr(rapid.IntRange(0, 45).Draw(rt, "dst")),
				proto: rapid.SampledFrom([]uint8{6, 17, 1, 47, 50}).Draw(rt, "proto"),
			}
			if HasPorts(w.look.proto) {
				w.look.port = uint16(rapid.SampledFrom([]int{0, 1, 2, 30, 31, 200, 399, 400, 65535}).Draw(rt, "dport"))
			}
			if got, want := w.walk(w.plan.Parts), w.first(); got != want {
				rt.Fatalf("%v: rule %d, want %d; plan %+v", w.look, got, want, w.plan)
			}
		}
	})
}

// A thousand rules cost no packet a thousand looks, however they differ; and a rule that is put before all others leaves most of a plan.
func TestPlanSparesLooks(t *testing.T) {
	kinds := map[string]func(r *PolicyRule, i int){
		"by port": func(r *PolicyRule, i int) {
			r.Protos, r.Ports = []uint8{6}, []PortRange{{uint16(1000 + i), uint16(1000 + i)}}
		},
		"by group":            func(r *PolicyRule, i int) { r.Protos, r.Ports = []uint8{6}, []PortRange{{443, 443}} },
		"by group, all ports": func(*PolicyRule, int) {},
		"few ports": func(r *PolicyRule, i int) {
			r.From, r.To, r.Protos, r.Ports = 0, 0, []uint8{6, 17}, []PortRange{{uint16(i % 50), uint16(i % 50)}}
		},
	}
	for name, kind := range kinds {
		p := &Policy{Sides: []Side{{Any: true}}, Members: [][]netip.Addr{nil}}
		for i := range 1000 {
			p.Sides, p.Members = append(p.Sides, Side{Living: true}), append(p.Members, []netip.Addr{planAddr(i)})
			r := PolicyRule{Text: fmt.Sprint("rule ", i), From: 1 + i, To: 1 + (7*i+1)%1000}
			kind(&r, i)
			p.Rules = append(p.Rules, r)
		}
		w := &walker{policy: p, plan: PlanPolicy(p)}
		worst := 0
		for i := range 1000 {
			w.look, w.asked = look{planAddr(i), planAddr((i * 11) % 1000), 6, uint16(1000 + (i*3)%1000)}, 0
			if i%2 == 0 {
				w.look.port = 443
			}
			w.walk(w.plan.Parts)
			worst = max(worst, w.asked)
		}
		if worst > 150 {
			t.Errorf("%s: a packet needs %d looks", name, worst)
		}
		before := leavesOf(w.plan.Parts, map[string]bool{}, p)
		first := PolicyRule{Text: "first", From: 1, To: 2}
		kind(&first, 17)
		p.Rules = append([]PolicyRule{first}, p.Rules...)
		after, fresh := leavesOf(PlanPolicy(p).Parts, map[string]bool{}, p), 0
		for l := range after {
			if !before[l] {
				fresh++
			}
		}
		if fresh > 4 && fresh > len(after)/5 {
			t.Errorf("%s: %d of %d runs of rules are others after one more rule", name, fresh, len(after))
		}
	}
}

// leavesOf collects the runs of rules of a plan.
func leavesOf(parts []PolicyPart, into map[string]bool, p *Policy) map[string]bool {
	for _, part := range parts {
		text := ""
		for _, r := range part.Rules {
			text += p.Rules[r].Text + "\n"
		}
		if text != "" {
			into[text] = true
		}
		for _, l := range part.Leaves {
			leavesOf(l.Parts, into, p)
		}
	}
	return into
}
