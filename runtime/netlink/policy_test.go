package netlink

import (
	"fmt"
	"net/netip"
	"testing"

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

// crowd is a policy of so many rules, each between two of as many groups of one member, and a tenth of them with ports for all.
func crowd(n int) *runtime.Policy {
	p := &runtime.Policy{}
	for i := range n {
		p.Sides = append(p.Sides, runtime.Side{Living: true})
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
