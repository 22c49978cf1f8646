package netlink

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	mnl "github.com/mdlayher/netlink"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// The filter of a namespace is one chain of one table, of the family ip, as `nft list table ip weave` shows it:
//
//	table ip weave {
//		chain multicast {
//			type filter hook input priority filter; policy accept;
//			tcp flags syn tcp option maxseg size set 1336     see clamp.go
//			ip daddr != 224.0.0.0/4 accept     nearly every packet ends here
//			ip protocol igmp accept
//			ip saddr 0.0.0.0 accept
//			ip saddr 10.2.1.0/24 accept        one for each source
//			iifname "ethwe" counter drop
//		}
//	}
//
// Accepting ends this chain only: chains of others still have their say. IGMP passes since a querier's address need not be
// in any subnet of the container (RFC 4541, section 2.1.1); 0.0.0.0 is who has no address yet (RFC 2131, RFC 3376).
const (
	filterTable = "weave"
	filterChain = "multicast"
)

// Where the fields are in the IPv4 header, in bytes (RFC 791, section 3.1).
const (
	ipProtocol = 9
	ipSource   = 12
	ipDest     = 16
)

// filterPatience bounds one look at, or change of, a namespace's netfilter: the library waits for an answer to every
// message, and the kernel may give one for all.
const filterPatience = 2 * time.Second

// firewall is a connection to a namespace's nf_tables, to be closed soon.
type firewall struct {
	*nftables.Conn
	chain *nftables.Chain
}

func (s *space) firewall() (*firewall, error) {
	deadline := func(c *mnl.Conn) error { return c.SetDeadline(time.Now().Add(filterPatience)) }
	conn, err := nftables.New(nftables.WithNetNSFd(int(s.file.Fd())), nftables.AsLasting(), nftables.WithSockOptions(deadline))
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	accept := nftables.ChainPolicyAccept
	return &firewall{conn, &nftables.Chain{
		Table: &nftables.Table{Name: filterTable, Family: nftables.TableFamilyIPv4}, Name: filterChain,
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &accept,
	}}, nil
}

func (f *firewall) close() { _ = f.CloseLasting() }

// look tells whether our chain is there, and how many chains our table has.
func (f *firewall) look() (there bool, chains int, err error) {
	list, err := f.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, 0, fmt.Errorf("list chains: %w", err)
	}
	for _, c := range list {
		if c.Table.Name == filterTable {
			chains++
			there = there || c.Name == filterChain
		}
	}
	return there, chains, nil
}

// filter shows the namespace's. A chain that somebody changed shows as a filter without sources, so that it is written anew.
func (s *space) filter() (runtime.Filter, error) {
	f, err := s.firewall()
	if err != nil {
		return runtime.Filter{}, err
	}
	defer f.close()
	there, _, err := f.look()
	if err != nil || !there {
		return runtime.Filter{}, err
	}
	rules, err := f.GetRules(f.chain.Table, f.chain)
	if err != nil {
		return runtime.Filter{}, fmt.Errorf("list rules: %w", err)
	}
	var sources []netip.Prefix
	for _, r := range rules {
		if p, ok := readSource(r.Exprs); ok && p != unspecified {
			sources = append(sources, p)
		}
	}
	seen := runtime.FilterFor(sources)
	switch {
	case sameRules(rules, s.filterRules(seen)) && s.clamped6(f):
		return seen, nil
	case len(sources) == 0 && len(rules) > 0:
		return runtime.Filter{}, nil // it is wanted without any
	}
	return runtime.Filter{On: true}, nil
}

// setFilter replaces the namespace's filter at one stroke, or takes it away.
func (s *space) setFilter(want runtime.Filter) error {
	f, err := s.firewall()
	if err != nil {
		return err
	}
	defer f.close()
	there, chains, err := f.look() // also where nf_tables is missing: a batch would get one answer for many questions
	switch {
	case err != nil || !want.On && !there:
		return err
	case want.On:
		f.AddTable(f.chain.Table)
		f.AddChain(f.chain)
		f.FlushChain(f.chain)
		for _, exprs := range s.filterRules(want) {
			f.AddRule(&nftables.Rule{Table: f.chain.Table, Chain: f.chain, Exprs: exprs})
		}
	case chains == 1:
		f.DelTable(f.chain.Table)
	default: // somebody put chains of theirs into a table of this name
		f.FlushChain(f.chain)
		f.DelChain(f.chain)
	}
	if err := errors.Join(f.Flush(), s.clamp6(f, want.On)); err != nil {
		return fmt.Errorf("change rules: %w", err)
	}
	return nil
}

var unspecified = netip.PrefixFrom(netip.IPv4Unspecified(), 32)

func (s *space) filterRules(f runtime.Filter) [][]expr.Any {
	accept, drop := &expr.Verdict{Kind: expr.VerdictAccept}, &expr.Verdict{Kind: expr.VerdictDrop}
	others := within(ipDest, runtime.Multicast())
	others[len(others)-1].(*expr.Cmp).Op = expr.CmpOpNeq
	rules := [][]expr.Any{
		append(others, accept),
		{load(ipProtocol, 1), equal([]byte{unix.IPPROTO_IGMP}), accept},
		append(within(ipSource, unspecified), accept),
	}
	for _, source := range f.Sources {
		rules = append(rules, append(within(ipSource, source), accept))
	}
	if s.clamps() {
		rules = append([][]expr.Any{clampRule(s.mtu, headers4)}, rules...)
	}
	inner := make([]byte, unix.IFNAMSIZ)
	copy(inner, runtime.Inner)
	last := []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1}, equal(inner)}
	return append(rules, append(last, &expr.Counter{}, drop))
}

// load puts bytes of the IPv4 header into register 1.
func load(offset, length uint32) expr.Any {
	return &expr.Payload{
		DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length,
	}
}

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: data}
}

// within matches an address of the IPv4 header.
func within(offset uint32, p netip.Prefix) []expr.Any {
	mask := &expr.Bitwise{
		SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: net.IPv4len,
		Mask: net.CIDRMask(p.Bits(), 8*net.IPv4len), Xor: make([]byte, net.IPv4len),
	}
	return []expr.Any{load(offset, net.IPv4len), mask, equal(p.Addr().AsSlice())}
}

// readSource reads what within wrote. Whether the rule does nothing else is left to sameRules.
func readSource(rule []expr.Any) (netip.Prefix, bool) {
	if len(rule) < 3 {
		return netip.Prefix{}, false
	}
	from, isPayload := rule[0].(*expr.Payload)
	mask, isMask := rule[1].(*expr.Bitwise)
	network, isCmp := rule[2].(*expr.Cmp)
	if !isPayload || !isMask || !isCmp || from.Offset != ipSource {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(network.Data)
	bits, length := net.IPMask(mask.Mask).Size()
	if !ok || !addr.Is4() || length != addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, bits), true
}

// sameRules compares rules as they are on the wire, but for what counters counted.
func sameRules(got []*nftables.Rule, want [][]expr.Any) bool {
	if len(got) != len(want) {
		return false
	}
	for i, r := range got {
		if len(r.Exprs) != len(want[i]) {
			return false
		}
		for j, e := range r.Exprs {
			if !sameExpr(e, want[i][j]) {
				return false
			}
		}
	}
	return true
}

func sameExpr(got, want expr.Any) bool {
	if _, counts := want.(*expr.Counter); counts {
		_, ok := got.(*expr.Counter)
		return ok
	}
	a, errA := expr.Marshal(unix.NFPROTO_IPV4, got)
	b, errB := expr.Marshal(unix.NFPROTO_IPV4, want)
	return errors.Join(errA, errB) == nil && bytes.Equal(a, b)
}

// resetFilters takes the filter from every namespace that one of the host's links leads to, as far as it can be found. The
// host's end has the namespace's inode in its name, but no way to it.
func (h *Host) resetFilters(links []vnl.Link) {
	left := map[string]bool{}
	for _, l := range links {
		if name := l.Attrs().Name; l.Type() == "veth" && strings.HasPrefix(name, runtime.HostPrefix) {
			left[name] = true
		}
	}
	for _, pattern := range []string{"/run/netns/*", "/var/run/netns/*", "/proc/[0-9]*/ns/net"} {
		paths, _ := filepath.Glob(pattern) // the pattern is right: there is no other error
		for _, path := range paths {
			if len(left) == 0 {
				return
			}
			var st unix.Stat_t
			name := ""
			if unix.Stat(path, &st) == nil {
				name = runtime.HostVeth(runtime.Identity{Dev: uint64(st.Dev), Inode: st.Ino})
			}
			if !left[name] {
				continue
			}
			delete(left, name)
			if err := h.resetFilter(path); err != nil {
				h.log.Warn("cannot remove the multicast filter", "in", path, "err", err)
			}
		}
	}
}

// resetFilter takes the filter from one namespace, if the interface in it is ours.
func (h *Host) resetFilter(path string) error {
	inside, err := h.enter(runtime.Target{Text: path, Path: path})
	if err != nil {
		return err
	}
	defer inside.close()
	seen, err := h.look(inside)
	if err != nil || !seen.Present || !seen.Filter.On {
		return err
	}
	return inside.setFilter(runtime.Filter{})
}
