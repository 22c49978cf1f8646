package netlink

import (
	"encoding/binary"
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A namespace whose interface somebody gave a larger MTU than the network has would offer TCP a segment size that nothing
// between takes: bridges and veths drop what is too long without a word. So what the other end says it takes is lowered where it
// comes in (MSS, RFC 9293, section 3.7.1): for IPv4 in the chain of filter.go, for IPv6 in one of its own.
//
//	table ip6 weave {
//		chain mss {
//			type filter hook input priority filter; policy accept;
//			tcp flags syn tcp option maxseg size set 1316
//		}
//	}
//
// The kernel raises none (net/netfilter/nft_exthdr.c).
const clampChain = "mss"

// TCP's numbers (RFC 9293, section 3.1 and 3.2), and what of an IP packet is no payload of TCP, in bytes.
const (
	tcpFlags, tcpSYN     = 13, 2
	tcpOptionMSS, mssAt  = 2, 2
	headers4, headers6   = 20 + 20, 40 + 20
	smallestClampableMTU = 576
)

// clampRule lowers the MSS of a SYN to what fits an MTU.
func clampRule(mtu, headers int) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, equal([]byte{unix.IPPROTO_TCP}),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlags, Len: 1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 1, Mask: []byte{tcpSYN}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: []byte{0}},
		&expr.Immediate{Register: unix.NFT_REG_1, Data: binary.BigEndian.AppendUint16(nil, uint16(mtu-headers))},
		&expr.Exthdr{SourceRegister: unix.NFT_REG_1, Type: tcpOptionMSS, Offset: mssAt, Len: 2, Op: expr.ExthdrOpTcpopt},
	}
}

// clamps tells whether the namespace is to have them.
func (s *space) clamps() bool { return s.mtu >= smallestClampableMTU }

func clamp6() (*nftables.Table, *nftables.Chain) {
	accept := nftables.ChainPolicyAccept
	table := &nftables.Table{Name: filterTable, Family: nftables.TableFamilyIPv6}
	return table, &nftables.Chain{
		Table: table, Name: clampChain, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &accept,
	}
}

// clamped6 tells whether what is there for IPv6 is as it should be; also where the kernel has none.
func (s *space) clamped6(f *firewall) bool {
	_, chain := clamp6()
	if _, err := f.ListChainsOfTableFamily(nftables.TableFamilyIPv6); err != nil || !s.clamps() {
		return true
	}
	rules, err := f.GetRules(chain.Table, chain)
	return err == nil && sameRules(rules, [][]expr.Any{clampRule(s.mtu, headers6)})
}

// clamp6 makes what is for IPv6, or takes it away. A kernel without IPv6 in nf_tables has none.
func (s *space) clamp6(f *firewall, on bool) error {
	if _, err := f.ListChainsOfTableFamily(nftables.TableFamilyIPv6); err != nil {
		return nil
	}
	table, chain := clamp6()
	f.AddTable(table)
	if !on || !s.clamps() {
		f.DelTable(table)
	} else {
		f.AddChain(chain)
		f.FlushChain(chain)
		f.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: clampRule(s.mtu, headers6)})
	}
	if err := f.Flush(); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return nil
}
