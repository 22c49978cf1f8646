package node

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"weave/internal/store"
	"weave/peer"
	"weave/policy"
	"weave/runtime/netlink"
	"weave/stack/filter"
)

// BenchmarkPolicyOfThousands is all that a host does about a new policy of a thousand rules, and about one of a thousand containers
// that changes, the kernel's part with it.
func BenchmarkPolicyOfThousands(b *testing.B) {
	h, err := netlink.Open(netlink.Config{Namespace: inNamespace(b, func() error { return nil })}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	if err := h.EnsureBridge(); err != nil {
		b.Fatal(err)
	}
	st, err := store.Open(filepath.Join(b.TempDir(), "db"))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	self := peer.Name{1}
	l := &policyLoop{
		n: &node{bridge: h, store: st, memory: memory{name: self}, loops: loops{mesh: &meshLoop{in: make(chan peer.Input, 1)}}}, log: slog.New(slog.DiscardHandler), core: policy.New(policy.Config{Name: self, Rand: rand.NewPCG(1, 2)}),
		ends: map[endKey]policy.Endpoint{}, nicks: map[peer.Name]string{}, dirty: map[peer.Name]bool{}, user: policyUser{counts: filter.NewCounts()},
	}
	var list []policy.Endpoint
	for i := range 1000 {
		list = append(list, policy.Endpoint{
			ID: fmt.Sprint(i), Names: []string{fmt.Sprint("c", i), fmt.Sprint("c", i, ".weave.local")},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})},
		})
	}
	l.step(policy.Own{Endpoints: list})
	b.Run("one rule changes", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			var text strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&text, "group g%d name c%d\nallow g%d -> g%d tcp %d\n", i, i, i, (7*i+1)%1000, 1000+i)
				if i == n%1000 {
					fmt.Fprintf(&text, "deny g%d -> * udp %d\n", i, 1+n)
				}
			}
			l.step(policy.Set{Text: text.String() + "default deny\n"})
			if l.fault != "" {
				b.Fatal(l.fault)
			}
		}
	})
	b.Run("new policy", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			var text strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&text, "group g%d name c%d\nallow g%d -> g%d tcp %d\n", i, i, i, (7*i+1)%1000, 1000+i+n%2)
			}
			l.step(policy.Set{Text: text.String() + "default deny\n"})
			if l.fault != "" {
				b.Fatal(l.fault)
			}
		}
	})
	b.Run("one container changes", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			list[n%1000].Names = []string{fmt.Sprint("c", n%1000), fmt.Sprint("c", (n+1)%1000), fmt.Sprint(n)}
			l.step(policy.Own{Endpoints: list})
			if l.fault != "" {
				b.Fatal(l.fault)
			}
		}
	})
}
