package netlink

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// then makes one rule of parts.
func then(parts ...any) []expression {
	var out []expression
	for _, p := range parts {
		switch p := p.(type) {
		case expression:
			out = append(out, p)
		case []expression:
			out = append(out, p...)
		}
	}
	return out
}

// chains writes all chains with their rules.
func (p *program) chains() {
	// Heartbeats of the kernel path are between hosts, and no bridge passes them on.
	p.rule("input", link(0, 6, reg(0)), is(reg(0), groupMAC...), link(12, 2, reg(0)), is(reg(0), u16(beatType)...), pass())
	for name := range policyHooks {
		p.entry(name)
	}
	for i := range families {
		f := &families[i]
		p.known(f)
		p.pieces(f)
		p.first(f)
		p.errors(f)
		p.whole(f)
		p.redo(f)
		p.rules(way{f, false})
		p.rules(way{f, true})
		p.note(f, f.set("allowed"), false)
		p.note(f, f.set("answer"), true)
	}
}

// entry sorts frames by their type, which is that of a VLAN tag where there is one.
func (p *program) entry(chain string) {
	kind := link(12, 2, reg(0))
	for i := range families {
		p.rule(chain, kind, is(reg(0), u16(families[i].etherType)...), goTo(families[i].set("known")))
	}
	p.rule(chain, kind, is(reg(0), u16(unix.ETH_P_ARP)...), pass())
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		p.rule(chain, kind, is(reg(0), u16(tag)...), countIn(countTagged), discard())
	}
	if p.policy.Allow {
		p.rule(chain, countIn(countOther), pass())
	} else {
		p.rule(chain, countIn(countOther), discard())
	}
}

// known passes what is of a flow allowed since the last change. A segment that ends a connection shortens its memory; those that
// follow are judged as if they were the first, which does not make it longer. A change to a set that is full ends a rule: the last one passes
// then what those before it would have.
func (p *program) known(f *family) {
	c, fast, flows := f.set("known"), f.set("fast"), f.set("flows")
	forth, back := f.key(false), f.key(true)
	longer := func(by time.Duration) []expression {
		return []expression{change(dynUpdate, fast, reg(0), by), change(dynUpdate, flows, reg(0), by), pass()}
	}
	p.rule(c, then(f.piece(0x3fff, 0xfff9), callTo(f.set("pieces")))...)
	p.rule(c, then(f.tcpFlags(7, false), forth, inSet(fast, reg(0)), longer(flowTCP))...)
	for _, key := range [][]expression{forth, back} {
		p.rule(c, then(f.tcpFlags(5, true), key, inSet(fast, reg(0)), change(dynDelete, fast, reg(0), 0),
			change(dynUpdate, flows, reg(0), flowClosed), pass())...)
	}
	p.rule(c, then(back, inSet(fast, reg(0)), pass())...)
	p.rule(c, then(f.tcpFlags(2, true), forth, inSet(fast, reg(0)), longer(flowAsked))...)
	p.rule(c, then(forth, inSet(fast, reg(0)), longer(flowNew))...)
	p.rule(c, then(forth, inSet(fast, reg(0)), pass())...)
	p.rule(c, goTo(f.set("first")))
}

// pieces passes fragments of packets whose first one passed, and notes first ones of known flows.
func (p *program) pieces(f *family) {
	c := f.set("pieces")
	p.rule(c, then(f.nextPiece(), f.pieceKey(), inSet(f.set("cut"), reg(0)), pass())...)
	p.rule(c, then(f.nextPiece(), countIn(countPieces), discard())...)
	for _, key := range [][]expression{f.key(false), f.key(true)} {
		p.rule(c, then(key, inSet(f.set("fast"), reg(0)), f.pieceKey(), change(dynUpdate, f.set("cut"), reg(0), flowPieces), pass())...)
	}
}

// first judges what may begin a flow, after what networks cannot do without.
func (p *program) first(f *family) {
	c := f.set("first")
	p.needs(f, c)
	errors := []byte{3, 11, 12} // RFC 792: unreachable, time exceeded, parameter problem
	if f.size == 16 {
		errors = []byte{1, 2, 3, 4} // RFC 4443
	}
	for _, kind := range errors {
		p.rule(c, then(f.icmpIs(kind), callTo(f.set("error")))...)
	}
	flows := f.set("flows")
	p.rule(c, then(f.icmpIs(f.echoReply), f.keyWith(true, true), inSet(flows, reg(0)), goTo(f.set("redo")))...)
	p.rule(c, then(f.key(true), inSet(flows, reg(0)), goTo(f.set("redo")))...)
	p.rule(c, then(f.noPorts(), isNot(f.spare(), f.icmp), f.keyWith(true, false), inSet(flows, reg(0)), goTo(f.set("redo")))...)
	p.uncrowd(f, c)
	p.rule(c, callTo(f.set("whole")))
	p.rule(c, goTo(f.set("rules")))
}

func (f *family) noPorts() []expression {
	return []expression{
		meta(unix.NFT_META_L4PROTO, f.spare()), isNot(f.spare(), unix.IPPROTO_TCP), isNot(f.spare(), unix.IPPROTO_UDP), isNot(f.spare(), unix.IPPROTO_SCTP),
	}
}

// whole drops what has no ports where it should.
func (p *program) whole(f *family) {
	c := f.set("whole")
	p.rule(c, then(f.noPorts(), decide(unix.NFT_RETURN, ""))...)
	p.rule(c, transport(0, 4, f.spare()), decide(unix.NFT_RETURN, ""))
	p.rule(c, countIn(countBroken), discard())
}

// redo judges the flow of an answer again. One that is not allowed any more is forgotten.
func (p *program) redo(f *family) {
	c := f.set("redo")
	p.rule(c, goTo(f.set("again")))
	c = f.set("forget")
	forget := change(dynDelete, f.set("flows"), reg(0), 0)
	p.rule(c, then(f.icmpIs(f.echoReply), f.keyWith(true, true), forget, discard())...)
	p.rule(c, then(f.noPorts(), f.keyWith(true, false), forget, discard())...)
	p.rule(c, then(f.key(true), forget, discard())...)
	p.rule(c, discard())
}

// needs passes what networks cannot do without: multicast's reports, neighbour discovery, DHCP (RFC 2131, RFC 8415), our names.
func (p *program) needs(f *family, c string) {
	ports := func(from, to uint16) []expression {
		return then(f.protoIs(unix.IPPROTO_UDP), transport(0, 4, f.spare()), is(f.spare(), append(u16(from), u16(to)...)...))
	}
	at := func(offset uint32, a netip.Addr) []expression {
		return []expression{network(offset, f.size, f.keySource()), is(f.keySource(), a.AsSlice()...)}
	}
	if f.size == 16 {
		for _, kinds := range [][2]byte{{130, 137}, {143, 143}} {
			p.rule(c, then(f.protoIs(f.icmp), transport(0, 1, f.spare()), compare(unix.NFT_CMP_GTE, f.spare(), kinds[0]),
				compare(unix.NFT_CMP_LTE, f.spare(), kinds[1]), pass())...)
		}
		p.rule(c, then(ports(546, 547), at(f.dest, netip.MustParseAddr("ff02::1:2")), pass())...)
		p.rule(c, then(ports(547, 546), pass())...)
		return
	}
	p.rule(c, then(f.protoIs(unix.IPPROTO_IGMP), pass())...)
	everybody := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	p.rule(c, then(ports(68, 67), at(f.source, netip.IPv4Unspecified()), at(f.dest, everybody), pass())...)
	p.rule(c, then(ports(67, 68), pass())...)
	if !p.service.IsValid() {
		return
	}
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		p.rule(c, then(f.protoIs(proto), transport(2, 2, f.spare()), is(f.spare(), 0, 53), at(f.dest, p.service), pass())...)
		p.rule(c, then(f.protoIs(proto), transport(0, 2, f.spare()), is(f.spare(), 0, 53), at(f.source, p.service), pass())...)
	}
}

// errors passes ICMP errors about a packet of a flow, or about an answer, to who sent it. They are a message of eight bytes and the
// head of that packet.
func (p *program) errors(f *family) {
	c := f.set("error")
	at := uint32(8)
	plain := []expression{transport(at, 1, f.spare()), is(f.spare(), 0x45)} // no options
	if f.size == 16 {
		plain = []expression{transport(at, 1, f.spare()), masked(f.spare(), 0xf0), is(f.spare(), 0x60)}
	}
	sent := func(from, to, sport, dport uint32) []expression {
		return []expression{
			network(f.dest, f.size, from), transport(at+f.dest, f.size, to), transport(at+f.innerProto, 1, f.keyProto()),
			transport(at+f.inner, 2, sport), transport(at+f.inner+2, 2, dport),
		}
	}
	for _, key := range [][]expression{
		sent(f.keySource(), f.keyDest(), f.keySport(), f.keyDport()),
		sent(f.keyDest(), f.keySource(), f.keyDport(), f.keySport()),
	} {
		p.rule(c, then(plain, key, inSet(f.set("fast"), reg(0)), pass())...)
	}
	for i, ends := range [][2]uint32{{f.keySource(), f.keyDest()}, {f.keyDest(), f.keySource()}} {
		kind := []byte{f.echo, f.echoReply}[i]
		key := sent(ends[0], ends[1], 0, 0)
		key[3], key[4] = transport(at+f.inner+4, 2, f.keySport()), constant(f.keyDport(), 0, 0, 0, 0)
		isEcho := []expression{
			transport(at+f.innerProto, 1, f.spare()), is(f.spare(), f.icmp), transport(at+f.inner, 1, f.spare()), is(f.spare(), kind),
		}
		p.rule(c, then(plain, isEcho, key, inSet(f.set("fast"), reg(0)), pass())...)
	}
	bare := []expression{transport(at+f.innerProto, 1, f.spare())}
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, f.icmp} {
		bare = append(bare, isNot(f.spare(), proto))
	}
	for _, ends := range [][2]uint32{{f.keySource(), f.keyDest()}, {f.keyDest(), f.keySource()}} {
		key := sent(ends[0], ends[1], 0, 0)
		key[3], key[4] = constant(f.keySport(), 0, 0, 0, 0), constant(f.keyDport(), 0, 0, 0, 0)
		p.rule(c, then(plain, bare, key, inSet(f.set("fast"), reg(0)), pass())...)
	}
}

// note remembers the first of several fragments and the flow. Where both sets of flows are full the packet passes all the same, and what
// will answer it is known by less.
func (p *program) note(f *family, c string, back bool) {
	p.rule(c, then(f.firstPiece(), f.pieceKey(), change(dynUpdate, f.set("cut"), reg(0), flowPieces))...)
	remember := func(match, key []expression, op uint32, flows, fast time.Duration) {
		if !back {
			p.rule(c, then(match, key, change(op, f.set("flows"), reg(0), flows))...)
		}
		p.rule(c, then(match, key, change(dynUpdate, f.set("fast"), reg(0), fast), pass())...)
	}
	once := flowOnce
	if back { // it has been answered
		once = flowNew
	} else {
		asks := then(f.protoIs(unix.IPPROTO_TCP), transport(13, 1, f.spare()), masked(f.spare(), 7), is(f.spare(), 2))
		remember(asks, f.key(false), dynAdd, flowAsked, flowAsked)
	}
	remember(f.tcpFlags(5, false), f.key(back), dynAdd, flowNew, flowTCP)
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		remember(f.protoIs(proto), f.key(back), dynUpdate, once, once)
	}
	echo := f.echo
	if back {
		echo = f.echoReply
	}
	remember(f.icmpIs(echo), f.keyWith(back, true), dynUpdate, once, once)
	others := []expression{
		meta(unix.NFT_META_L4PROTO, f.spare()), isNot(f.spare(), unix.IPPROTO_TCP), isNot(f.spare(), f.icmp),
	}
	remember(others, f.keyWith(back, false), dynUpdate, once, once)
	if !back {
		p.crowd(f, c)
	}
	p.rule(c, pass())
}

// crowd notes what cannot be remembered as a flow, without the port of who asks: a flood of connections to one service is one element.
func (p *program) crowd(f *family, c string) {
	key := then(f.crowdKey(false), change(dynUpdate, f.set("crowd"), reg(0), flowCrowd), countIn(countUntracked), pass())
	p.rule(c, then(f.tcpFlags(5, false), key)...)
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		p.rule(c, then(f.protoIs(proto), key)...)
	}
}

// uncrowd passes answers to such packets. None of them can begin a TCP connection.
func (p *program) uncrowd(f *family, c string) {
	key := then(f.crowdKey(true), inSet(f.set("crowd"), reg(0)), pass())
	for _, flags := range []byte{0x10, 4} { // an acknowledgement or a reset
		p.rule(c, then(f.tcpFlags(flags, true), key)...)
	}
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		p.rule(c, then(f.protoIs(proto), key)...)
	}
}

// crowdKey loads addresses, protocol and the port that was asked.
func (f *family) crowdKey(back bool) []expression {
	key := f.key(back)
	if back {
		return append(key[:3:3], transport(0, 2, f.keySport()))
	}
	return append(key[:3:3], transport(2, 2, f.keySport()))
}
