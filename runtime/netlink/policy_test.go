package netlink

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func samplePolicy() *runtime.Policy {
	return &runtime.Policy{
		Sides: []runtime.Side{
			{Any: true}, {Living: true}, {Living: true, Nets: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16"), netip.MustParsePrefix("fd00::/64")}},
		},
		Members: [][]netip.Addr{nil, addrs("10.2.1.1", "fd01::1"), addrs("10.2.1.2")},
		Rules: []runtime.PolicyRule{
			{Text: "allow a", Allow: true, From: 1, To: 2, Protos: []uint8{6, 17}, Ports: []runtime.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8100}}},
			{Text: "deny b", From: 2, To: 1},
			{Text: "allow c", Allow: true, From: 0, To: 1, Protos: []uint8{1}},
		},
	}
}

// The table is made, changed and taken away at one stroke each: flows and counters of rules that stay outlive a change, and a table that
// somebody else made in its place is replaced.
func TestPolicyTable(t *testing.T) {
	h := host(t)
	must(t, h.SetPolicy(nil)) // there is none to take away
	must(t, h.SetPolicy(samplePolicy()))
	elements := func(set string) int {
		t.Helper()
		conn, err := h.netfilter()
		must(t, err)
		defer func() { _ = conn.CloseLasting() }()
		s, err := conn.GetSetByName(&nftables.Table{Name: h.policyTable(), Family: nftables.TableFamilyBridge}, set)
		must(t, err)
		list, err := conn.GetSetElements(s)
		must(t, err)
		return len(list)
	}
	if v4, v6 := elements("members4"), elements("members6"); v4 != 2 || v6 != 1 {
		t.Errorf("%d and %d members", v4, v6)
	}
	flow := &batch{table: h.policyTable()}
	flow.elements(unix.NFT_MSG_NEWSETELEM, "flows4", []element{{key: make([]byte, 20)}})
	flow.elements(unix.NFT_MSG_NEWSETELEM, "fast4", []element{{key: make([]byte, 20)}})
	must(t, h.commit(flow))
	must(t, h.ChangeMembers([]runtime.PolicyChange{{Side: 1, Addr: addrs("10.2.1.9")[0], Added: true}, {Side: 1, Addr: addrs("10.2.1.1")[0]}, {Side: 2, Addr: addrs("fd01::7")[0], Added: true}}))
	if v4, v6, fast := elements("members4"), elements("members6"), elements("fast4"); v4 != 2 || v6 != 2 || fast != 0 {
		t.Errorf("%d and %d members, %d flows that need no look", v4, v6, fast)
	}
	next := samplePolicy()
	next.Rules[1].Text, next.Allow = "deny other", true
	must(t, h.SetPolicy(next))
	if n := elements("flows4"); n != 1 {
		t.Errorf("%d flows are left after a change", n)
	}
	counts, err := h.PolicyCounts()
	must(t, err)
	if _, ok := counts["deny other"]; !ok || len(counts) != 3+6 {
		t.Errorf("counters %v", counts)
	}
	foreign := &batch{table: h.policyTable()}
	foreign.delTable()
	foreign.newTable()
	foreign.newSet(setSpec{name: "flows4", keyType: nftTypePort, keyLen: 2})
	must(t, h.commit(foreign))
	must(t, h.keepRules())
	if ok, err := h.policyIntact(); err != nil || !ok {
		t.Errorf("not made anew: %v", err)
	}
	must(t, h.ChangeMembers([]runtime.PolicyChange{{Side: 1, Addr: addrs("10.2.1.77")[0]}})) // who was no member
	must(t, h.Reset())
	if seen, err := h.lookAtTable(h.policyTable()); err != nil || seen.there {
		t.Errorf("reset left it: %v", err)
	}
}

func TestIntervals(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0 11.0.0.0)", "10.0.0.0/24 10.0.1.0/24 10.0.0.7/32": "10.0.0.0 10.0.2.0)", "10.0.4.0/24 10.0.0.0/24": "10.0.0.0 10.0.1.0) 10.0.4.0 10.0.5.0)",
		"0.0.0.0/0": "0.0.0.0", "255.255.255.255/32 1.1.1.1/32": "1.1.1.1 1.1.1.2) 255.255.255.255", "10.0.0.0/9 10.128.0.0/9 10.0.0.0/8": "10.0.0.0 11.0.0.0)",
	} {
		var nets []netip.Prefix
		for _, s := range strings.Fields(text) {
			nets = append(nets, netip.MustParsePrefix(s))
		}
		var got []string
		for _, e := range families[0].intervals(nets) {
			a, _ := netip.AddrFromSlice(e.key)
			got = append(got, a.String()+map[bool]string{true: ")"}[e.end])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}

// crowd is a policy of so many rules, each between two of as many groups of one member, and a tenth of them with ports for all.
func crowd(n int) *runtime.Policy {
	p := &runtime.Policy{}
	for i := range n {
		p.Sides = append(p.Sides, runtime.Side{Text: fmt.Sprint("g", i), Living: true})
		v4 := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		v6 := netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
		p.Members = append(p.Members, []netip.Addr{v4, v6})
		p.Rules = append(p.Rules, runtime.PolicyRule{
			Text: fmt.Sprint("rule ", i), Allow: true, From: i, To: (i*7 + 1) % n, Protos: []uint8{6}, Ports: []runtime.PortRange{{First: uint16(1000 + i), Last: uint16(1000 + i)}},
		})
	}
	return p
}

func BenchmarkPolicy(b *testing.B) {
	h, err := Open(Config{MAC: bridgeMAC, Namespace: newNamespace(b)}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	if err := h.EnsureBridge(); err != nil {
		b.Fatal(err)
	}
	b.Run("set 1000 rules", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			p := crowd(1000)
			p.Rules[i%1000].Text = fmt.Sprint("changed ", i)
			if err := h.SetPolicy(p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("change a member", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			c := runtime.PolicyChange{Side: 5, Addr: netip.AddrFrom4([4]byte{10, 200, 0, 1}), Added: i%2 == 0}
			if err := h.ChangeMembers([]runtime.PolicyChange{c}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read counters", func(b *testing.B) {
		for b.Loop() {
			if _, err := h.PolicyCounts(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
