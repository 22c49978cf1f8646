package netlink

import (
	"context"
	"errors"
	"fmt"

	"weave/runtime"
)

// MTU is that of the bridge, and of attachments that do not say, in bytes.
func (h *Host) MTU() int { return int(h.mtu.Load()) }

// SetMTU changes it, for the bridge and what leads out of it. Attachments that are there keep theirs until Resize.
func (h *Host) SetMTU(mtu int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	grows := int64(mtu) > h.mtu.Swap(int64(mtu))
	tunnels := tunnelNames(h.cfg.Bridge)
	var errs []error
	if h.wireguard != nil && grows { // what carries never takes less than what it carries
		errs = append(errs, h.wireguard.resize(mtu))
	}
	for _, name := range append([]string{h.cfg.Bridge, h.uplink}, tunnels[:]...) {
		link, err := h.space.LinkByName(name)
		if gone(err) {
			continue
		}
		if err == nil {
			err = h.space.LinkSetMTU(link, mtu)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("set mtu %d of %s: %w", mtu, name, err))
		}
	}
	if h.wireguard != nil && !grows {
		errs = append(errs, h.wireguard.resize(mtu))
	}
	return errors.Join(errs...)
}

// Resize gives an attachment's interface another MTU, at both ends. TCP inside notices at once.
func (h *Host) Resize(ctx context.Context, a runtime.Attachment, mtu int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	inside, err := h.enter(a.Target)
	if err != nil {
		return fmt.Errorf("resize %s: %w", a.Target, err)
	}
	defer inside.close()
	inside.mtu = mtu
	seen, err := h.look(inside)
	if err != nil || !seen.Present {
		return err
	}
	a.Target.ID, a.MTU, a.Service = inside.id, mtu, h.service
	a.Addresses, a.MulticastRoute = seen.Addresses, seen.MulticastRoute
	if len(a.Addresses) == 0 {
		return nil
	}
	if _, err := h.perform(ctx, runtime.Plan(a, h.cfg.Bridge, seen), inside, nil); err != nil {
		return fmt.Errorf("resize %s: %w", a.Target, err)
	}
	fitSuperFrames(inside, runtime.Inner, a.MTU)
	return nil
}
