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

// The packet filter stands behind the policies: should somebody flush those, or take an interface out of IPsec, nothing
// passes in clear all the same. It is a table of its own:
//
//	table inet weave-esp {
//		set peers4 { type ipv4_addr; elements = { the peers that there are shields for } }
//		set peers6 { type ipv6_addr; ... }
//		chain input  { type filter hook input priority raw;  udp dport 6784 ip saddr @peers4 meta ipsec missing counter drop; ... }
//		chain output { type filter hook output priority raw; udp dport 6784 ip daddr @peers4 rt ipsec missing counter drop; ... }
//	}
const (
	shieldSuffix = "-esp"
	// NFT_META_SECPATH and NFT_RT_XFRM (include/uapi/linux/netfilter/nf_tables.h).
	metaSecpath = expr.MetaKey(25)
	rtXfrm      = expr.RtKey(4)
)

// shieldState is what the host remembers of the shields.
type shieldState struct {
	port   uint16
	peers  []netip.Addr // of whom the rules are, sorted; nil: not known
	warned bool
}

func (h *Host) shieldTable() *nftables.Table {
	return &nftables.Table{Name: h.cfg.Bridge + shieldSuffix, Family: nftables.TableFamilyINet}
}

// guardShields makes the rules those of peers. Where the kernel has not what it takes, policies are all there is.
func (h *Host) guardShields(port uint16, peers []netip.Addr) {
	peers = slices.Compact(slices.SortedFunc(slices.Values(peers), netip.Addr.Compare))
	if h.shields.peers != nil && h.shields.port == port && slices.Equal(h.shields.peers, peers) {
		return
	}
	err := h.writeShieldRules(port, peers)
	if err != nil && !h.shields.warned && len(peers) > 0 {
		h.shields.warned = true
		h.log.Warn("the packet filter cannot see to it that VXLAN is encrypted; IPsec's policies alone do", "err", err)
	}
	h.shields.port, h.shields.peers = port, peers
	if peers == nil {
		h.shields.peers = []netip.Addr{}
	}
}

// keepShieldRules writes the rules anew if somebody has changed them.
func (h *Host) keepShieldRules() error {
	if len(h.shields.peers) == 0 {
		return nil
	}
	conn, err := h.netfilter()
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	table, whole := h.shieldTable(), 0
	for _, c := range chains {
		if c.Table.Name != table.Name {
			continue
		}
		if rules, err := conn.GetRules(table, c); err == nil && len(rules) == len(shieldFamilies) {
			whole++
		}
	}
	if whole == len(shieldChains) {
		return nil
	}
	h.log.Info("the rules of encrypted VXLAN were made again")
	return h.writeShieldRules(h.shields.port, h.shields.peers)
}

// shieldChain is one direction's.
type shieldChain struct {
	name    string
	hook    *nftables.ChainHook
	source  bool     // peers are where packets come from
	missing expr.Any // loads whether IPsec has, or will have, to do with a packet
}

var shieldChains = []shieldChain{
	{"input", nftables.ChainHookInput, true, &expr.Meta{Key: metaSecpath, Register: unix.NFT_REG_1}},
	{"output", nftables.ChainHookOutput, false, &expr.Rt{Key: rtXfrm, Register: unix.NFT_REG_1}},
}

// shieldFamily is where the addresses are in one's header.
type shieldFamily struct {
	proto        byte
	source, dest uint32
	size         uint32
	key          nftables.SetDatatype
	set          string
}

var shieldFamilies = []shieldFamily{
	{unix.NFPROTO_IPV4, ipSource, ipDest, 4, nftables.TypeIPAddr, "peers4"},
	{unix.NFPROTO_IPV6, offsetSource6, offsetDest6, 16, nftables.TypeIP6Addr, "peers6"},
}

// writeShieldRules puts the whole table in the place of what is there, at one stroke; no peers, no table.
func (h *Host) writeShieldRules(port uint16, peers []netip.Addr) error {
	conn, err := h.netfilter()
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	conn.DelTable(conn.AddTable(h.shieldTable()))
	if len(peers) > 0 {
		err = h.addShieldTable(conn, port, peers)
	}
	if err := errors.Join(err, conn.Flush()); err != nil {
		return fmt.Errorf("change the nftables table %s: %w", h.shieldTable().Name, err)
	}
	return nil
}

func (h *Host) addShieldTable(conn *nftables.Conn, port uint16, peers []netip.Addr) error {
	table := conn.AddTable(h.shieldTable())
	sets := make([]*nftables.Set, len(shieldFamilies))
	for i, f := range shieldFamilies {
		sets[i] = &nftables.Set{Table: table, Name: f.set, ID: uint32(i + 1), KeyType: f.key}
		var members []nftables.SetElement
		for _, a := range peers {
			if uint32(a.BitLen()/8) == f.size {
				members = append(members, nftables.SetElement{Key: a.AsSlice()})
			}
		}
		if err := conn.AddSet(sets[i], members); err != nil {
			return err
		}
	}
	for _, c := range shieldChains {
		chain := conn.AddChain(&nftables.Chain{
			Table: table, Name: c.name, Type: nftables.ChainTypeFilter, Hooknum: c.hook, Priority: nftables.ChainPriorityRaw,
		})
		for i, f := range shieldFamilies {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: shieldRule(c, f, sets[i], port)})
		}
	}
	return nil
}

func shieldRule(c shieldChain, f shieldFamily, set *nftables.Set, port uint16) []expr.Any {
	offset := f.dest
	if c.source {
		offset = f.source
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equal([]byte{f.proto}),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, equal([]byte{unix.IPPROTO_UDP}),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binaryutil.BigEndian.PutUint16(port)),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set.Name, SetID: set.ID},
		c.missing, equal([]byte{0}),
		&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop},
	}
}
