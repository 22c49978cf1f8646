package netlink

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Ports of containers are guarded in a table of the family bridge, named after the bridge, before the bridge learns who is where:
//
//	prerouting    of a port that is in "ports", a frame has a source in "macs", and no second VLAN tag
//	  ├► arp      a sender in "macs" and "arp4"
//	  ├► ip4      a source in "arp4"
//	  └► ip6      a source in "ip6"; neighbour advertisements are of one, tell the own MAC; routers do not advertise themselves
//
// Elements are the port's name with a MAC, or an address. The port without an address is in too: who has none yet asks for one.
const guardPriority = -310 // before anybody else

var bigEndian = binary.BigEndian

// guard is what a port may call itself.
type guard struct {
	mac   runtime.MAC
	addrs []netip.Addr
}

func guardOf(mac runtime.MAC, list []netip.Prefix) guard {
	g := guard{mac: mac, addrs: []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified(), linkLocal(mac)}}
	for _, p := range list {
		g.addrs = append(g.addrs, p.Addr())
	}
	return g
}

// linkLocal is the address that follows from a MAC (RFC 4291, appendix A).
func linkLocal(m runtime.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// Sets of the guard.
var guardSets = []setSpec{
	{name: "ports", keyType: nftTypeIfname, keyLen: unix.IFNAMSIZ},
	{name: "macs", keyType: concat(nftTypeIfname, nftTypeEther), keyLen: unix.IFNAMSIZ + 8},
	{name: "arp4", keyType: concat(nftTypeIfname, nftTypeIPv4), keyLen: unix.IFNAMSIZ + 4},
	{name: "ip6", keyType: concat(nftTypeIfname, nftTypeIPv6), keyLen: unix.IFNAMSIZ + 16},
}

// elements are the guard's in a set.
func (g guard) elements(port, set string) []element {
	name := ifname(port)
	with := func(b []byte) element { return element{key: append(slices.Clone(name), b...)} }
	var out []element
	switch set {
	case "ports":
		return []element{{key: name}}
	case "macs":
		return []element{with(append(g.mac[:], 0, 0))}
	}
	for _, a := range g.addrs {
		if a.Is4() == (set == "arp4") && !slices.ContainsFunc(out, func(e element) bool { return string(e.key) == string(with(a.AsSlice()).key) }) {
			out = append(out, with(a.AsSlice()))
		}
	}
	return out
}

// guardPort makes a guard, or takes it away: nil.
func (h *Host) guardPort(port string, want *guard) error {
	had, there := h.guards[port]
	if want == nil && !there || want != nil && there && want.mac == had.mac && slices.Equal(want.addrs, had.addrs) {
		return nil
	}
	if h.guards == nil {
		h.guards = map[string]guard{}
	}
	first, last := len(h.guards) == 0, want == nil && len(h.guards) == 1
	delete(h.guards, port)
	if want != nil {
		h.guards[port] = *want
	}
	if first || last {
		return h.writeGuards()
	}
	b := &batch{table: h.cfg.Bridge}
	for _, s := range guardSets {
		if there {
			b.elements(unix.NFT_MSG_DELSETELEM, s.name, had.elements(port, s.name))
		}
		if want != nil {
			b.elements(unix.NFT_MSG_NEWSETELEM, s.name, want.elements(port, s.name))
		}
	}
	if err := h.commit(b); err != nil {
		return h.writeGuards() // somebody changed it
	}
	return nil
}

// guardAttached guards the port of an attachment that wants it, and no other. restore makes it as it was. Where the kernel cannot, that
// is a warning.
func (h *Host) guardAttached(a runtime.Attachment, seen runtime.Seen) (warnings []string, restore func()) {
	port := runtime.HostVeth(a.Target.ID)
	var before, want *guard
	if had, ok := h.guards[port]; ok {
		before = &had
	}
	mac := a.MAC
	if mac.IsZero() {
		mac = seen.MAC
	}
	if a.Guarded && !mac.IsZero() {
		g := guardOf(mac, runtime.Add(seen.Addresses, a.Addresses))
		want = &g
	}
	if err := h.guardPort(port, want); err != nil {
		warnings = append(warnings, fmt.Sprintf("%s can use addresses of others: nf_tables of the kernel is needed to keep it from that (%v)", a.Target, err))
	}
	return warnings, func() {
		if err := h.guardPort(port, before); err != nil {
			h.log.Debug("a port's guard was not restored", "port", port, "err", err)
		}
	}
}

// guardDetached leaves a guarded port these addresses; without any it has no guard.
func (h *Host) guardDetached(t runtime.Target, left []netip.Prefix) {
	port := runtime.HostVeth(t.ID)
	had, ok := h.guards[port]
	if !ok {
		return
	}
	var want *guard
	if len(left) > 0 {
		g := guardOf(had.mac, left)
		want = &g
	}
	if err := h.guardPort(port, want); err != nil {
		h.log.Warn("a port's guard was not changed", "port", port, "err", err)
	}
}

// guardAll begins anew, with all that is wanted at one stroke.
func (h *Host) guardAll(wanted []runtime.Attachment) error {
	h.guards = map[string]guard{}
	for _, a := range wanted {
		if a.Guarded && !a.MAC.IsZero() {
			h.guards[runtime.HostVeth(a.Target.ID)] = guardOf(a.MAC, a.Addresses)
		}
	}
	return h.writeGuards()
}

// writeGuards makes the table anew.
func (h *Host) writeGuards() error {
	seen, err := h.lookAtTable(h.cfg.Bridge)
	if len(h.guards) == 0 && (err != nil || !seen.there) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("guard ports: %w", err)
	}
	b := &batch{table: h.cfg.Bridge}
	if seen.there {
		b.delTable()
	}
	if len(h.guards) > 0 {
		h.guardBatch(b)
	}
	if err := h.commit(b); err != nil {
		return fmt.Errorf("guard ports: %w", err)
	}
	return nil
}

func (h *Host) guardBatch(b *batch) {
	b.newTable()
	b.newCounter("spoofed")
	for _, s := range guardSets {
		b.newSet(s)
		var all []element
		for port, g := range h.guards {
			all = append(all, g.elements(port, s.name)...)
		}
		b.elements(unix.NFT_MSG_NEWSETELEM, s.name, all)
	}
	for _, c := range []string{"guard", "arp", "ip4", "ip6", "drop"} {
		b.newChain(c)
	}
	b.newBase("prerouting", 0, guardPriority)
	name := meta(unix.NFT_META_IIFNAME, reg(0))
	b.rule("prerouting", name, inSet("ports", reg(0)), goTo("guard"))
	own := func(set string, load expression) []expression {
		return []expression{name, load, notInSet(set, reg(0)), goTo("drop")}
	}
	b.rule("guard", own("macs", link(6, 6, reg(4)))...)
	kind := meta(unix.NFT_META_PROTOCOL, reg(0)) // behind one VLAN tag, which the kernel has taken out
	for _, next := range []struct {
		etherType uint16
		chain     string
	}{{unix.ETH_P_ARP, "arp"}, {unix.ETH_P_IP, "ip4"}, {unix.ETH_P_IPV6, "ip6"}, {unix.ETH_P_8021Q, "drop"}, {unix.ETH_P_8021AD, "drop"}} {
		b.rule("guard", kind, is(reg(0), u16(next.etherType)...), goTo(next.chain))
	}
	// RFC 826: types and lengths, then the sender's MAC at 8 and address at 14.
	b.rule("arp", network(0, 6, reg(0)), isNot(reg(0), 0, 1, 8, 0, 6, 4), goTo("drop"))
	b.rule("arp", own("macs", network(8, 6, reg(4)))...)
	b.rule("arp", own("arp4", network(14, 4, reg(4)))...)
	b.rule("ip4", own("arp4", network(ipSource, 4, reg(4)))...)
	b.rule("ip6", own("ip6", network(offsetSource6, 16, reg(4)))...)
	b.guardNeighbours(name)
	b.rule("drop", countIn("spoofed"), discard())
}

// guardNeighbours writes the rules of neighbour discovery (RFC 4861, section 4): the target at 8, the first option at 24.
func (b *batch) guardNeighbours(name expression) {
	message := func(kind byte) []expression {
		return []expression{
			meta(unix.NFT_META_L4PROTO, reg(0)), is(reg(0), unix.IPPROTO_ICMPV6), transport(0, 1, reg(0)), is(reg(0), kind),
		}
	}
	const routerAdvert, ask, advert, redirect = 134, 135, 136, 137
	for _, kind := range []byte{routerAdvert, redirect} {
		b.rule("ip6", then(message(kind), goTo("drop"))...)
	}
	b.rule("ip6", then(message(advert), name, transport(8, 16, reg(4)), notInSet("ip6", reg(0)), goTo("drop"))...)
	for kind, option := range map[byte]byte{ask: 1, advert: 2} {
		b.rule("ip6", then(message(kind), transport(24, 1, reg(0)), is(reg(0), option),
			name, transport(26, 6, reg(4)), notInSet("macs", reg(0)), goTo("drop"))...)
	}
}

// Spoofed counts the frames that were dropped because a container called itself something else.
func (h *Host) Spoofed() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.guards) == 0 {
		return 0
	}
	var n uint64
	err := h.dump(h.cfg.Bridge, unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, func(ad *mnl.AttributeDecoder) {
		if name, count := readCounter(ad); name == "spoofed" {
			n = count.Packets
		}
	})
	if err != nil {
		h.log.Debug("cannot read the guard's counter", "err", err)
	}
	return n
}
