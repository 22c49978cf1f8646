package netlink

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The guard of the kernel path is a table of its own, which outlives the daemon as the devices do:
//
//	table inet weave-fastdp {
//		set on4 { type ipv4_addr; elements = { the peers on this path, or being tried for it } }
//		set on6 { type ipv6_addr; ... }
//		chain input {
//			type filter hook input priority raw; policy accept;
//			meta nfproto ipv4 udp dport 6784 ip saddr != @on4 counter drop
//			meta nfproto ipv6 udp dport 6784 ip6 saddr != @on6 counter drop
//		}
//		chain prerouting {                                     only where the host tracks connections
//			type filter hook prerouting priority raw; policy accept;
//			meta nfproto ipv4 udp dport 6784 ip saddr @on4 counter notrack
//			meta nfproto ipv6 udp dport 6784 ip6 saddr @on6 counter notrack
//		}
//		chain output {                                         as well
//			type filter hook output priority raw; policy accept;
//			meta nfproto ipv4 udp dport 6784 ip daddr @on4 counter notrack
//			meta nfproto ipv6 udp dport 6784 ip6 daddr @on6 counter notrack
//		}
//	}
//
// Where anything translates addresses, as services and published ports do, the kernel tracks connections, and each flow of
// containers would fill a place of its table for nothing: VXLAN gives each a source port of its own. Where nothing does, two chains
// less are a twentieth of a round trip.
//
// What it lets in is not proven to come from there: a network in which hosts can send with others' addresses needs a
// password, and then clear text goes only to trusted subnets.
const guardSuffix = "-fastdp"

// fastState is what the host remembers of the kernel path, for when somebody flushes its rules.
type fastState struct {
	port    int // 0: it is not used
	guarded bool
	tracked bool // the host tracks connections, or did
	refuses bool // the kernel takes no notrack
	allowed []netip.Addr
}

// chains are those of the table that are needed, and that the kernel takes.
func (s *fastState) chains() []guardChain {
	if s.refuses || !s.tracked {
		return guardChains[:1]
	}
	return guardChains
}

// tracking tells whether the host tracks connections: then there is one at least, that of the daemons. Whoever has the
// kernel do it, it does so for the whole namespace.
func (h *Host) tracking() bool {
	count, err := h.space.readSysctl("net/netfilter/nf_conntrack_count") // Documentation/networking/nf_conntrack-sysctl.rst
	return err == nil && count != "0"
}

func (h *Host) guardTable() *nftables.Table {
	return &nftables.Table{Name: h.cfg.Bridge + guardSuffix, Family: nftables.TableFamilyINet}
}

// startGuard makes the table, unless an earlier daemon left one: whom that lets in is on the path still.
func (h *Host) startGuard() error {
	h.fast.guarded = true
	h.fast.tracked = h.tracking()
	seen, err := h.lookAtGuard()
	if err != nil {
		return err
	}
	if seen.there {
		h.fast.allowed = seen.allowed
	}
	if seen.whole {
		return nil
	}
	return h.writeGuard()
}

// stopGuard takes the table away.
func (h *Host) stopGuard() {
	h.fast = fastState{}
	conn, err := h.netfilter()
	if err != nil {
		return // a kernel without nf_tables has none
	}
	defer func() { _ = conn.CloseLasting() }()
	conn.DelTable(h.guardTable())
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		h.log.Debug("cannot remove the kernel path's rules", "err", err)
	}
}

// guardSeen is what is there of the table.
type guardSeen struct {
	there, whole bool
	allowed      []netip.Addr
}

// lookAtGuard shows the table; whole says that all rules stand.
func (h *Host) lookAtGuard() (guardSeen, error) {
	var seen guardSeen
	conn, err := h.netfilter()
	if err != nil {
		return seen, err
	}
	defer func() { _ = conn.CloseLasting() }()
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return seen, fmt.Errorf("list chains: %w (nf_tables is needed)", err)
	}
	table := h.guardTable()
	seen.whole = true
	for _, g := range h.fast.chains() {
		at := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == table.Name && c.Name == g.name })
		if at < 0 {
			seen.whole = false
			continue
		}
		seen.there = true
		rules, err := conn.GetRules(table, chains[at])
		if err != nil {
			return seen, fmt.Errorf("list rules of %s: %w", table.Name, err)
		}
		seen.whole = seen.whole && sameRules(rules, h.guardRules(g, nil, nil))
	}
	if !seen.there {
		return seen, nil
	}
	for _, name := range []string{"on4", "on6"} {
		elements, err := conn.GetSetElements(&nftables.Set{Table: table, Name: name})
		if err != nil {
			seen.whole = false
			continue
		}
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				seen.allowed = append(seen.allowed, a)
			}
		}
	}
	return seen, nil
}

// keepGuard writes the table anew if somebody has changed it.
func (h *Host) keepGuard() error {
	if !h.fast.guarded {
		return nil
	}
	h.fast.tracked = h.fast.tracked || h.tracking()
	seen, err := h.lookAtGuard()
	if err != nil {
		return err
	}
	byAddr := func(a, b netip.Addr) int { return a.Compare(b) }
	slices.SortFunc(seen.allowed, byAddr)
	want := slices.SortedFunc(slices.Values(h.fast.allowed), byAddr)
	if seen.whole && slices.Equal(seen.allowed, want) {
		return nil
	}
	h.log.Info("the kernel path's rules were made again")
	return h.writeGuard()
}

// writeGuard puts the whole table in the place of what is there, at one stroke.
func (h *Host) writeGuard() error {
	conn, err := h.netfilter()
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	table := conn.AddTable(h.guardTable())
	conn.DelTable(table)
	table = conn.AddTable(h.guardTable())
	on4 := &nftables.Set{Table: table, Name: "on4", KeyType: nftables.TypeIPAddr}
	on6 := &nftables.Set{Table: table, Name: "on6", KeyType: nftables.TypeIP6Addr, ID: 2}
	var members4, members6 []nftables.SetElement
	for _, a := range h.fast.allowed {
		if e := (nftables.SetElement{Key: a.AsSlice()}); a.Is4() {
			members4 = append(members4, e)
		} else {
			members6 = append(members6, e)
		}
	}
	if err := errors.Join(conn.AddSet(on4, members4), conn.AddSet(on6, members6)); err != nil {
		return fmt.Errorf("change the nftables table %s: %w", table.Name, err)
	}
	for _, g := range h.fast.chains() {
		chain := conn.AddChain(&nftables.Chain{
			Table: table, Name: g.name, Type: nftables.ChainTypeFilter, Hooknum: g.hook, Priority: nftables.ChainPriorityRaw,
		})
		for _, exprs := range h.guardRules(g, on4, on6) {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		}
	}
	err = conn.Flush()
	if err != nil && h.fast.tracked && !h.fast.refuses {
		h.fast.refuses = true
		return h.writeGuard()
	}
	if err != nil {
		return fmt.Errorf("change the nftables table %s: %w", table.Name, err)
	}
	return nil
}

// guardChain is one of the table's chains: what is done with VXLAN whose source, or destination, is one of the peers, or none.
type guardChain struct {
	name     string
	hook     *nftables.ChainHook
	at4, at6 uint32 // of the address in the IP header
	others   bool   // none of the peers
	do       expr.Any
}

var guardChains = []guardChain{
	{"input", nftables.ChainHookInput, ipSource, offsetSource6, true, &expr.Verdict{Kind: expr.VerdictDrop}},
	{"prerouting", nftables.ChainHookPrerouting, ipSource, offsetSource6, false, &expr.Notrack{}},
	{"output", nftables.ChainHookOutput, ipDest, offsetDest6, false, &expr.Notrack{}},
}

// guardRules are the two rules of a chain; without sets, to compare with.
func (h *Host) guardRules(g guardChain, on4, on6 *nftables.Set) [][]expr.Any {
	rule := func(family byte, offset, size uint32, name string, set *nftables.Set) []expr.Any {
		lookup := &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: name, Invert: g.others}
		if set != nil {
			lookup.SetID = set.ID
		}
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equal([]byte{family}),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, equal([]byte{unix.IPPROTO_UDP}),
			&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			equal(binaryutil.BigEndian.PutUint16(uint16(h.fast.port))),
			&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
			lookup, &expr.Counter{}, g.do,
		}
	}
	return [][]expr.Any{
		rule(unix.NFPROTO_IPV4, g.at4, 4, "on4", on4),
		rule(unix.NFPROTO_IPV6, g.at6, 16, "on6", on6),
	}
}
