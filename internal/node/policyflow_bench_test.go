package node

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weave/runtime/netlink"
	"weave/stack/filter"
)

// BenchmarkNewFlow sends first packets of flows over a bridge, of which the last of so many rules decides; each is denied, so that nothing is remembered.
func BenchmarkNewFlow(b *testing.B) {
	for _, kind := range []string{"ports", "groups"} {
		for _, rules := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%d by %s", rules, kind), func(b *testing.B) {
				h, err := netlink.Open(netlink.Config{Namespace: inNamespace(b, func() error {
					return ignoreMissing(os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("0"), 0))
				})}, nil)
				if err != nil {
					b.Fatal(err)
				}
				defer h.Close()
				if err := h.EnsureBridge(); err != nil {
					b.Fatal(err)
				}
				from, to := openEnd(b, h, "10.0.0.1/24"), openEnd(b, h, "10.0.0.2/24")
				var text strings.Builder
				for i := range rules {
					port := 80
					if kind == "ports" {
						port = 1000 + i
					}
					fmt.Fprintf(&text, "group g%d name c%d\nallow g%d -> g%d tcp %d\n", i, i, i, (7*i+1)%rules, port)
				}
				doc, err := filter.Parse(text.String() + "default deny\n")
				if err != nil {
					b.Fatal(err)
				}
				members := filter.NewMembers(doc)
				for i := range rules {
					members.Put(filter.Endpoint{ID: fmt.Sprint(i), Names: []string{fmt.Sprint("c", i)}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}})
				}
				if err := h.SetPolicy(kernelPolicy(doc, members)); err != nil {
					b.Fatal(err)
				}
				frame := tcpFrame(from, to, "10.0.0.1", "10.0.0.2", 999, 80, 2)
				for b.Loop() {
					if _, err := unix.Write(from.fd, frame); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
