package netlink

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"weave/runtime"
)

// Inside makes the namespace that this process is in have what a says, on an interface that is there already and leads
// somewhere else than to a bridge: a TAP. Addresses that a does not name go. Without any the interface is left as it is
// and only what would outlive it is removed. service is an address that gets a route, invalid for none.
func Inside(ctx context.Context, a runtime.Attachment, service netip.Addr, log *slog.Logger) ([]string, error) {
	h, err := Open(Config{MTU: a.MTU}, log)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	h.direct, h.service = true, service
	seen, err := h.lookDirect()
	if err != nil {
		return nil, err
	}
	if a.MTU == 0 {
		a.MTU = seen.MTU
	}
	a.Target.ID, a.Service = h.space.id, service
	if len(a.Addresses) == 0 {
		seen = runtime.Seen{Filter: seen.Filter}
	} else if !seen.Present {
		return nil, fmt.Errorf("there is no interface %s", runtime.Inner)
	}
	warnings, err := h.perform(ctx, runtime.Plan(a, "", seen), h.space, h.tolerance(a))
	if err == nil && len(a.Addresses) > 0 {
		fitSuperFrames(h.space, runtime.Inner, a.MTU)
	}
	return warnings, err
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
