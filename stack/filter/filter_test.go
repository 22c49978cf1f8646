package filter

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// rig is a policy with a few endpoints, and a filter of it.
type rig struct {
	t       testing.TB
	doc     *Document
	members *Members
	flows   *Flows
	counts  *Counts
	filter  *Filter
	now     Stamp
}

var service = netip.MustParseAddr("169.254.3.4")

var endpoints = []Endpoint{
	{ID: "w1", Peer: "p1", Nickname: "host1", Names: []string{"web-1"}, Labels: map[string]string{"tier": "front", "empty": ""}, Addrs: list("10.0.0.1", "fd00::1")},
	{ID: "w2", Peer: "p2", Nickname: "host2", Names: []string{"web-2"}, Labels: map[string]string{"tier": "front"}, Addrs: list("10.0.0.2", "fd00::2")},
	{ID: "d1", Peer: "p2", Nickname: "host2", Names: []string{"db"}, Labels: map[string]string{"tier": "data"}, Addrs: list("10.0.1.1", "fd00::1:1")},
}

func list(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func newRig(t testing.TB, text string) *rig {
	t.Helper()
	r := &rig{t: t, flows: NewFlows(maphash.MakeSeed()), counts: NewCounts(), now: 10}
	r.set(text)
	return r
}

func (r *rig) set(text string) {
	r.t.Helper()
	doc, err := Parse(text)
	if err != nil {
		r.t.Fatal(err)
	}
	r.doc, r.members = doc, NewMembers(doc)
	for _, e := range endpoints {
		r.members.Put(e)
	}
	r.filter = New(r.doc, r.members, service, r.flows, r.counts)
}

// passes judges one frame.
func (r *rig) passes(frame []byte) bool { return r.filter.Judge(r.now, frame, len(frame)) }

func (r *rig) want(pass bool, frame []byte, what string) {
	r.t.Helper()
	if r.passes(frame) != pass {
		r.t.Errorf("%s: passes is %v", what, !pass)
	}
}

const sample = `
group web name web-*
group db label tier=data
allow web -> db tcp 5432,8000-8100
allow web -> db icmp
deny web -> web udp 99
allow web -> web udp
default deny
`

func TestJudge(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		r := newRig(t, sample)
		w1, w2, d1, other := "10.0.0.1", "10.0.0.2", "10.0.1.1", "10.9.9.9"
		if v6 {
			w1, w2, d1, other = "fd00::1", "fd00::2", "fd00::1:1", "fd00::9"
		}
		r.want(true, tcp(w1, d1, 1000, 5432, tcpSYN), "allowed port")
		r.want(true, tcp(d1, w1, 5432, 1000, tcpSYN|0x10), "its answer")
		r.want(false, tcp(d1, w1, 5432, 1001, 0x10), "an answer to nothing")
		r.want(false, tcp(d1, w1, 1000, 5432, tcpSYN), "the other direction")
		r.want(true, tcp(w2, d1, 1000, 8100, tcpSYN), "end of a range")
		r.want(false, tcp(w2, d1, 1000, 8101, tcpSYN), "behind a range")
		r.want(false, tcp(other, d1, 1000, 5432, tcpSYN), "a stranger")
		r.want(false, udp(w1, w2, 5, 99), "denied before it is allowed")
		r.want(true, udp(w1, w2, 5, 98), "allowed")
		r.want(false, udp(w1, d1, 5, 5432), "another protocol")
		r.want(true, echo(w1, d1, 7, false), "echo")
		r.want(true, echo(d1, w1, 7, true), "its answer")
		r.want(false, echo(d1, w1, 8, true), "an answer to no echo")
		r.want(false, echo(d1, w1, 7, false), "echo the other way")
		r.want(false, raw(w1, d1, 47, []byte{1, 2, 3, 4}), "GRE")
	}
}

func TestNecessities(t *testing.T) {
	r := newRig(t, "default deny\n")
	r.want(true, ether(0x0806, make([]byte, 28)), "ARP")
	for _, kind := range []byte{133, 134, 135, 136, 137, 130, 131, 132, 143} {
		r.want(true, raw("fe80::1", "ff02::1", 58, []byte{kind, 0, 0, 0, 0, 0, 0, 0}), "ICMPv6 of the link")
	}
	r.want(false, raw("fe80::1", "ff02::1", 58, []byte{128, 0, 0, 0, 0, 0, 0, 0}), "echo is no such thing")
	r.want(true, raw("10.0.0.1", "224.0.0.22", 2, make([]byte, 8)), "IGMP")
	r.want(true, udp("0.0.0.0", "255.255.255.255", 68, 67), "DHCP request")
	r.want(true, udp("10.0.0.1", "10.0.0.2", 67, 68), "DHCP answer")
	r.want(false, udp("10.0.0.1", "10.0.0.2", 68, 67), "what calls itself a request")
	r.want(true, udp("fe80::1", "ff02::1:2", 546, 547), "DHCPv6 request")
	r.want(false, udp("fe80::1", "fd00::2", 546, 547), "what calls itself a DHCPv6 request")
	r.want(true, udp("10.0.0.1", service.String(), 4000, 53), "question for a name")
	r.want(true, udp(service.String(), "10.0.0.1", 53, 4000), "its answer")
	r.want(true, tcp("10.0.0.1", service.String(), 4000, 53, tcpSYN), "by TCP")
	r.want(false, udp("10.0.0.1", service.String(), 4000, 54), "another port there")
	r.want(false, udp("10.0.0.1", "10.0.0.2", 4000, 53), "another server")
	r.want(false, ether(0x88b5, make([]byte, 40)), "another protocol")
	newRig(t, "default allow\n").want(true, ether(0x88b5, make([]byte, 40)), "another protocol, if all is allowed")
}

// What could slip round a rule that denies a port does not.
func TestNothingSlipsRound(t *testing.T) {
	r := newRig(t, "deny 10.0.0.1 -> * tcp 22\ndeny fd00::1 -> * tcp 22\ndefault allow\n")
	ssh := tcp("10.0.0.1", "10.0.1.1", 1000, 22, tcpSYN)
	r.want(false, ssh, "plainly")
	r.want(true, tcp("10.0.0.1", "10.0.1.1", 1000, 23, tcpSYN), "another port")
	r.want(false, tagged(0x8100, ssh), "in a VLAN")
	r.want(false, tagged(0x88a8, tagged(0x8100, ssh)), "in two")
	first := fragment4(ssh, 0, true, 77)
	r.want(false, first, "the first fragment")
	r.want(false, fragment4(ssh, 3, false, 77), "the next one")
	r.want(false, fragment4(udp("10.0.0.1", "10.0.1.1", 1, 2), 3, false, 78), "one of a packet that never began")
	ok := tcp("10.0.0.1", "10.0.1.1", 1000, 23, tcpSYN)
	r.want(true, fragment4(ok, 0, true, 79), "the first fragment of what is allowed")
	r.want(true, fragment4(ok, 3, false, 79), "the next one of that")
	r.want(false, cut(ssh, 14+20+3), "ports cut off")
	r.want(false, cut(ssh, 14+19), "a header cut off")
	six := tcp("fd00::1", "fd00::1:1", 1000, 22, tcpSYN)
	r.want(false, six, "IPv6")
	for _, chain := range [][]byte{{0}, {60}, {43}, {51}, {0, 60, 43, 60}} {
		r.want(false, extended(six, chain...), "behind extension headers")
	}
	r.want(false, extended(six, slices.Repeat([]byte{60}, 40)...), "behind more than are looked at")
	r.want(false, fragment6(six, 0, true, 5), "the first fragment of IPv6")
	r.want(false, fragment6(six, 8, false, 5), "the next one")
	r.want(false, fragment6(six, 0, false, 5), "a fragment that is alone")
	r.want(false, extended(fragment6(six, 0, true, 6), 60), "a fragment behind a header")
	good := tcp("fd00::1", "fd00::1:1", 1000, 23, tcpSYN)
	r.want(true, extended(good, 0, 60), "another port behind headers")
	r.want(true, fragment6(good, 0, true, 7), "the first fragment of what is allowed")
	r.want(true, fragment6(good, 8, false, 7), "the next one of that")
}

func TestICMPErrors(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		r := newRig(t, sample)
		w1, d1, router := "10.0.0.1", "10.0.1.1", "10.7.7.7"
		if v6 {
			w1, d1, router = "fd00::1", "fd00::1:1", "fd00::77"
		}
		there, back := tcp(w1, d1, 1000, 5432, tcpSYN), tcp(d1, w1, 5432, 1000, 0x10)
		r.want(false, icmpError(router, w1, there), "before there is a flow")
		r.want(true, there, "the flow")
		r.want(true, icmpError(router, w1, there), "about it, to who sent it")
		r.want(true, icmpError(router, d1, back), "about its answer, to who sent that")
		r.want(false, icmpError(router, d1, there), "to somebody else")
		r.want(false, icmpError(router, w1, tcp(w1, d1, 1001, 5432, tcpSYN)), "about another one")
		r.want(true, echo(w1, d1, 3, false), "echo")
		r.want(true, icmpError(router, w1, echo(w1, d1, 3, false)), "about an echo")
	}
}

// A flow lasts as long as it should, and a change of the policy is felt at once.
func TestFlows(t *testing.T) {
	r := newRig(t, sample)
	syn, ack := tcp("10.0.0.1", "10.0.1.1", 1000, 5432, tcpSYN), tcp("10.0.0.1", "10.0.1.1", 1000, 5432, 0x10)
	answer := tcp("10.0.1.1", "10.0.0.1", 5432, 1000, 0x10)
	r.want(true, syn, "SYN")
	r.now += FlowNew + 1
	r.want(false, answer, "an answer that comes too late")
	r.want(true, syn, "SYN")
	r.want(true, ack, "ACK")
	r.now += FlowTCP - 1
	r.want(true, answer, "an answer after a long silence")
	r.set(strings.Replace(sample, "5432,", "", 1))
	r.want(false, answer, "an answer to what is not allowed any more")
	r.want(false, ack, "what is not allowed any more")
	r.set(sample)
	r.want(false, answer, "allowed again, but forgotten")
	r.want(true, ack, "the same from the end that began")
	r.want(true, answer, "its answer")
	r.set(sample + "allow db -> web tcp 1\n")
	r.want(true, answer, "the end that did not begin speaks first after a change")
	r.want(true, tcp("10.0.1.1", "10.0.0.1", 5432, 1000, tcpFIN|0x10), "the end")
	r.want(true, ack, "ACK of the end")
	r.now += FlowClosed + 1
	r.want(false, answer, "an answer after the end")
	before := r.counts.Of("allow web -> db tcp 5432,8000-8100").Packets.Load()
	r.want(true, ack, "a flow in its middle")
	r.want(true, ack, "again")
	if got := r.counts.Of("allow web -> db tcp 5432,8000-8100").Packets.Load(); got != before+1 {
		t.Errorf("the rule has counted %d, want one more than %d", got, before)
	}
}

// The table of flows keeps to its size, and forgets what would go first.
func TestFlowsFull(t *testing.T) {
	r := newRig(t, "allow 10.0.0.1 -> *\ndefault deny\n")
	long := tcp("10.0.0.1", "10.0.1.1", 1, 1, 0x10)
	r.want(true, long, "a connection")
	r.want(true, long, "established")
	for i := range 4 * flowWays * flowBuckets {
		r.passes(udp("10.0.0.1", netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}).String(), 1, uint16(i%60000+1)))
	}
	if r.flows.Evicted() == 0 {
		t.Error("nothing was forgotten")
	}
	r.want(true, tcp("10.0.1.1", "10.0.0.1", 1, 1, 0x10), "the answer of an established connection in a flood")
}

// Members are what the terms say, whatever came before: Put, Remove and their changes agree with a fresh start.
func TestMembersAgreeWithOracle(t *testing.T) {
	doc, err := Parse("group a name x*\ngroup b label k=v peer h?\ngroup c name *1 subnet 10.0.0.0/30\ngroup d subnet 10.0.0.0/8\nallow a,b -> c\nallow d -> b\nallow * -> a\ndefault deny\n")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := NewMembers(doc)
		now := map[string]Endpoint{}
		told := map[Change]bool{} // what a listener knows, with Added
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "id")
			var changes []Change
			if rapid.Bool().Draw(t, "remove") {
				delete(now, id)
				changes = m.Remove(id)
			} else {
				e := Endpoint{ID: id, Nickname: rapid.SampledFrom([]string{"h1", "g"}).Draw(t, "peer")}
				e.Names = rapid.SliceOfN(rapid.SampledFrom([]string{"x1", "y1", "x2"}), 0, 2).Draw(t, "names")
				if rapid.Bool().Draw(t, "labelled") {
					e.Labels = map[string]string{"k": rapid.SampledFrom([]string{"v", "w"}).Draw(t, "value")}
				}
				for _, a := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.9", "fd00::1"}), 0, 3, rapid.ID).Draw(t, "addrs") {
					e.Addrs = append(e.Addrs, netip.MustParseAddr(a))
				}
				now[id] = e
				changes = m.Put(e)
			}
			for _, c := range changes {
				k := Change{c.Operand, c.Addr, true}
				if told[k] == c.Added {
					t.Fatalf("told twice: %v", c)
				}
				told[k] = c.Added
			}
		}
		for i := range doc.Operands {
			want := map[netip.Addr]bool{}
			for _, e := range now {
				for _, a := range e.Addrs {
					for _, term := range doc.Operands[i].Terms {
						if !term.OnlySubnets() && plainMatch(term, e, a) {
							want[a] = true
						}
					}
				}
			}
			got := m.Of(i)
			if len(got) != len(want) {
				t.Fatalf("%s has %v, want %v", doc.Operands[i].Text, got, want)
			}
			for _, a := range got {
				if !want[a] || !told[Change{i, a, true}] {
					t.Fatalf("%s has %v, told %v", doc.Operands[i].Text, a, told)
				}
			}
		}
	})
}

// plainMatch is Term.matches for these terms, by other means.
func plainMatch(term Term, e Endpoint, a netip.Addr) bool {
	text := func(patterns, list []string) bool {
		for _, p := range patterns {
			for _, s := range list {
				prefix, suffix, star := strings.Cut(p, "*")
				if star && strings.HasPrefix(s, prefix) && strings.HasSuffix(s, suffix) || p == "h?" && len(s) == 2 && s[0] == 'h' {
					return true
				}
			}
		}
		return len(patterns) == 0
	}
	ok := text(term.Names, e.Names) && text(term.Peers, []string{e.Nickname})
	for _, l := range term.Labels {
		ok = ok && e.Labels[l.Key] == l.Value
	}
	for _, s := range term.Subnets {
		ok = ok && s.Contains(a)
	}
	return ok
}
