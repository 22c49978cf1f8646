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

// Inspect shows what is in the target's namespace and on its host side. A namespace without an interface of ours is no
// error: Present is false. One that has gone is ErrNoTarget.
func (h *Host) Inspect(t runtime.Target) (runtime.Seen, error) {
	seen, err := h.inspect(t)
	if err != nil && !errors.Is(err, ErrForeign) {
		return seen, fmt.Errorf("inspect %s: %w", t, err)
	}
	return seen, nil
}

// Lives reports whether an attached namespace is still there: its host-side interface goes with it.
func (h *Host) Lives(t runtime.Target) bool {
	if _, err := h.space.LinkByName(runtime.HostVeth(t.ID)); err == nil {
		return true
	}
	_, err := h.inspect(t)
	if !errors.Is(err, ErrNoTarget) {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guardDetached(t, nil)
	return false
}

// Interface shows what users see of a namespace: its interface's MAC and addresses (without link-local ones); false if it
// has none. It looks at less than Inspect, which matters where there are hundreds.
func (h *Host) Interface(t runtime.Target) (runtime.MAC, []netip.Prefix, bool, error) {
	inside, err := h.enter(t)
	if err != nil {
		return runtime.MAC{}, nil, false, fmt.Errorf("inspect %s: %w", t, err)
	}
	defer inside.close()
	link, err := inside.LinkByName(runtime.Inner)
	if err != nil {
		if gone(err) {
			err = nil
		}
		return runtime.MAC{}, nil, false, err
	}
	var mac runtime.MAC
	copy(mac[:], link.Attrs().HardwareAddr)
	addresses, err := inside.addresses(link)
	return mac, addresses, err == nil, err
}

// Bridge shows the bridge's MAC and addresses (without link-local ones); false if there is none.
func (h *Host) Bridge() (runtime.MAC, []netip.Prefix, bool, error) {
	b, err := h.bridge()
	if err != nil || !b.Present {
		return runtime.MAC{}, nil, false, err
	}
	link, err := h.space.LinkByName(h.cfg.Bridge)
	if err != nil {
		return runtime.MAC{}, nil, false, fmt.Errorf("inspect bridge: %w", err)
	}
	addresses, err := h.space.addresses(link)
	return b.MAC, addresses, true, err
}

func (h *Host) inspect(t runtime.Target) (runtime.Seen, error) {
	inside, err := h.enter(t)
	if err != nil {
		return runtime.Seen{}, err
	}
	defer inside.close()
	return h.look(inside)
}

// enter opens the target's namespace, if it still is the one that was resolved.
func (h *Host) enter(t runtime.Target) (*space, error) {
	s, err := openSpace(t.Path)
	if err != nil {
		return nil, explain(t, err)
	}
	if !t.ID.IsZero() && s.id != t.ID {
		s.close()
		return nil, fmt.Errorf("%w: %s now is another network namespace", ErrNoTarget, t)
	}
	s.mtu = h.MTU()
	return s, nil
}

// look shows a namespace; ErrForeign if there is an interface in our place that does not lead to the host's.
func (h *Host) look(inside *space) (runtime.Seen, error) {
	var seen runtime.Seen
	port, err := h.space.LinkByName(runtime.HostVeth(inside.id))
	switch {
	case err == nil:
		if seen.Port, err = h.port(port); err != nil {
			return seen, err
		}
	case !gone(err):
		return seen, fmt.Errorf("look for %s: %w", runtime.HostVeth(inside.id), err)
	}
	if seen.Filter, err = inside.filter(); err != nil { // a kernel without it: changing it will say so
		h.log.Debug("cannot look at the multicast filter", "in", inside.id, "err", err)
	}
	link, err := inside.LinkByName(runtime.Inner)
	if gone(err) {
		return seen, nil
	}
	if err != nil {
		return seen, fmt.Errorf("look for %s: %w", runtime.Inner, err)
	}
	a := link.Attrs()
	if !seen.Port.Present || link.Type() != "veth" || a.ParentIndex != port.Attrs().Index || port.Attrs().ParentIndex != a.Index {
		return seen, fmt.Errorf("%w: %s in this container; if no other weave daemon needs it, remove it with: ip link delete %[2]s",
			ErrForeign, runtime.Inner)
	}
	seen.Present, seen.Up, seen.MTU = true, up(a), a.MTU
	copy(seen.MAC[:], a.HardwareAddr)
	if seen.Addresses, err = inside.addresses(link); err != nil {
		return seen, err
	}
	return seen, h.lookRoutes(inside, link, &seen)
}

// lookRoutes shows which of our routes an interface has.
func (h *Host) lookRoutes(inside *space, link vnl.Link, seen *runtime.Seen) error {
	var err error
	if seen.MulticastRoute, err = inside.hasRoute(link, runtime.Multicast()); err == nil && h.service.IsValid() {
		seen.Service, err = inside.hasRoute(link, netip.PrefixFrom(h.service, h.service.BitLen()))
	}
	return err
}

func (h *Host) port(link vnl.Link) (runtime.Port, error) {
	a := link.Attrs()
	p := runtime.Port{Present: true, Up: up(a), MTU: a.MTU}
	var err error
	if p.Master, err = h.master(link); err != nil || p.Master == "" {
		return p, err
	}
	info, err := retry(func() (vnl.Protinfo, error) { return h.space.LinkGetProtinfo(link) })
	p.Hairpin = err == nil && info.Hairpin // a port of something that is no bridge has none
	return p, nil
}

// addresses are the interface's, without link-local ones, in the kernel's order.
func (s *space) addresses(link vnl.Link) ([]netip.Prefix, error) {
	list, err := retry(func() ([]vnl.Addr, error) { return s.AddrList(link, vnl.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		p, ok := prefix(a.IPNet)
		if ok && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()) {
			out = append(out, p)
		}
	}
	return out, nil
}

func (s *space) hasRoute(link vnl.Link, to netip.Prefix) (bool, error) {
	filter := &vnl.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_MAIN}
	list, err := retry(func() ([]vnl.Route, error) {
		return s.RouteListFiltered(vnl.FAMILY_V4, filter, vnl.RT_FILTER_OIF|vnl.RT_FILTER_TABLE)
	})
	if err != nil {
		return false, fmt.Errorf("list routes of %s: %w", link.Attrs().Name, err)
	}
	for _, r := range list {
		if p, ok := prefix(r.Dst); ok && p == to {
			return true, nil
		}
	}
	return false, nil
}

// routes are the host's, for warnings.
func (h *Host) routes() ([]runtime.Route, error) {
	list, err := retry(func() ([]vnl.Route, error) {
		return h.space.RouteListFiltered(vnl.FAMILY_ALL, &vnl.Route{Table: unix.RT_TABLE_MAIN}, vnl.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	var out []runtime.Route
	for _, r := range list {
		p, ok := prefix(r.Dst)
		if !ok || r.Type != unix.RTN_UNICAST || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		device := "several interfaces"
		if link, err := h.space.LinkByIndex(r.LinkIndex); err == nil {
			device = link.Attrs().Name
		}
		out = append(out, runtime.Route{Prefix: p, Device: device})
	}
	return out, nil
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if !ok {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr.Unmap(), bits), true
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func up(a *vnl.LinkAttrs) bool { return a.Flags&net.FlagUp != 0 }

// gone reports that an interface is not there.
func gone(err error) bool {
	var missing vnl.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}

// retry repeats a dump that changes of the kernel's tables interrupted.
func retry[T any](list func() (T, error)) (T, error) {
	const attempts = 20
	var out T
	var err error
	for range attempts {
		if out, err = list(); !errors.Is(err, vnl.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, err
}
