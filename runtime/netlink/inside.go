package netlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Inside makes the namespace that this process is in have what a says, on an interface that is there already and leads
// somewhere else than to a bridge: a TAP. Addresses that a does not name go. Without any the interface is left as it is
// and only what would outlive it is removed. A namespace without a default route in the family of a gateway gets one through
// that, if it has an address of the family.
func Inside(ctx context.Context, a runtime.Attachment, gateways []netip.Addr, log *slog.Logger) ([]string, error) {
	h, err := Open(Config{MTU: a.MTU}, log)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	h.direct, h.service, h.space.mtu = true, a.Service, h.MTU()
	seen, err := h.lookDirect()
	if err != nil {
		return nil, err
	}
	if a.MTU == 0 {
		a.MTU = seen.MTU
	}
	a.Target.ID = h.space.id
	if len(a.Addresses) == 0 {
		seen = runtime.Seen{Filter: seen.Filter}
	} else if !seen.Present {
		return nil, fmt.Errorf("there is no interface %s", runtime.Inner)
	}
	warnings, err := h.perform(ctx, runtime.Plan(a, "", seen), h.space, h.tolerance(a))
	if err == nil && len(a.Addresses) > 0 {
		fitSuperFrames(h.space, runtime.Inner, a.MTU)
		for _, g := range gateways {
			ours := func(p netip.Prefix) bool { return p.Addr().Is4() == g.Is4() }
			if slices.ContainsFunc(a.Addresses, ours) {
				err = errors.Join(err, h.space.defaultRoute(g))
			}
		}
	}
	return warnings, err
}

// defaultRoute leads what has no other way to a neighbour on our interface.
func (s *space) defaultRoute(gateway netip.Addr) error {
	link, err := s.LinkByName(runtime.Inner)
	if err != nil {
		return err
	}
	all := &vnl.Route{Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Table: unix.RT_TABLE_MAIN}
	family := vnl.FAMILY_V4
	if gateway.Is6() {
		all.Dst, family = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, vnl.FAMILY_V6
	}
	have, err := retry(func() ([]vnl.Route, error) {
		return s.RouteListFiltered(family, all, vnl.RT_FILTER_DST|vnl.RT_FILTER_TABLE)
	})
	if err != nil || len(have) > 0 {
		return err
	}
	all.LinkIndex, all.Gw, all.Flags = link.Attrs().Index, gateway.AsSlice(), int(vnl.FLAG_ONLINK)
	if err := s.RouteAdd(all); err != nil {
		return fmt.Errorf("add default route: %w", err)
	}
	return nil
}

// lookDirect shows this namespace as if the other end of its interface were as it is wanted.
func (h *Host) lookDirect() (runtime.Seen, error) {
	var seen runtime.Seen
	var err error
	if seen.Filter, err = h.space.filter(); err != nil {
		h.log.Debug("cannot look at the multicast filter", "err", err)
	}
	link, err := h.space.LinkByName(runtime.Inner)
	if gone(err) {
		return seen, nil
	}
	if err != nil {
		return seen, fmt.Errorf("look for %s: %w", runtime.Inner, err)
	}
	attrs := link.Attrs()
	seen.Present, seen.Up, seen.MTU = true, up(attrs), attrs.MTU
	copy(seen.MAC[:], attrs.HardwareAddr)
	seen.Port = runtime.Port{Present: true, Up: true, Hairpin: true, MTU: attrs.MTU}
	if seen.Addresses, err = h.space.addresses(link); err != nil {
		return seen, err
	}
	return seen, h.lookRoutes(h.space, link, &seen)
}
