package dns

import (
	"net/netip"
	"strings"
	"testing"
)

func resolver() *Index {
	c := newCore(alice, 1)
	web := rec("Web.weave.local", "c1", "10.0.0.1")
	web.Services = []Service{{"http", "tcp", 80}}
	c.Step(start, Add{Records: []Record{
		web, rec("web.weave.local", "c1", "fd00::1"), rec("web.weave.local", "c2", "10.0.0.2"),
		rec("foo.sub.weave.local", "c3", "10.0.0.2"), rec("_odd._tcp.weave.local", "c3", "10.0.0.3"),
	}})
	return c.Index()
}

func TestResolve(t *testing.T) {
	x := resolver()
	for _, q := range []struct {
		name    string
		qtype   uint16
		verdict Verdict
		addrs   int // bytes
		pointer string
	}{
		{"web.weave.local", TypeA, Answered, 8, ""},
		{"web", TypeA, Answered, 8, ""},
		{"web.weave.local", TypeAAAA, Answered, 16, ""},
		{"foo.sub.weave.local", TypeAAAA, Nothing, 0, ""},
		{"web.weave.local", 15, Nothing, 0, ""},
		{"weave.local", 6, Nothing, 0, ""},
		{"nobody.weave.local", TypeA, Unknown, 0, ""},
		{"nobody", TypeAAAA, Unknown, 0, ""},
		{strings.Repeat("x", 63), TypeA, Unknown, 0, ""},
		{"_odd._tcp.weave.local", TypeA, Answered, 4, ""},
		{"_http._tcp.web.weave.local", TypeSRV, Answered, 0, ""},
		{"_80._tcp.web.weave.local", TypeSRV, Answered, 0, ""},
		{"_80._tcp.web.weave.local", TypeA, Nothing, 0, ""},
		{"_80._udp.web.weave.local", TypeSRV, Unknown, 0, ""},
		{"1.0.0.10.in-addr.arpa", TypePTR, Answered, 0, "Web.weave.local"},
		{"2.0.0.10.in-addr.arpa", TypePTR, Answered, 0, "foo.sub.weave.local"},
		{"1.0.0.10.in-addr.arpa", TypeA, Nothing, 0, ""},
		{"9.0.0.10.in-addr.arpa", TypePTR, Forward, 0, ""},
		{"9.0.0.10.in-addr.arpa", TypeA, Unknown, 0, ""},
		{"0.10.in-addr.arpa", TypePTR, Forward, 0, ""},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", TypePTR, Answered, 0, "web.weave.local"},
		{"example.com", TypeA, Forward, 0, ""},
		{"xweave.local", TypeA, Forward, 0, ""},
		{"", 2, Forward, 0, ""},
	} {
		a := x.Resolve(local, []byte(q.name), q.qtype)
		if a.Verdict != q.verdict || len(a.Addrs) != q.addrs || a.Pointer != q.pointer {
			t.Errorf("%s %d: %+v", q.name, q.qtype, a)
		}
	}
	a := x.Resolve(local, []byte("_http._tcp.web.weave.local"), TypeSRV)
	if len(a.Targets) != 1 || a.Targets[0] != (Target{"Web.weave.local", netip.MustParseAddr("10.0.0.1"), 80}) {
		t.Errorf("SRV: %+v", a.Targets)
	}
}

func TestResolveDoesNotAllocate(t *testing.T) {
	x, name := resolver(), []byte("web.weave.local")
	if n := testing.AllocsPerRun(100, func() { x.Resolve(local, name, TypeA) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
