package netlink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// The rules of exposed addresses are in one table named after the bridge:
//
//	table inet weave {
//		chain postrouting { type nat hook postrouting priority srcnat; policy accept; ... }
//		chain forward     { type filter hook forward priority filter; policy accept; ... }
//	}
//
// A chain that accepts does not keep another from dropping, so that rules that accept also stand at the head of every
// other chain of the forward hook whose policy is to drop; ours are known by their comment.
const (
	offsetSource4, offsetDest4 = 12, 16 // in the IPv4 header (RFC 791)
	offsetSource6, offsetDest6 = 8, 24  // in the IPv6 header (RFC 8200)

	settleRules = 100 * time.Millisecond // after others' last change
)

func (h *Host) exposeTable() *nftables.Table {
	return &nftables.Table{Name: h.cfg.Bridge, Family: nftables.TableFamilyINet}
}

// mark is the comment of our rules in others' chains.
func (h *Host) mark() []byte {
	return userdata.AppendString(nil, userdata.TypeComment, "made by weave for "+h.cfg.Bridge)
}

// Expose gives the bridge these addresses and no others but its service address, and makes the rules for them. It is
// idempotent, and all or nothing as far as rules go.
func (h *Host) Expose(exposed []runtime.Exposure) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exposed = slices.Clone(exposed)
	if err := h.exposeAddresses(exposed); err != nil {
		return fmt.Errorf("expose: %w", err)
	}
	if err := h.exposeRules(exposed); err != nil {
		return fmt.Errorf("expose: %w", err)
	}
	return nil
}

func (h *Host) exposeAddresses(exposed []runtime.Exposure) error {
	link, err := h.space.LinkByName(h.cfg.Bridge)
	if err != nil {
		return err
	}
	have, err := h.space.addresses(link)
	if err != nil {
		return err
	}
	var want []netip.Prefix
	for _, e := range exposed {
		want = append(want, e.Prefix)
	}
	for _, p := range runtime.Remove(have, want) {
		if p.Addr().IsLinkLocalUnicast() { // the service address
			continue
		}
		if err := h.space.address(runtime.Step{Op: runtime.RemoveAddress, Prefix: p}, link); err != nil {
			return fmt.Errorf("remove address %s: %w", p, err)
		}
	}
	var mac runtime.MAC
	copy(mac[:], link.Attrs().HardwareAddr)
	for _, p := range runtime.Remove(want, have) {
		err := h.space.address(runtime.Step{Op: runtime.AddAddress, Prefix: p}, link)
		if err != nil && p.Addr().Is6() && noIPv6(err) {
			h.log.Warn("an address was not exposed: IPv6 is switched off", "address", p)
			continue
		}
		if err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
		if err := h.space.send(link.Attrs().Index, runtime.Announcement(mac, p.Addr())); err != nil {
			h.log.Debug("an address was not announced", "address", p, "err", err)
		}
	}
	return nil
}

// netfilter opens the host's nf_tables.
func (h *Host) netfilter() (*nftables.Conn, error) {
	deadline := func(c *mnl.Conn) error { return c.SetDeadline(time.Now().Add(filterPatience)) }
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.space.file.Fd())), nftables.AsLasting(), nftables.WithSockOptions(deadline))
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return conn, nil
}

// exposeRules makes the rules in one transaction.
func (h *Host) exposeRules(exposed []runtime.Exposure) error {
	conn, err := h.netfilter()
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	foreign, err := h.foreignChains(conn)
	if err != nil {
		return err
	}
	if err := h.removeRules(conn, foreign); err != nil {
		return err
	}
	foreign = slices.DeleteFunc(foreign, permits)
	rules := runtime.ExposeRules(h.cfg.Bridge, exposed)
	if len(rules) > 0 {
		h.addRules(conn, rules, foreign)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("change nf_tables: %w", err)
	}
	return nil
}

// permits tells that a chain lets pass what its rules do not forbid.
func permits(c *nftables.Chain) bool {
	return c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop
}

// foreignChains are others' chains that decide what is forwarded.
func (h *Host) foreignChains(conn *nftables.Conn) ([]*nftables.Chain, error) {
	all, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	return slices.DeleteFunc(all, func(c *nftables.Chain) bool {
		families := []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet}
		forward := c.Type == nftables.ChainTypeFilter && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward
		return !forward || !slices.Contains(families, c.Table.Family) || c.Table.Name == h.cfg.Bridge
	}), nil
}

// removeRules takes away all that is ours.
func (h *Host) removeRules(conn *nftables.Conn, foreign []*nftables.Chain) error {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == h.cfg.Bridge {
			conn.DelTable(t)
		}
	}
	for _, c := range foreign {
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return fmt.Errorf("list rules of %s %s: %w", c.Table.Name, c.Name, err)
		}
		for _, r := range rules {
			if string(r.UserData) == string(h.mark()) {
				if err := conn.DelRule(r); err != nil {
					return fmt.Errorf("remove a rule of %s %s: %w", c.Table.Name, c.Name, err)
				}
			}
		}
	}
	return nil
}

func (h *Host) addRules(conn *nftables.Conn, rules []runtime.Rule, foreign []*nftables.Chain) {
	table := conn.AddTable(h.exposeTable())
	chains := map[runtime.Place]*nftables.Chain{
		runtime.Postrouting: conn.AddChain(&nftables.Chain{
			Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		}),
		runtime.Forward: conn.AddChain(&nftables.Chain{
			Table: table, Name: "forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		}),
	}
	for _, r := range rules {
		if c := chains[r.Place]; c != nil {
			conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: ruleExprs(r, true), UserData: h.mark()})
		}
	}
	for _, c := range foreign {
		for _, r := range rules {
			v4, v6 := r.Families()
			fits := c.Table.Family == nftables.TableFamilyINet || (v4 && c.Table.Family == nftables.TableFamilyIPv4) || (v6 && c.Table.Family == nftables.TableFamilyIPv6)
			if r.Place == runtime.Foreign && fits {
				conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: ruleExprs(r, c.Table.Family == nftables.TableFamilyINet), UserData: h.mark()})
			}
		}
	}
}

// ruleExprs is a rule in nf_tables' own terms. In tables of both families it has to say which one it means.
func ruleExprs(r runtime.Rule, both bool) []expr.Any {
	var out []expr.Any
	if v4, v6 := r.Families(); both && v4 != v6 {
		family := byte(unix.NFPROTO_IPV4)
		if v6 {
			family = unix.NFPROTO_IPV6
		}
		out = append(out, &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equal([]byte{family}))
	}
	for _, m := range []struct {
		key  expr.MetaKey
		name string
	}{{expr.MetaKeyIIFNAME, r.In}, {expr.MetaKeyOIFNAME, r.Out}} {
		if m.name != "" {
			out = append(out, &expr.Meta{Key: m.key, Register: unix.NFT_REG_1}, equal(append([]byte(m.name), 0)))
		}
	}
	for _, m := range []struct {
		p      netip.Prefix
		source bool
		op     expr.CmpOp
	}{{r.Source, true, expr.CmpOpEq}, {r.NotSource, true, expr.CmpOpNeq}, {r.Destination, false, expr.CmpOpEq}, {r.NotDest, false, expr.CmpOpNeq}} {
		if m.p.IsValid() {
			out = append(out, matchPrefix(m.p, m.source, m.op)...)
		}
	}
	out = append(out, &expr.Counter{})
	switch r.Verdict {
	case runtime.Masquerade:
		return append(out, &expr.Masq{})
	case runtime.Return:
		return append(out, &expr.Verdict{Kind: expr.VerdictReturn})
	case runtime.DropIt:
		return append(out, &expr.Verdict{Kind: expr.VerdictDrop})
	}
	return append(out, &expr.Verdict{Kind: expr.VerdictAccept})
}

// matchPrefix compares an address of the header with a subnet.
func matchPrefix(p netip.Prefix, source bool, op expr.CmpOp) []expr.Any {
	offset := uint32(offsetDest4)
	switch {
	case p.Addr().Is4() && source:
		offset = offsetSource4
	case p.Addr().Is6() && source:
		offset = offsetSource6
	case p.Addr().Is6():
		offset = offsetDest6
	}
	size := uint32(p.Addr().BitLen() / 8)
	mask := ipNet(p).Mask
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: p.Masked().Addr().AsSlice()},
	}
}

// WatchRules asserts the rules again when somebody has flushed them, or made a chain that lacks them. It returns nil when
// ctx ends.
func (h *Host) WatchRules(ctx context.Context) error {
	conn, err := mnl.Dial(unix.NETLINK_NETFILTER, &mnl.Config{NetNS: int(h.space.file.Fd())})
	if err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	defer conn.Close()
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for ctx.Err() == nil {
		_, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS): // told too much at once: something has changed, then
			return fmt.Errorf("watch nf_tables: %w", err)
		}
		if !h.quiet(ctx, conn) {
			return nil
		}
		if err := h.assertRules(); err != nil {
			h.log.Warn("rules could not be asserted", "err", err)
		}
	}
	return nil
}

// quiet waits until nothing has been told for a moment; false when ctx has ended.
func (h *Host) quiet(ctx context.Context, conn *mnl.Conn) bool {
	for ctx.Err() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(settleRules))
		if _, err := conn.Receive(); err != nil {
			break
		}
	}
	if ctx.Err() == nil {
		_ = conn.SetReadDeadline(time.Time{})
	}
	return ctx.Err() == nil
}

// assertRules makes the rules anew if some are missing.
func (h *Host) assertRules() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	whole, err := h.rulesWhole()
	if err != nil || whole {
		return err
	}
	h.log.Info("rules of exposed addresses were missing, and are made again")
	return h.exposeRules(h.exposed)
}

// rulesWhole counts our rules where they belong.
func (h *Host) rulesWhole() (bool, error) {
	conn, err := h.netfilter()
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.CloseLasting() }()
	want := map[runtime.Place]int{}
	rules := runtime.ExposeRules(h.cfg.Bridge, h.exposed)
	for _, r := range rules {
		want[r.Place]++
	}
	chains, err := conn.ListChains()
	if err != nil {
		return false, err
	}
	ours := 0
	for _, c := range chains {
		if c.Table.Name == h.cfg.Bridge && c.Table.Family == nftables.TableFamilyINet {
			n, err := h.marked(conn, c)
			if err != nil {
				return false, err
			}
			ours += n
		}
	}
	if ours != want[runtime.Postrouting]+want[runtime.Forward] {
		return false, nil
	}
	foreign, err := h.foreignChains(conn)
	for _, c := range slices.DeleteFunc(foreign, permits) {
		n, err := h.marked(conn, c)
		if err != nil || (n == 0) != (want[runtime.Foreign] == 0) {
			return false, err
		}
	}
	return err == nil, err
}

func (h *Host) marked(conn *nftables.Conn, c *nftables.Chain) (int, error) {
	rules, err := conn.GetRules(c.Table, c)
	n := 0
	for _, r := range rules {
		if string(r.UserData) == string(h.mark()) {
			n++
		}
	}
	return n, err
}

// Exposed is the bridge as weave ps shows it: its MAC and addresses but for the service address; false without any.
func (h *Host) Exposed() (runtime.MAC, []netip.Prefix, bool) {
	mac, addresses, there, err := h.Bridge()
	if err != nil || !there || len(addresses) == 0 {
		return mac, nil, false
	}
	return mac, slices.DeleteFunc(addresses, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() }), true
}
