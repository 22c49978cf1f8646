package netlink

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// contents is what the kernel shows of a policy's table: rules of each chain in their order, and elements of each set.
func contents(t *testing.T, h *Host) string {
	t.Helper()
	rules := map[string][]string{}
	must(t, h.dump(h.policyTable(), unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, func(ad *mnl.AttributeDecoder) {
		chain, what := "", ""
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_RULE_CHAIN:
				chain = ad.String()
			case unix.NFTA_RULE_EXPRESSIONS:
				what = fmt.Sprintf("%x", ad.Bytes())
			}
		}
		rules[chain] = append(rules[chain], what)
	}))
	var out []string
	for chain, list := range rules {
		out = append(out, chain+": "+strings.Join(list, "\n    "))
	}
	seen, err := h.lookAtTable(h.policyTable())
	must(t, err)
	slices.Sort(seen.counters)
	out = append(out, "counters: "+strings.Join(seen.counters, " "))
	for _, set := range seen.sets {
		out = append(out, set+": "+strings.Join(elementsOf(t, h, set), " "))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func elementsOf(t *testing.T, h *Host, set string) []string {
	t.Helper()
	conn, err := h.nftConn()
	must(t, err)
	defer conn.Close()
	b := &batch{table: h.policyTable()}
	b.add(unix.NFT_MSG_GETSETELEM, mnl.Dump, func(a *attrs) {
		a.text(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
		a.text(unix.NFTA_SET_ELEM_LIST_SET, set)
	})
	got, err := conn.Execute(b.messages[0])
	must(t, err)
	var out []string
	for _, m := range got {
		ad, err := mnl.NewAttributeDecoder(m.Data[4:])
		must(t, err)
		for ad.Next() {
			if ad.Type() == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				ad.Nested(func(in *mnl.AttributeDecoder) error {
					for in.Next() {
						out = append(out, fmt.Sprintf("%x", in.Bytes()))
					}
					return nil
				})
			}
		}
	}
	slices.Sort(out)
	return out
}

// shuffled makes a policy that has most of what another has, so that a plan has maps, unions and runs that stay.
func shuffled(rng *rand.Rand, last *runtime.Policy) *runtime.Policy {
	p := &runtime.Policy{Allow: rng.IntN(2) == 0, Sides: []runtime.Side{{Text: "*", Any: true}}, Members: [][]netip.Addr{nil}}
	for i := range 40 {
		s := runtime.Side{Text: fmt.Sprint("g", i), Living: true}
		if i%9 == 0 {
			for k := range 1 + rng.IntN(5) {
				s.Nets = append(s.Nets, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(2 * k), 0}), 24))
			}
		}
		var members []netip.Addr
		for range rng.IntN(3) {
			members = append(members, netip.AddrFrom4([4]byte{10, 200, 0, byte(rng.IntN(60))}), netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(rng.IntN(60))}))
		}
		slices.SortFunc(members, netip.Addr.Compare)
		p.Sides, p.Members = append(p.Sides, s), append(p.Members, slices.Compact(members))
	}
	rule := func(i int) runtime.PolicyRule {
		r := runtime.PolicyRule{Text: fmt.Sprint("rule ", i), Allow: i%3 > 0, From: i % 41, To: (i * 7) % 41}
		if i < 500 { // what it says follows from its text
			r.Protos, r.Ports = []uint8{6, 17}[:1+i%2], []runtime.PortRange{{First: uint16(i), Last: uint16(i + i%5)}}
		} else if i%50 == 0 {
			r.Protos = []uint8{1, 47}
		}
		return r
	}
	if last != nil {
		p.Rules = slices.Clone(last.Rules)
	}
	for range 1 + rng.IntN(5) {
		if n := len(p.Rules); n > 0 {
			at := rng.IntN(n)
			p.Rules = slices.Delete(p.Rules, at, at+1)
		}
	}
	for len(p.Rules) < 150 {
		p.Rules = slices.Insert(p.Rules, rng.IntN(len(p.Rules)+1), rule(rng.IntN(1000)))
	}
	slices.SortStableFunc(p.Rules, func(a, b runtime.PolicyRule) int { return len(b.Ports) - len(a.Ports) }) // those with ports first
	return p
}

// Policies and members applied one after the other leave what the last one written from the ground up leaves, and what others do to the
// table is noticed and mended.
func TestPolicyDifferences(t *testing.T) {
	h := host(t)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var last *runtime.Policy
	kinds := map[string]int{}
	planOf := func(p *runtime.Policy) runtime.PolicyPlan {
		if h.plain {
			return runtime.PlainPlan(p)
		}
		return runtime.PlanPolicy(p)
	}
	for step := range 18 {
		last = shuffled(rng, last)
		h.plain = step/6 == 1 // as for an old kernel, and back
		plan := planOf(last)
		must(t, h.SetPolicy(last))
		for range rng.IntN(4) {
			c := runtime.PolicyChange{Side: 1 + rng.IntN(40), Addr: netip.AddrFrom4([4]byte{10, 200, 0, byte(rng.IntN(60))})}
			c.Added = !slices.Contains(h.policy.Members[c.Side], c.Addr)
			must(t, h.ChangeMembers([]runtime.PolicyChange{c}))
		}
		if ok, err := h.policyIntact(); err != nil || !ok {
			seen, _ := h.lookAtTable(h.policyTable())
			t.Fatalf("step %d: %v: the table is not as it was written: %+v", step, err, seen.shape())
		}
		if step%6 == 5 { // some of it is gone, and the next change may meet that
			breakTable(t, h, rng)
			if ok, err := h.policyIntact(); err != nil || ok {
				t.Fatalf("step %d: nobody notices that the table is broken: %v", step, err)
			}
			if step%4 == 1 {
				last = shuffled(rng, last)
				must(t, h.SetPolicy(last))
			}
			must(t, h.keepRules())
			plan = planOf(h.policy)
		}
		kinds["unions"] += len(plan.Unions)
		for _, p := range plan.Parts {
			kinds["leaves"] += len(p.Leaves)
		}
		changed := strings.Split(contents(t, h), "\n")
		seen, err := h.lookAtTable(h.policyTable())
		must(t, err)
		must(t, h.wholePlan(seen, plan))
		again := strings.Split(contents(t, h), "\n")
		for i := range max(len(changed), len(again)) {
			if i >= len(changed) || i >= len(again) || changed[i] != again[i] {
				t.Fatalf("step %d: of the table that grew there is\n%s\nand made anew\n%s", step, changed[min(i, len(changed)-1)], again[min(i, len(again)-1)])
			}
		}
	}
	if kinds["unions"] == 0 || kinds["leaves"] == 0 {
		t.Errorf("a poor test: plans have %v", kinds)
	}
}

// breakTable takes something out of the table as others could.
func breakTable(t *testing.T, h *Host, rng *rand.Rand) {
	t.Helper()
	b := &batch{table: h.policyTable()}
	if rng.IntN(2) == 0 {
		b.flushRules("known4")
	} else {
		for name := range h.written.chains {
			if strings.HasPrefix(name, "run4") || name == "rules4" { // a plain plan has no runs
				b.flushRules(name)
				break
			}
		}
	}
	must(t, h.commit(b))
}
