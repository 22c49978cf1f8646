package netlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// perform does the steps in order. If one fails, or ctx ends, those before it are taken back. inside is the namespace of
// steps that have one. tolerate may turn the error of a step into a warning.
func (h *Host) perform(ctx context.Context, steps []runtime.Step, inside *space, tolerate func(runtime.Step, error) string) ([]string, error) {
	var done []runtime.Step
	var warnings []string
	for _, s := range steps {
		err := ctx.Err()
		if err == nil {
			err = h.step(ctx, s, inside)
		}
		switch {
		case err == nil:
			h.log.Debug("step", "do", s.String())
			done = append(done, s)
			continue
		case ctx.Err() == nil && s.Optional():
			h.log.Debug("step skipped", "do", s.String(), "err", err)
			if s.Op == runtime.FilterMulticast {
				warnings = append(warnings, unfiltered(s, err))
			}
			continue
		case ctx.Err() == nil && tolerate != nil:
			if w := tolerate(s, err); w != "" {
				warnings = append(warnings, w)
				continue
			}
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", s, err), h.undo(done, inside))
	}
	return warnings, nil
}

// unfiltered tells what follows from a filter that could not be set.
func unfiltered(s runtime.Step, err error) string {
	if s.Value == (runtime.Filter{}).String() {
		return fmt.Sprintf("the nftables table %s of %s could not be removed: %v", filterTable, s.Namespace, err)
	}
	return fmt.Sprintf("multicast of other subnets can reach %s: nf_tables of the kernel is needed to keep it out (%v)", s.Namespace, err)
}

// undo takes back what was done. It goes on after errors: less that is left behind is better.
func (h *Host) undo(done []runtime.Step, inside *space) error {
	var errs []error
	for _, s := range runtime.Undo(done) {
		if err := h.step(context.Background(), s, inside); err != nil {
			errs = append(errs, fmt.Errorf("undo: %s: %w", s, err))
			continue
		}
		h.log.Debug("step undone", "do", s.String())
	}
	return errors.Join(errs...)
}

func (h *Host) step(ctx context.Context, s runtime.Step, inside *space) error {
	at := h.space
	if !s.Namespace.IsZero() {
		at = inside
	}
	switch s.Op {
	case runtime.CreateBridge:
		return h.createBridge(s)
	case runtime.CreateVeth:
		return h.createVeth(s, inside)
	case runtime.DeleteBridge, runtime.DeleteVeth:
		return h.delete(s.Link)
	case runtime.Tune:
		return at.sysctl(strings.ReplaceAll(s.Key, "%", s.Link), s.Value)
	case runtime.FilterMulticast:
		want, err := runtime.ParseFilter(s.Value)
		if err != nil {
			return err
		}
		return at.setFilter(want)
	}
	link, err := at.LinkByName(s.Link)
	if err != nil {
		return err
	}
	switch s.Op {
	case runtime.AddAddress, runtime.RemoveAddress:
		return at.address(s, link)
	case runtime.AddRoute, runtime.RemoveRoute:
		return at.route(s, link)
	case runtime.Announce:
		return h.announce(ctx, s, link, at)
	case runtime.JoinBridge:
		return h.join(s, link)
	case runtime.Isolate:
		return at.run(func() error { return setPort(link.Attrs().Index, uplinkPort) })
	}
	return at.set(s, link)
}

func (h *Host) createBridge(s runtime.Step) error {
	b := &vnl.Bridge{LinkAttrs: vnl.NewLinkAttrs()}
	b.Name, b.MTU = s.Link, s.MTU
	if !s.MAC.IsZero() {
		b.HardwareAddr = s.MAC[:]
	}
	if err := h.space.LinkAdd(b); err != nil {
		return err
	}
	// An MTU set after creation stays; otherwise the bridge would follow the smallest of its ports.
	if err := h.space.LinkSetMTU(b, s.MTU); err != nil {
		return errors.Join(err, h.delete(s.Link))
	}
	return nil
}

// createVeth makes the inner end where it belongs, so that it is never seen anywhere else.
func (h *Host) createVeth(s runtime.Step, inside *space) error {
	a := vnl.NewLinkAttrs()
	a.Name, a.MTU = s.Link, s.MTU
	v := vnl.NewVeth(a)
	v.PeerName, v.PeerMTU = s.Peer, uint32(s.MTU)
	v.PeerNamespace = vnl.NsFd(inside.file.Fd())
	if !s.MAC.IsZero() {
		v.PeerHardwareAddr = s.MAC[:]
	}
	if err := h.space.LinkAdd(v); err != nil {
		return err
	}
	fitSuperFrames(inside, s.Peer, s.MTU)
	return nil
}

func (h *Host) delete(name string) error {
	link, err := h.space.LinkByName(name)
	if err == nil {
		err = h.space.LinkDel(link)
	}
	if gone(err) {
		return nil
	}
	return err
}

func (h *Host) join(s runtime.Step, link vnl.Link) error {
	if s.Value == "" {
		return h.space.LinkSetNoMaster(link)
	}
	bridge, err := h.space.LinkByName(s.Value)
	if err != nil {
		return err
	}
	return h.space.LinkSetMaster(link, bridge)
}

func (s *space) set(step runtime.Step, link vnl.Link) error {
	switch step.Op {
	case runtime.SetMAC:
		mac, err := net.ParseMAC(step.Value)
		if err != nil {
			return err
		}
		return s.LinkSetHardwareAddr(link, mac)
	case runtime.SetMTU:
		mtu, err := strconv.Atoi(step.Value)
		if err != nil {
			return err
		}
		return s.LinkSetMTU(link, mtu)
	case runtime.SetHairpin:
		return s.LinkSetHairpin(link, step.Value == "on")
	case runtime.SetUp:
		if step.Value == "on" {
			return s.LinkSetUp(link)
		}
		return s.LinkSetDown(link)
	}
	return fmt.Errorf("unknown step %v", step.Op)
}

// address adds or removes one. IPv6 addresses are used at once: who gave them out saw to it that they are unique.
func (s *space) address(step runtime.Step, link vnl.Link) error {
	a := &vnl.Addr{IPNet: ipNet(step.Prefix)}
	if step.Op == runtime.RemoveAddress {
		err := s.AddrDel(link, a)
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil // it went with another one, or when the interface went down
		}
		return err
	}
	if step.Prefix.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	err := s.AddrAdd(link, a)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func (s *space) route(step runtime.Step, link vnl.Link) error {
	r := &vnl.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(step.Prefix), Scope: vnl.SCOPE_LINK}
	if step.Op == runtime.RemoveRoute {
		err := s.RouteDel(r)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	}
	err := s.RouteAdd(r)
	if errors.Is(err, unix.EEXIST) {
		return nil // through another interface: the container's own choice
	}
	return err
}

// announce sends once the bridge forwards: a port does so only after the kernel has noticed both ends to be up.
func (h *Host) announce(ctx context.Context, s runtime.Step, link vnl.Link, at *space) error {
	if !h.direct {
		if err := h.awaitForwarding(ctx, runtime.HostVeth(s.Namespace)); err != nil {
			return err
		}
	}
	var mac runtime.MAC
	copy(mac[:], link.Attrs().HardwareAddr)
	return at.send(link.Attrs().Index, runtime.Announcement(mac, s.Prefix.Addr()))
}

func (h *Host) awaitForwarding(ctx context.Context, port string) error {
	const patience, pause = 500 * time.Millisecond, 2 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		link, err := h.space.LinkByName(port)
		if err != nil {
			return err
		}
		if link.Attrs().OperState == vnl.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not operational (%v)", port, link.Attrs().OperState)
		case <-time.After(pause):
		}
	}
}
