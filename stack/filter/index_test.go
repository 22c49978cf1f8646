package filter

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawRules draws a policy of some hundred rules about a few addresses, ports and groups.
func drawRules(t *rapid.T) string {
	var b strings.Builder
	operands := []string{"*", "10.0.0.0/8,fd00::/16", "10.0.0.2", "10.0.0.0/30,10.0.1.0/24", "0.0.0.0/0", "255.255.255.255,fd00::2,::/0", "10.0.0.2/31,10.0.0.4/30"}
	for i := range 20 {
		fmt.Fprintf(&b, "group g%d name %s\n", i, rapid.SampledFrom([]string{"web-1", "web-*", "db", "d*,web-2", "x"}).Draw(t, "name"))
		operands = append(operands, fmt.Sprint("g", i), fmt.Sprintf("g%d,10.0.%d.0/24", i, i%3))
	}
	operand := rapid.SampledFrom(operands)
	service := rapid.SampledFrom([]string{"", "tcp", "tcp,udp 80", "udp 1-79,82", "icmp", "47", "tcp 80-81,80-90,65535", "sctp,tcp 81", "tcp 1-65535"})
	for range rapid.SampledFrom([]int{1, 64, 200}).Draw(t, "rules") {
		fmt.Fprintf(&b, "%s %s -> %s %s\n", rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "action"), operand.Draw(t, "from"), operand.Draw(t, "to"), service.Draw(t, "service"))
	}
	return b.String() + "default deny\n"
}

// plainly has a filter try its rules one by one.
func plainly(f *Filter) *Filter {
	f.index = nil
	return f
}

// The index finds the rule that a look at one after the other finds, also after changes of members one by one.
func TestIndexAgreesWithSearch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		doc, err := Parse(drawRules(rt))
		if err != nil {
			rt.Fatal(err)
		}
		m := NewMembers(doc)
		for _, e := range endpoints {
			m.Put(e)
		}
		flows, counts := NewFlows(maphash.MakeSeed()), NewCounts()
		f := New(doc, m, service, flows, counts)
		if f.index == nil {
			rt.Fatal("there is no index")
		}
		plain := plainly(New(doc, m, service, flows, counts))
		for range 40 {
			if rapid.IntRange(0, 9).Draw(rt, "what") == 0 {
				e := rapid.SampledFrom(endpoints).Draw(rt, "endpoint")
				e.Names = []string{rapid.SampledFrom([]string{"web-1", "db", "d2", "none"}).Draw(rt, "name")}
				e.Addrs = e.Addrs[:rapid.IntRange(0, len(e.Addrs)).Draw(rt, "addresses")]
				f = f.With(m, m.Put(e))
				plain = plainly(New(doc, m, service, flows, counts))
			}
			addrs := rapid.SampledFrom(list("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.8", "10.0.1.1", "9.255.255.255", "0.0.0.0", "255.255.255.255", "fd00::1", "fd00::2", "fd00::1:1", "::", "ffff::1"))
			packet := tuple{
				src: addrs.Draw(rt, "src"), dst: addrs.Draw(rt, "dst"), proto: rapid.SampledFrom([]uint8{protoTCP, protoUDP, protoSCTP, protoICMP, protoICMPv6, 47, 50}).Draw(rt, "protocol"),
				dport: rapid.SampledFrom([]uint16{0, 1, 2, 79, 80, 81, 82, 90, 91, 65534, 65535}).Draw(rt, "port"),
			}
			if got, want := f.decide(&packet), plain.decide(&packet); got != want && (got == nil || want == nil || got.Rule != want.Rule) {
				rt.Fatalf("%+v: %+v, want %+v", packet, got, want)
			}
		}
	})
}

// A policy whose index would take too much is looked through.
func TestWithoutIndex(t *testing.T) {
	var b strings.Builder
	for i := range 600 {
		fmt.Fprintf(&b, "allow * -> * tcp,udp,sctp ")
		for k := range 60 {
			fmt.Fprintf(&b, "%d,", 60*i+k+1)
		}
		b.WriteString("50000\n")
		if b.Len() > MaxText-1000 {
			break
		}
	}
	b.WriteString("default deny\n")
	doc, err := Parse(b.String())
	if err != nil {
		t.Fatal(err)
	}
	if newIndex(doc) != nil {
		t.Fatal("there is an index: a larger policy is needed")
	}
	f := New(doc, NewMembers(doc), service, NewFlows(maphash.MakeSeed()), NewCounts())
	if frame := tcp("10.0.0.1", "10.0.0.2", 1, 50000, tcpSYN); !f.Judge(1, frame, len(frame)) {
		t.Error("a policy without an index denies what it allows")
	}
}

// More members of rules that allow leave flows as they are.
func TestMembersThatAllow(t *testing.T) {
	for text, keeps := range map[string]bool{
		"group web name web-*\nallow web -> * tcp\ndefault deny\n":                    true,
		"group web name web-*\ndeny web -> * udp\nallow * -> * tcp\ndefault deny\n":   false,
		"group web name web-*\nallow web -> * tcp\nallow * -> * udp\ndefault allow\n": false,
	} {
		r := newRig(t, text)
		before := r.filter.gen
		late := Endpoint{ID: "late", Names: []string{"web-9"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}
		r.filter = r.filter.With(r.members, r.members.Put(late))
		if kept := r.filter.gen == before; kept != keeps {
			t.Errorf("%q: flows that were allowed need no look after one more member: %v", text, kept)
		}
		if !r.passes(tcp("10.0.0.9", "10.9.9.9", 1, 80, tcpSYN)) {
			t.Errorf("%q: the new member is not in its group", text)
		}
		r.filter = r.filter.With(r.members, r.members.Remove("late"))
		if r.filter.gen == before {
			t.Errorf("%q: flows need no look after a member is gone", text)
		}
	}
}
