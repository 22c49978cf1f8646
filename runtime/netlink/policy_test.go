package netlink

import (
	"fmt"
	"net/netip"
	"testing"

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

func TestDebugPrefix(t *testing.T) {
	h := host(t)
	h.policy = samplePolicy()
	h.service = netip.MustParseAddr("169.254.1.1")
	whole := h.policyBatch(tableSeen{})
	for i := 1; i <= len(whole.messages); i++ {
		b := &batch{table: whole.table}
		b.messages = append(b.messages, h.policyBatch(tableSeen{}).messages[:i]...)
		b.delTable()
		if err := h.commit(b); err != nil {
			m := whole.messages[i-1]
			t.Fatalf("%d of %d, kind %d: %v\n%x %q", i, len(whole.messages), m.Header.Type&0xff, err, m.Data, m.Data)
		}
	}
	_ = unix.AF_INET
	fmt.Println("ok")
}
