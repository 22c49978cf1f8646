package dns

import (
	"encoding/hex"
	"testing"
)

// golden is the message that goes out when a name is added.
const golden = "0a3b" + // delta
	"090100000000000000" + "1801" + "2001" + // run, version, head
	"2a2c" + "0a0f7765622e77656176652e6c6f63616c" + "12026331" + "1a040a000001" + "2001" + // name, ident, address, version
	"320d" + "0a0468747470" + "1203746370" + "1850" // service: http, tcp, 80

func goldenDelta() Delta {
	r := rec("web.weave.local", "c1", "10.0.0.1")
	r.Services = []Service{{"http", "tcp", 80}}
	return Delta{Origin: alice, Run: 1, Version: 1, Head: 1, Entries: []Entry{{Record: r, Version: 1}}}
}

func TestGoldenMessage(t *testing.T) {
	if got := hex.EncodeToString(marshal(goldenDelta().wire())); got != golden {
		t.Errorf("a delta is\n%s, not\n%s", got, golden)
	}
}

// FuzzReceive feeds a core messages of a hostile peer.
func FuzzReceive(f *testing.F) {
	f.Add(marshal(goldenDelta().wire()), []byte{})
	f.Add(marshal(&WireMessage{Ask: &WireAsk{Run: 2, Since: 1 << 60}}), marshal(&WireMessage{Digest: &WireDigest{Sum: 1}}))
	f.Add(marshal(&WireMessage{Digest: &WireDigest{Held: []*WireHeld{{Origin: alice[:], Run: 1, Version: 1 << 63}}}}), []byte{0xff})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c := newCore(bob, 2)
		c.Step(start, Reachable{Peers: peersOf(alice, 1)})
		c.Step(start, Add{Records: []Record{rec("b.weave.local", "c", "10.0.0.2")}})
		for _, data := range [][]byte{a, b, a} {
			c.Step(start, Message{From: alice, Data: data})
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if c.Index().Name([]byte("b.weave.local")) == nil {
			t.Fatal("our own name is gone")
		}
	})
}

// FuzzResolve asks for anything.
func FuzzResolve(f *testing.F) {
	for _, name := range []string{"web", "_http._tcp.web.weave.local", "1.0.0.10.in-addr.arpa", "f.ip6.arpa", "..", "weave.local"} {
		f.Add([]byte(name), uint16(33))
	}
	x := resolver()
	f.Fuzz(func(t *testing.T, name []byte, qtype uint16) {
		a := x.Resolve(local, name, qtype)
		if local.Holds(string(name)) && a.Verdict == Forward {
			t.Fatalf("%q is forwarded", name)
		}
	})
}
