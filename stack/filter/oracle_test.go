package filter

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// oracle says the same as a Filter, slowly: it asks every term of every group about every packet and keeps flows in a map.
type oracle struct {
	doc   *Document
	flows map[tuple]*oracleFlow
	gen   int // of the policy
}

type oracleFlow struct {
	until   Stamp
	closing bool
	gen     int
}

func (o *oracle) member(operand int, a netip.Addr) bool {
	op := o.doc.Operands[operand]
	if op.Any {
		return true
	}
	for _, t := range op.Terms {
		if t.OnlySubnets() && contains(t.Subnets, a) {
			return true
		}
		for _, e := range endpoints {
			for _, own := range e.Addrs {
				if own == a && !t.OnlySubnets() && t.matches(&e, a) {
					return true
				}
			}
		}
	}
	return false
}

func (o *oracle) allowed(t tuple) bool {
	for i := range o.doc.Rules {
		r := &o.doc.Rules[i]
		proto, port := len(r.Protos) == 0, len(r.Ports) == 0
		for _, p := range r.Protos {
			proto = proto || p == t.proto || p == protoICMP && t.proto == protoICMPv6
		}
		for _, p := range r.Ports {
			port = port || t.dport >= p.First && t.dport <= p.Last
		}
		if proto && port && o.member(r.From, t.src) && o.member(r.To, t.dst) {
			return r.Action == Allow
		}
	}
	return o.doc.Default == Allow
}

func (o *oracle) live(now Stamp, t tuple) *oracleFlow {
	if f := o.flows[t]; f != nil && f.until > now {
		return f
	}
	return nil
}

// judge takes TCP, UDP and echo.
func (o *oracle) judge(now Stamp, t tuple, flags byte) bool {
	ends := t.proto == protoTCP && flags&(tcpFIN|tcpRST) != 0
	f := o.live(now, t)
	if back := o.live(now, t.reverse()); back != nil && !(f != nil && f.gen == o.gen) {
		if !o.allowed(t.reverse()) {
			delete(o.flows, t.reverse())
			return false
		}
		if back.gen = o.gen; ends {
			back.until, back.closing, back.gen = min(back.until, now+FlowClosed), true, -1
		}
		return true
	}
	if !o.allowed(t) {
		return false
	}
	if f == nil {
		if !ends {
			until := now + FlowNew
			if t.proto != protoTCP {
				until = now + FlowOnce
			} else if flags&tcpSYN != 0 {
				until = now + FlowAsked
			}
			o.flows[t] = &oracleFlow{until: until, gen: o.gen}
		}
		return true
	}
	f.gen = o.gen
	f.until = now + FlowNew
	if t.proto != protoTCP {
		return true
	}
	if ends {
		f.closing, f.gen = true, -1
	} else if flags&tcpSYN != 0 {
		f.closing = false
	}
	switch {
	case f.closing:
		f.until = now + FlowClosed
	case flags&tcpSYN == 0:
		f.until = now + FlowTCP
	default:
		f.until = now + FlowAsked
	}
	return true
}

var oraclePolicies = []string{
	sample,
	"default allow\n",
	"default deny\n",
	"group f label tier=front\ngroup b peer host2 name d*\ndeny f -> b tcp 81\nallow f -> b\nallow b -> f udp 80-81\ndefault deny\n",
	"group f label tier\ndeny f -> 10.0.1.0/24,fd00::1:0/112 icmp\ndeny 10.0.0.2,fd00::2 -> * tcp,udp 80\ndefault allow\n",
	"group e label empty= peer p1\nallow e -> * tcp\nallow * -> e udp 80\ndeny * -> *\ndefault allow\n",
}

func TestFilterAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, sample)
		o := &oracle{doc: r.doc, flows: map[tuple]*oracleFlow{}}
		addrs := [][]string{{"10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.9.9"}, {"fd00::1", "fd00::2", "fd00::1:1", "fd00::9:9"}}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				r.set(rapid.SampledFrom(oraclePolicies).Draw(rt, "policy"))
				o.doc = r.doc
				o.gen++
				continue
			case 1:
				r.now += Stamp(rapid.SampledFrom([]int{1, FlowAsked, FlowOnce - 1, FlowClosed, FlowNew - 1, FlowNew, FlowTCP}).Draw(rt, "seconds"))
				continue
			}
			family := rapid.SampledFrom(addrs).Draw(rt, "family")
			src, dst := rapid.SampledFrom(family).Draw(rt, "src"), rapid.SampledFrom(family).Draw(rt, "dst")
			ports := rapid.SampledFrom([]uint16{80, 81, 5432})
			sport, dport := ports.Draw(rt, "sport"), ports.Draw(rt, "dport")
			tup := tuple{src: netip.MustParseAddr(src), dst: netip.MustParseAddr(dst), sport: sport, dport: dport}
			var frame []byte
			var flags byte
			switch rapid.IntRange(0, 2).Draw(rt, "protocol") {
			case 0:
				flags = rapid.SampledFrom([]byte{tcpSYN, 0x10, tcpFIN | 0x10, tcpRST}).Draw(rt, "flags")
				tup.proto, frame = protoTCP, tcp(src, dst, sport, dport, flags)
			case 1:
				tup.proto, frame = protoUDP, udp(src, dst, sport, dport)
			default:
				reply := rapid.Bool().Draw(rt, "reply")
				tup.proto, frame, tup.dport = protoICMP, echo(src, dst, sport, reply), echoAsked
				if tup.src.Is6() {
					tup.proto = protoICMPv6
				}
				if reply {
					tup.dport = echoAnswered
				}
			}
			want := o.judge(r.now, tup, flags)
			if got := r.passes(frame); got != want {
				rt.Fatalf("%s: passes is %v, want %v", fmt.Sprint(tup, flags), got, want)
			}
		}
	})
}

func TestJudgeAllocatesNothing(t *testing.T) {
	r := newRig(t, sample)
	frames := [][]byte{
		tcp("10.0.0.1", "10.0.1.1", 1, 5432, 0x10), tcp("10.0.1.1", "10.0.0.1", 5432, 1, 0x10), udp("fd00::1", "fd00::2", 1, 98), echo("10.0.1.1", "10.0.0.1", 1, false),
		fragment4(udp("10.0.0.1", "10.0.0.2", 1, 2), 0, true, 1), extended(tcp("fd00::1", "fd00::2", 1, 2, 0), 0, 60),
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, f := range frames {
			r.passes(f)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzJudge(f *testing.F) {
	for _, seed := range [][]byte{
		tcp("10.0.0.1", "10.0.1.1", 1, 5432, tcpSYN), udp("fd00::1", "fd00::2", 1, 98), echo("10.0.0.1", "10.0.1.1", 1, true), extended(tcp("fd00::1", "fd00::2", 1, 2, 0), 0, 60, 51, 43),
		icmpError("10.0.0.1", "10.0.1.1", tcp("10.0.1.1", "10.0.0.1", 1, 2, 0)), icmpError("fd00::1", "fd00::2", echo("fd00::2", "fd00::1", 1, false)),
		fragment4(udp("10.0.0.1", "10.0.0.2", 1, 2), 3, true, 1), fragment6(udp("fd00::1", "fd00::2", 1, 2), 3, true, 1), ether(etherARP, make([]byte, 28)), tagged(0x8100, ether(etherIPv4, nil)),
	} {
		f.Add(seed)
	}
	deny := newRig(f, "default deny\n")
	guard := NewGuard([6]byte{2, 0, 0, 0, 0, 1}, list("10.0.0.1", "fd00::1"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		p := parse(frame)
		if p.kind == kindPacket && (!p.tuple.src.IsValid() || p.tuple.src.Is4() != p.tuple.dst.Is4()) {
			t.Errorf("a packet from %v to %v", p.tuple.src, p.tuple.dst)
		}
		if pass := deny.passes(frame); pass && p.kind != kindPass && !deny.filter.isService(&p.tuple) {
			t.Errorf("a packet of kind %d passes where everything is denied", p.kind)
		}
		if guard.Check(frame) && (len(frame) < etherLen || [6]byte(frame[6:12]) != guard.mac) {
			t.Error("a frame with another's MAC passes the guard")
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	text := ""
	for i := range 1000 {
		text += fmt.Sprintf("allow 10.%d.%d.0/24 -> 10.0.1.0/24 tcp %d\n", 1+i/250, i%250, 1000+i)
	}
	r := newRig(b, text+"group web name web-*\ngroup db label tier=data\nallow web -> db tcp 5432\ndefault deny\n")
	for name, frame := range map[string][]byte{
		"known": tcp("10.0.0.1", "10.0.1.1", 1, 5432, 0x10), "answer": tcp("10.0.1.1", "10.0.0.1", 5432, 1, 0x10), "denied by 1000 rules": tcp("10.0.1.1", "10.0.0.1", 9, 9, 0x10),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.passes(frame)
			}
		})
	}
}

// thousand is a policy of a thousand rules between as many groups of one container each, and these containers.
func thousand() (text string, list []Endpoint) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "group g%d name c%d label app=a%d\nallow g%d -> g%d tcp %d\n", i, i, i, i, (i*7+1)%1000, 1000+i)
		list = append(list, Endpoint{
			ID: fmt.Sprint(i), Peer: "p", Names: []string{fmt.Sprint("c", i), fmt.Sprint("c", i, ".weave.local")}, Labels: map[string]string{"app": fmt.Sprint("a", i), "tier": "x"},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})},
		})
	}
	return b.String() + "default deny\n", list
}

func BenchmarkThousand(b *testing.B) {
	text, list := thousand()
	flows, counts := NewFlows(maphash.MakeSeed()), NewCounts()
	var doc *Document
	var m *Members
	b.Run("new policy", func(b *testing.B) {
		for b.Loop() {
			var err error
			if doc, err = Parse(text); err != nil {
				b.Fatal(err)
			}
			m = NewMembers(doc)
			for _, e := range list {
				m.Put(e)
			}
			New(doc, m, service, flows, counts)
		}
	})
	f := New(doc, m, service, flows, counts)
	b.Run("one container changes", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			e := list[i%len(list)]
			e.Names = []string{fmt.Sprint("c", i)}
			f = f.With(m, m.Put(e))
		}
	})
}
