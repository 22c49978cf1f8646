package netlink

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// way is one of the four ways in which rules are written: of a family, and forth, or back: as they are for the answers of what they are about.
type way struct {
	*family
	back bool
}

func (w way) chain() string {
	if w.back {
		return w.set("again")
	}
	return w.set("rules")
}

// rules writes the policy's own, and its default.
func (p *program) rules(w way) {
	p.parts(w, w.chain(), nil, p.plan.Parts)
	p.rule(w.chain(), w.ending(countDefault, p.policy.Allow)...)
}

// parts writes rules, and jumps to others, into a chain. in is the leaf that they are of, nil if they are of none.
func (p *program) parts(w way, chain string, in *runtime.PolicyLeaf, list []runtime.PolicyPart) {
	for i := range list {
		part := &list[i]
		if part.From == runtime.NoSide && part.To == runtime.NoSide {
			p.leaves(w, chain, part.Leaves)
			for _, r := range part.Rules {
				p.oneRule(w, chain, in, r)
			}
			continue
		}
		run := p.run(w, in, []runtime.PolicyPart{{From: runtime.NoSide, To: runtime.NoSide, Rules: part.Rules}})
		for _, from := range p.side(w, part.From, w.back) {
			for _, to := range p.side(w, part.To, !w.back) {
				p.rule(chain, then(from, to, callTo(run))...)
			}
		}
	}
}

// leaves leads packets to rules about their service.
func (p *program) leaves(w way, chain string, list []runtime.PolicyLeaf) {
	var byPort []element
	for i := range list {
		l := &list[i]
		run, proto := p.run(w, l, l.Parts), w.proto(l.Proto)
		if !runtime.HasPorts(l.Proto) {
			p.rule(chain, then(w.protoIs(proto), callTo(run))...)
			continue
		}
		key := func(port uint16) []byte { return append([]byte{proto, 0, 0, 0}, append(u16(port), 0, 0)...) }
		byPort = append(byPort, element{key: key(l.Ports.First), last: key(l.Ports.Last), call: run})
	}
	if len(byPort) == 0 {
		return
	}
	at := uint32(2)
	if w.back {
		at = 0
	}
	p.rule(chain, meta(unix.NFT_META_L4PROTO, reg(0)), transport(at, 2, reg(1)), callBy(p.portMap(w, byPort), reg(0)))
}

// portMap is a map of protocol and ports to chains.
func (p *program) portMap(w way, list []element) string {
	var all []byte
	for _, e := range list {
		all = append(append(append(all, e.key...), e.last...), e.call...)
	}
	name := w.set("ports") + "-" + named(all)
	p.constants[name] = constantSet{
		spec: setSpec{
			name: name, keyType: concat(nftTypeProto, nftTypePort), keyLen: 8, fields: []uint32{1, 2},
			flags: unix.NFT_SET_MAP | unix.NFT_SET_INTERVAL | setConcat,
		}, elements: list,
	}
	return name
}

// named is a name for what something says: the same for the same only.
func named(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:9])
}

// run makes a chain of rules, or finds it: it is called after all that is in it.
func (p *program) run(w way, in *runtime.PolicyLeaf, parts []runtime.PolicyPart) string {
	name := w.set("run") + "-" + named(p.content(w, in, parts))
	if p.made[name] {
		return name
	}
	p.made[name] = true
	if old, ok := p.before.chains[name]; ok { // it is there as it would be written
		p.after.chains[name] = old
		p.nested(w, in, parts)
		return name
	}
	p.chain(name)
	p.parts(w, name, in, parts)
	return name
}

// nested keeps the chains that one that stays leads to.
func (p *program) nested(w way, in *runtime.PolicyLeaf, parts []runtime.PolicyPart) {
	for i := range parts {
		if part := &parts[i]; part.From != runtime.NoSide || part.To != runtime.NoSide {
			p.run(w, in, []runtime.PolicyPart{{From: runtime.NoSide, To: runtime.NoSide, Rules: part.Rules}})
		}
	}
}

// content is all by which two runs can differ.
func (p *program) content(w way, in *runtime.PolicyLeaf, parts []runtime.PolicyPart) []byte {
	b := []byte(w.chain())
	if in != nil {
		b = append(append(b, in.Proto), append(u16(in.Ports.First), u16(in.Ports.Last)...)...)
	}
	number := func(side int) {
		n := ^uint32(0)
		if side != runtime.NoSide {
			n = p.numbers[side]
		}
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, part := range parts {
		number(part.From)
		number(part.To)
		for _, i := range part.Rules {
			r := &p.policy.Rules[i]
			number(r.From)
			number(r.To)
			b = append(append(b, r.Text...), 0)
		}
	}
	return b
}

// oneRule writes a rule of the policy in all ways in which a packet can match it.
func (p *program) oneRule(w way, chain string, in *runtime.PolicyLeaf, number int) {
	r := &p.policy.Rules[number]
	end := w.ending(counterName(r.Text), r.Allow)
	for _, service := range w.services(r, in) {
		for _, from := range p.side(w, r.From, w.back) {
			for _, to := range p.side(w, r.To, !w.back) {
				p.rule(chain, then(service, from, to, end)...)
			}
		}
	}
}

// ending is what a rule does.
func (w way) ending(counter string, allow bool) []expression {
	switch {
	case w.back && allow:
		return []expression{goTo(w.set("answer"))}
	case w.back:
		return []expression{goTo(w.set("forget"))}
	case allow:
		return []expression{countIn(counter), goTo(w.set("allowed"))}
	}
	return []expression{countIn(counter), discard()}
}

// side gives the ways in which an address can be on a side.
func (p *program) side(w way, side int, dest bool) [][]expression {
	if side == runtime.NoSide || p.sides[side].Any {
		return [][]expression{nil}
	}
	s, f := &p.sides[side], w.family
	at := f.source
	if dest {
		at = f.dest
	}
	var out [][]expression
	if s.Living {
		number := constant(reg(0), binary.BigEndian.AppendUint32(nil, p.numbers[side])...)
		out = append(out, []expression{number, network(at, f.size, reg(1)), inSet(memberSet(f), reg(0))})
	}
	list := p.nets[f.index()][side]
	if len(list) > fewNets {
		return append(out, []expression{network(at, f.size, reg(0)), inSet(p.netSet(f, side), reg(0))})
	}
	for len(list) > 0 {
		match := []expression{network(at, f.size, reg(0)), compare(unix.NFT_CMP_GTE, reg(0), list[0].key...)}
		if list = list[1:]; len(list) > 0 && list[0].end {
			match = append(match, compare(unix.NFT_CMP_LT, reg(0), list[0].key...))
			list = list[1:]
		}
		out = append(out, match)
	}
	return out
}

// netSets makes sets of the subnets of sides that have several. A side that has others has another number.
func (p *program) netSets() {
	for i := range families {
		f := &families[i]
		p.nets[i] = make([][]element, len(p.sides))
		for side := range p.sides {
			list := f.intervals(p.sides[side].Nets)
			if p.nets[i][side] = list; len(list) > fewNets {
				name := p.netSet(f, side)
				p.constants[name] = constantSet{setSpec{name: name, keyType: f.nftType, keyLen: f.size, flags: unix.NFT_SET_INTERVAL}, list}
			}
		}
	}
}

func (p *program) netSet(f *family, side int) string {
	return fmt.Sprintf("nets%d-%s", p.numbers[side], f.suffix)
}

// proto is a protocol as the family has it: 1 in rules is ICMP of both.
func (f *family) proto(p uint8) byte {
	if p == unix.IPPROTO_ICMP {
		return f.icmp
	}
	return p
}

// services gives the ways in which a packet, one that a leaf is about, can have a rule's protocol and port. An answer has the port as its source.
func (w way) services(r *runtime.PolicyRule, in *runtime.PolicyLeaf) [][]expression {
	if len(r.Protos) == 0 {
		return [][]expression{nil}
	}
	at := uint32(2)
	if w.back {
		at = 0
	}
	protos := r.Protos
	if in != nil {
		protos = []uint8{in.Proto}
	}
	var out [][]expression
	for _, proto := range protos {
		var match []expression
		if in == nil {
			match = w.protoIs(w.proto(proto))
		}
		if len(r.Ports) == 0 || in != nil && slices.ContainsFunc(r.Ports, func(p runtime.PortRange) bool { return p.First <= in.Ports.First && in.Ports.Last <= p.Last }) {
			out = append(out, match)
			continue
		}
		for _, ports := range r.Ports {
			first, last := u16(ports.First), u16(ports.Last)
			load := transport(at, 2, w.spare())
			switch {
			case in != nil && (ports.Last < in.Ports.First || in.Ports.Last < ports.First):
			case ports.First == ports.Last:
				out = append(out, then(match, load, is(w.spare(), first...)))
			default:
				out = append(out, then(match, load, compare(unix.NFT_CMP_GTE, w.spare(), first...), compare(unix.NFT_CMP_LTE, w.spare(), last...)))
			}
		}
	}
	return out
}

// memberSet has the members of all sides: a key is the number of a side and an address. With a set for each the kernel would look for
// every one of them in a list of all.
func memberSet(f *family) string { return "members" + f.suffix }

// memberID is an element of it.
type memberID struct {
	side uint32
	addr netip.Addr
}

func (m memberID) family() *family {
	if m.addr.Is4() {
		return &families[0]
	}
	return &families[1]
}

func (m memberID) element() element {
	return element{key: append(binary.BigEndian.AppendUint32(nil, m.side), m.addr.AsSlice()...)}
}

// membersOf collects those of all sides and unions.
func (p *program) membersOf() {
	add := func(number uint32, side int) {
		for _, a := range p.policy.Members[side] {
			p.after.members[memberID{number, a}] = struct{}{}
		}
	}
	for i := range p.policy.Sides {
		add(p.numbers[i], i)
	}
	for i, sides := range p.plan.Unions {
		for _, s := range sides {
			add(p.numbers[len(p.policy.Sides)+i], s)
		}
	}
}
