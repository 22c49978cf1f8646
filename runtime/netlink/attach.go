package netlink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Attach gives the namespace its interface and adds the addresses that it does not have yet; those it has stay. It either
// does all or leaves everything as it was. Warnings tell what works but may surprise: an address that overlaps with a
// route of the host, IPv6 addresses that the namespace does not take beside IPv4 ones, or multicast that is not filtered.
func (h *Host) Attach(ctx context.Context, a runtime.Attachment) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	warnings, err := h.attach(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", a.Target, err)
	}
	return warnings, nil
}

func (h *Host) attach(ctx context.Context, a runtime.Attachment) ([]string, error) {
	if len(a.Addresses) == 0 {
		return nil, errors.New("no addresses to attach with")
	}
	if err := h.refuseHost(a.Target); err != nil {
		return nil, err
	}
	if err := h.needBridge(); err != nil {
		return nil, err
	}
	inside, err := h.enter(a.Target)
	if err != nil {
		return nil, err
	}
	defer inside.close()
	seen, err := h.look(inside)
	if err != nil {
		return nil, err
	}
	if a.MTU == 0 {
		a.MTU = h.MTU()
		if seen.Present {
			a.MTU = seen.MTU
		}
	}
	fresh := runtime.Remove(a.Addresses, seen.Addresses)
	a.Service = h.service
	warnings, err := h.apply(ctx, a, seen, inside)
	if err != nil || len(fresh) == 0 {
		return warnings, err
	}
	routes, err := h.routes()
	if err != nil {
		h.log.Warn("cannot tell whether addresses overlap with routes", "err", err)
	}
	return append(warnings, runtime.Overlaps(fresh, routes, h.cfg.Bridge)...), nil
}

// apply makes the namespace have what a wants beside what it has.
func (h *Host) apply(ctx context.Context, a runtime.Attachment, seen runtime.Seen, inside *space) ([]string, error) {
	a.Target.ID = inside.id
	a.Addresses = runtime.Add(seen.Addresses, a.Addresses)
	return h.perform(ctx, runtime.Plan(a, h.cfg.Bridge, seen), inside, h.tolerance(a))
}

// tolerance turns it into a warning that IPv6 addresses cannot be had beside IPv4 ones.
func (h *Host) tolerance(a runtime.Attachment) func(runtime.Step, error) string {
	return func(s runtime.Step, err error) string {
		if s.Op != runtime.AddAddress || is4(s.Prefix) || !slices.ContainsFunc(a.Addresses, is4) {
			return ""
		}
		switch {
		case a.MTU < minIPv6MTU:
			return fmt.Sprintf("address %s was not added: IPv6 needs an MTU of %d, %s has %d", s.Prefix, minIPv6MTU, a.Target, a.MTU)
		case noIPv6(err):
			return fmt.Sprintf("address %s was not added: IPv6 is switched off in %s (%v)", s.Prefix, a.Target, err)
		}
		return ""
	}
}

func is4(p netip.Prefix) bool { return p.Addr().Is4() }

// minIPv6MTU is what every link that carries IPv6 has at least (RFC 8200, section 5), in bytes.
const minIPv6MTU = 1280

// noIPv6 tells the kernel's answers where IPv6 is switched off (EACCES) or left out of the kernel.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}

// Detach removes the addresses; nil stands for all. With the last one the interface goes. What is not there is no error.
func (h *Host) Detach(ctx context.Context, t runtime.Target, addresses []netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.detach(ctx, t, addresses); err != nil {
		return fmt.Errorf("detach %s: %w", t, err)
	}
	return nil
}

func (h *Host) detach(ctx context.Context, t runtime.Target, addresses []netip.Prefix) error {
	if err := h.refuseHost(t); err != nil {
		return err
	}
	inside, err := h.enter(t)
	if err != nil {
		return err
	}
	defer inside.close()
	seen, err := h.look(inside)
	if err != nil {
		return err
	}
	if !seen.Present { // but the filter may have outlived its interface
		seen, addresses = runtime.Seen{Filter: seen.Filter}, nil
	}
	t.ID = inside.id
	want := runtime.Attachment{Target: t, MTU: seen.MTU, MulticastRoute: seen.MulticastRoute}
	if addresses != nil {
		want.Addresses = runtime.Remove(seen.Addresses, addresses)
		if len(want.Addresses) == len(seen.Addresses) {
			return nil
		}
	}
	warnings, err := h.perform(ctx, runtime.Plan(want, h.cfg.Bridge, seen), inside, nil)
	for _, w := range warnings {
		h.log.Warn(w, "target", t)
	}
	if err != nil || len(want.Addresses) == 0 {
		return err
	}
	// The kernel takes an IPv4 subnet's other addresses away with its first, unless told not to, which may have failed.
	if seen, err = h.look(inside); err != nil {
		return err
	}
	_, err = h.perform(ctx, runtime.Plan(want, h.cfg.Bridge, seen), inside, nil)
	return err
}

// Reconcile makes the host what it should be after the daemon was away: the bridge, the uplink if it is there, and
// every attachment; what is as it should be is not touched. Attachments whose namespace has gone are returned. An
// attachment that cannot be repaired does not keep the others from it; the errors come joined.
func (h *Host) Reconcile(ctx context.Context, wanted []runtime.Attachment) (lost []runtime.Attachment, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ensureBridge(ctx); err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	var errs []error
	if h.uplink != "" {
		if err := h.addUplink(ctx); err != nil && !gone(err) {
			errs = append(errs, err)
		}
	}
	for _, a := range wanted {
		warnings, err := h.attach(ctx, a)
		switch {
		case errors.Is(err, ErrNoTarget) && !h.repairPort(ctx, a):
			lost = append(lost, a)
		case errors.Is(err, ErrNoTarget):
			h.log.Debug("namespace lives, its name does not", "target", a.Target)
		case err != nil:
			errs = append(errs, fmt.Errorf("reconcile %s: %w", a.Target, err))
		}
		for _, w := range warnings {
			h.log.Warn(w, "target", a.Target)
		}
	}
	return lost, errors.Join(errs...)
}

// repairPort sees to the host's side of a namespace that cannot be entered by its name any more. It reports whether the
// namespace lives: its host-side interface would have gone with it.
func (h *Host) repairPort(ctx context.Context, a runtime.Attachment) bool {
	link, err := h.space.LinkByName(runtime.HostVeth(a.Target.ID))
	if err != nil || link.Type() != "veth" {
		return false
	}
	port, err := h.port(link)
	if err != nil {
		return true
	}
	a.MTU = port.MTU
	seen := runtime.Seen{
		Present: true, Up: true, MAC: a.MAC, MTU: a.MTU, Addresses: a.Addresses, MulticastRoute: a.MulticastRoute, Port: port,
	}
	var steps []runtime.Step
	for _, s := range runtime.Plan(a, h.cfg.Bridge, seen) {
		if s.Namespace.IsZero() {
			steps = append(steps, s)
		}
	}
	if _, err := h.perform(ctx, steps, nil, nil); err != nil {
		h.log.Warn("cannot repair the host's side", "target", a.Target, "err", err)
	}
	return true
}
