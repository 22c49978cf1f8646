package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Numbers of the rules by which answers to containers find the bridge.
const (
	rulePriority = 6783
	tableBase    = 0x57650000 // "We", and the last two bytes of the service address
)

// EnsureService gives the bridge its service address, where the host answers
// containers without being part of their subnets: it has scope link. Attached
// namespaces get a route to it. What comes from it goes where the host's routes
// say except for the default route, and else through the bridge; unless who
// answers there is bound to the bridge, and the kernel takes in what it has no
// route back to: then there are no rules, since with any the kernel looks up a
// route for the source of each packet of the host, which is 2 or 3 percent of a
// round trip by the kernel path. Idempotent.
func (h *Host) EnsureService(addr netip.Addr, bound bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	link, err := h.space.LinkByName(h.cfg.Bridge)
	if err != nil {
		return fmt.Errorf("service address: %w", err)
	}
	one := netip.PrefixFrom(addr, addr.BitLen())
	if err := h.dropServices(link, addr); err != nil {
		return err
	}
	err = h.space.AddrAdd(link, &vnl.Addr{IPNet: ipNet(one), Scope: unix.RT_SCOPE_LINK})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("service address %s: %w", addr, err)
	}
	h.service = addr
	if bound && h.lenient() {
		for _, r := range serviceRules(addr) {
			_ = h.space.RuleDel(r) // not there: good
		}
		return nil
	}
	table := serviceTable(addr)
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	err = h.space.RouteReplace(&vnl.Route{LinkIndex: link.Attrs().Index, Dst: all, Scope: vnl.SCOPE_LINK, Table: table})
	if err != nil {
		return fmt.Errorf("route of the service address: %w", err)
	}
	for _, r := range serviceRules(addr) {
		if err := h.space.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("rule of the service address: %w", err)
		}
	}
	return nil
}

// lenient tells that the kernel takes from the bridge what it has no route back to (rp_filter in
// Documentation/networking/ip-sysctl.rst). The loose check of sources, a default of many systems, passes everything on a host
// with a default route; on our bridge it is switched off.
func (h *Host) lenient() bool {
	own := "net/ipv4/conf/" + h.cfg.Bridge + "/rp_filter"
	all, err := h.space.readSysctl("net/ipv4/conf/all/rp_filter")
	if err != nil || all != "0" {
		return false
	}
	if value, err := h.space.readSysctl(own); err != nil || value == "1" {
		return false
	}
	return h.space.sysctl(own, "0") == nil
}

func serviceTable(a netip.Addr) int {
	b := a.As4()
	return tableBase | int(b[2])<<8 | int(b[3])
}

// serviceRules are looked at in their order: the host's own routes, for clients
// that are reached by them, then the table that has the bridge only.
func serviceRules(a netip.Addr) []*vnl.Rule {
	own, bridge := vnl.NewRule(), vnl.NewRule()
	for i, r := range []*vnl.Rule{own, bridge} {
		r.Family, r.Src, r.Priority = unix.AF_INET, ipNet(netip.PrefixFrom(a, 32)), rulePriority+i
	}
	own.Table, own.SuppressPrefixlen = unix.RT_TABLE_MAIN, 0
	bridge.Table = serviceTable(a)
	return []*vnl.Rule{own, bridge}
}

// Name is the bridge's.
func (h *Host) Name() string { return h.cfg.Bridge }

// dropServices removes service addresses of the bridge with their rules, but for
// one: the peer may have had another name.
func (h *Host) dropServices(bridge vnl.Link, keep netip.Addr) error {
	list, err := retry(func() ([]vnl.Addr, error) { return h.space.AddrList(bridge, vnl.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", bridge.Attrs().Name, err)
	}
	var errs []error
	for _, a := range list {
		p, ok := prefix(a.IPNet)
		if !ok || !runtime.ServiceRange().Contains(p.Addr()) || p.Addr() == keep {
			continue
		}
		for _, r := range serviceRules(p.Addr()) {
			_ = h.space.RuleDel(r) // not there: good
		}
		errs = append(errs, h.space.AddrDel(bridge, &a))
	}
	return errors.Join(errs...)
}
