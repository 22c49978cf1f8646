package netlink

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The policy is a table of its own, of the family bridge, named after the bridge. It does what stack/filter does, in the same
// order, with sets in place of the table of flows: Linux knows no connections on a bridge (nf_conntrack_bridge) on many machines.
//
//	forward, input, output      VLAN tags drop; neither IP nor ARP: the default
//	  └► known4                 a flow that was allowed since the last change, or an answer to one
//	       │  pieces4           fragments: those that follow pass if the first one did
//	       └► first4            what networks need, names, ICMP errors about flows
//	            ├► redo4        an answer to an older flow: again4 has the rules the other way round, would it still be allowed?
//	            └► rules4       the policy's rules by its plan (runtime.PlanPolicy), then the default
//	                 │  run4-…  some of the rules in their order, named after what is in them
//	                 └► allowed4     notes the flow
//
// fast4 has the flows allowed since the policy or its members last changed, flows4 all that have not expired; a key is source,
// destination, protocol and ports of a flow's first packet. crowd4 has what these two had no room for, without the port of who asked. The same
// again for IPv6.
const (
	policyPriority = -200 // before bridge-netfilter has the host's iptables look
	policySuffix   = "-policy"
	flowSetSize    = 1 << 18

	flowAsked  = 30 * time.Second // of TCP, until the one who asks has an answer
	flowOnce   = 60 * time.Second // of others, until there is a second packet
	flowCrowd  = 60 * time.Second
	flowNew    = 180 * time.Second
	flowTCP    = 3 * time.Hour
	flowClosed = 60 * time.Second
	flowPieces = 30 * time.Second
)

// Names of counters besides those of rules.
const (
	countDefault = "default"
	countOther   = "other"
	countTagged  = "tagged"
	countBroken  = "malformed"
	countPieces  = "fragments"

	countUntracked = "untracked"
)

// family is what differs between IPv4 and IPv6.
type family struct {
	suffix     string
	etherType  uint16
	source     uint32 // offsets in the network header
	dest       uint32
	size       uint32 // of an address
	icmp       byte
	echo       byte // types of ICMP
	echoReply  byte
	inner      uint32 // length of the header in an ICMP error
	innerProto uint32
	nftType    uint32
}

var families = []family{
	{"4", unix.ETH_P_IP, ipSource, ipDest, 4, unix.IPPROTO_ICMP, 8, 0, 20, ipProtocol, nftTypeIPv4},
	{"6", unix.ETH_P_IPV6, offsetSource6, offsetDest6, 16, unix.IPPROTO_ICMPV6, 128, 129, 40, 6, nftTypeIPv6},
}

// index is its place in families.
func (f *family) index() int {
	if f.size == 4 {
		return 0
	}
	return 1
}

// is tells whether an address is of the family.
func (f *family) is(a netip.Addr) bool { return a.Is4() == (f.size == 4) }

// Registers of a flow's key, or of that of a packet's fragments.
func (f *family) keySource() uint32 { return reg(0) }
func (f *family) keyDest() uint32   { return reg(f.size / 4) }
func (f *family) keyProto() uint32  { return reg(2 * f.size / 4) }
func (f *family) keySport() uint32  { return reg(2*f.size/4 + 1) }
func (f *family) keyDport() uint32  { return reg(2*f.size/4 + 2) }
func (f *family) keyLen() uint32    { return 2*f.size + 12 }

// spare is a register beside the key.
func (f *family) spare() uint32 { return reg(2*f.size/4 + 3) }

// key loads the flow that a packet is of; back: that it answers.
func (f *family) key(back bool) []expression {
	from, to, sport, dport := f.source, f.dest, uint32(0), uint32(2)
	if back {
		from, to, sport, dport = to, from, dport, sport
	}
	return []expression{
		network(from, f.size, f.keySource()), network(to, f.size, f.keyDest()), meta(unix.NFT_META_L4PROTO, f.keyProto()),
		transport(sport, 2, f.keySport()), transport(dport, 2, f.keyDport()),
	}
}

// keyWith is key for protocols without ports: ICMP's identifier stands for one, or nothing does.
func (f *family) keyWith(back, echo bool) []expression {
	out := f.key(back)
	out[3], out[4] = constant(f.keySport(), 0, 0, 0, 0), constant(f.keyDport(), 0, 0, 0, 0)
	if echo {
		out[3] = transport(4, 2, f.keySport())
	}
	return out
}

// pieceKey loads what fragments of one packet have in common.
func (f *family) pieceKey() []expression {
	out := []expression{network(f.source, f.size, f.keySource()), network(f.dest, f.size, f.keyDest())}
	if f.size == 4 {
		return append(out, network(ipProtocol, 1, f.keyProto()), network(4, 2, f.keySport()), constant(f.keyDport(), 0, 0, 0, 0))
	}
	return append(out, constant(f.keyProto(), 0, 0, 0, 0), fragmentHeader(4, 4, f.keySport()), constant(f.keyDport(), 0, 0, 0, 0))
}

// piece matches a fragment: the first of several, any that follows, or either.
func (f *family) piece(mask4, mask6 uint16) []expression {
	if f.size == 4 {
		return []expression{network(6, 2, f.spare()), masked(f.spare(), u16(mask4)...), isNot(f.spare(), 0, 0)}
	}
	return []expression{fragmentHeader(2, 2, f.spare()), masked(f.spare(), u16(mask6)...), isNot(f.spare(), 0, 0)}
}

func (f *family) firstPiece() []expression { return f.piece(0x2000, 1) }
func (f *family) nextPiece() []expression  { return f.piece(0x1fff, 0xfff8) }

// protoIs matches the protocol behind all extension headers.
func (f *family) protoIs(p byte) []expression {
	return []expression{meta(unix.NFT_META_L4PROTO, f.spare()), is(f.spare(), p)}
}

// tcpFlags matches segments of which any, or none, of the flags are set: FIN 1, SYN 2, RST 4.
func (f *family) tcpFlags(mask byte, any bool) []expression {
	test := is(f.spare(), 0)
	if any {
		test = isNot(f.spare(), 0)
	}
	return append(f.protoIs(unix.IPPROTO_TCP), transport(13, 1, f.spare()), masked(f.spare(), mask), test)
}

// icmpIs matches a type of ICMP.
func (f *family) icmpIs(kind byte) []expression {
	return append(f.protoIs(f.icmp), transport(0, 1, f.spare()), is(f.spare(), kind))
}

// counterName is that of a rule's counter. The kernel takes no longer ones.
func counterName(text string) string {
	h := fnv.New128a()
	_, _ = h.Write([]byte(text)) // never fails, package hash
	return fmt.Sprintf("rule-%x", h.Sum(nil))
}

func (f *family) set(kind string) string { return kind + f.suffix }

// dynamicSets are those that packets fill. They outlive a change of the policy.
func (p *program) dynamicSets() {
	for i := range families {
		f := &families[i]
		s := setSpec{
			keyType: concat(f.nftType, f.nftType, nftTypeProto, nftTypePort, nftTypePort), keyLen: f.keyLen(),
			flags: unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL, size: p.limit, timeout: flowNew,
		}
		for _, kind := range dynamicKinds {
			s.name = f.set(kind)
			if kind == "crowd" {
				s.keyType, s.keyLen = concat(f.nftType, f.nftType, nftTypeProto, nftTypePort), 2*f.size+8
			}
			p.newSet(s)
		}
	}
}

var dynamicKinds = []string{"fast", "flows", "cut", "crowd"}

// isDynamic tells sets that packets fill. What others take out of them is only forgotten.
func isDynamic(set string) bool {
	return slices.ContainsFunc(dynamicKinds, func(kind string) bool { return set == kind+"4" || set == kind+"6" })
}

// forgetFast has every flow judged anew.
func forgetFast(b *batch) {
	for i := range families {
		b.flushSet(families[i].set("fast"))
		b.flushSet(families[i].set("crowd"))
	}
}

// fewNets ends of subnets are compared one by one.
const fewNets = 4

// intervals makes subnets of the family what the kernel wants: sorted, apart, each with the address behind it.
func (f *family) intervals(nets []netip.Prefix) []element {
	var own []netip.Prefix
	for _, n := range nets {
		if f.is(n.Addr()) {
			own = append(own, n)
		}
	}
	slices.SortFunc(own, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []element
	var last netip.Addr // of the interval before
	for _, n := range own {
		end := lastOf(n)
		if last.IsValid() && end.Compare(last) <= 0 {
			continue // prefixes overlap only if one has the other
		}
		if k := len(out); last.IsValid() && last.Next() == n.Addr() && k > 0 && out[k-1].end {
			out = out[:k-1]
		} else {
			out = append(out, element{key: n.Addr().AsSlice()})
		}
		if next := end.Next(); next.IsValid() {
			out = append(out, element{key: next.AsSlice(), end: true})
		}
		last = end
	}
	return out
}

// lastOf is the highest address of a subnet.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
