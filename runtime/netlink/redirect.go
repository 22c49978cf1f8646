package netlink

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Where somebody else has a port of all addresses, we listen at another one, and
// a table of the host, named after the bridge, leads there:
//
//	table ip weave-service {
//		chain containers {
//			type nat hook prerouting priority dstnat; policy accept;
//			ip daddr 169.254.64.1 ip protocol udp udp dport 53 dnat to 169.254.64.1:40053
//			...                                  tcp
//		}
//		chain host { type nat hook output priority dstnat; ...the same... }
//	}
func (h *Host) redirectTable() *nftables.Table {
	return &nftables.Table{Name: h.cfg.Bridge + "-service", Family: nftables.TableFamilyIPv4}
}

// RedirectService leads what is for a port of the service address, of UDP and
// TCP, to another one; with the same port it leads nothing anywhere any more.
func (h *Host) RedirectService(port, to uint16) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.redirect(h.service, port, to); err != nil {
		return fmt.Errorf("lead port %d to %d: %w", port, to, err)
	}
	return nil
}

func (h *Host) redirect(service netip.Addr, port, to uint16) error {
	deadline := func(c *mnl.Conn) error { return c.SetDeadline(time.Now().Add(filterPatience)) }
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.space.file.Fd())), nftables.AsLasting(), nftables.WithSockOptions(deadline))
	if err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	table := h.redirectTable()
	tables, err := conn.ListTablesOfFamily(table.Family)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == table.Name {
			conn.DelTable(table)
		}
	}
	if port != to {
		conn.AddTable(table)
		for name, hook := range map[string]*nftables.ChainHook{"containers": nftables.ChainHookPrerouting, "host": nftables.ChainHookOutput} {
			c := conn.AddChain(&nftables.Chain{
				Table: table, Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityNATDest,
			})
			for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
				conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: redirectRule(service, proto, port, to)})
			}
		}
	}
	return conn.Flush()
}

// redirectRule has the destination port at byte 2 of both UDP's header (RFC 768)
// and TCP's (RFC 9293).
func redirectRule(service netip.Addr, proto byte, port, to uint16) []expr.Any {
	rule := append(within(ipDest, netip.PrefixFrom(service, service.BitLen())), load(ipProtocol, 1), equal([]byte{proto}))
	return append(rule,
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binary.BigEndian.AppendUint16(nil, port)),
		&expr.Immediate{Register: unix.NFT_REG_1, Data: service.AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: unix.NFT_REG_1, RegProtoMin: unix.NFT_REG_2},
	)
}
