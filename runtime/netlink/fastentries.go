package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// groupMAC is where beats go, anyMAC the entry of the flood list.
var (
	groupMAC = net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0x0f}
	anyMAC   = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

// Flooded lists whom the kernel floods to.
func (f *Fast) Flooded() ([]netip.Addr, error) {
	var out []netip.Addr
	for i := range f.tunnels {
		some, err := f.flooded(Tunnel(i))
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

func (f *Fast) flooded(by Tunnel) (out []netip.Addr, err error) {
	list, err := f.h.entries(f.tunnels[by])
	for _, e := range list {
		if a, ok := netip.AddrFromSlice(e.IP); ok && slices.Equal(e.HardwareAddr, anyMAC) {
			out = append(out, a.Unmap())
		}
	}
	return out, err
}

// Allow replaces the addresses from which the kernel accepts VXLAN. From tunnel addresses nothing comes but by WireGuard, and from
// its peers: what is said here of them is only that there are some.
func (f *Fast) Allow(addrs []netip.Addr) error {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	f.inside = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !runtime.IsTunnel(a) })
	f.h.fast.allowed = slices.DeleteFunc(slices.Clone(addrs), runtime.IsTunnel)
	if err := f.h.writeGuard(); err != nil {
		return err
	}
	return f.power()
}

// SetBeat has beats go to an address, or not any more; SetFlood the frames for everybody.
func (f *Fast) SetBeat(to netip.Addr, on bool) error { return f.member(groupMAC, to, on) }

// SetFlood is described at SetBeat.
func (f *Fast) SetFlood(to netip.Addr, on bool) error { return f.member(anyMAC, to, on) }

func (f *Fast) member(mac net.HardwareAddr, to netip.Addr, on bool) error {
	t := f.of(to)
	if t == nil {
		return nil
	}
	e := t.entryOf(mac, to, unix.NUD_PERMANENT|unix.NUD_NOARP)
	if on {
		if err := f.h.space.NeighAppend(e); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add %s of %s on %s: %w", mac, to, t.name, err)
		}
		return nil
	}
	if err := f.h.space.NeighDel(e); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s of %s on %s: %w", mac, to, t.name, err)
	}
	return nil
}

func (t *tunnel) entryOf(mac net.HardwareAddr, to netip.Addr, state int) *vnl.Neigh {
	return &vnl.Neigh{
		LinkIndex: t.link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, State: state,
		IP: net.IP(to.AsSlice()), HardwareAddr: mac,
	}
}

// Learn tells the kernel that a MAC is behind an address, as if a frame had come from it.
func (f *Fast) Learn(mac [6]byte, to netip.Addr) error {
	t := f.of(to)
	if t == nil {
		return nil
	}
	if err := f.h.space.NeighSet(t.entryOf(mac[:], to, unix.NUD_REACHABLE)); err != nil {
		return fmt.Errorf("learn %x on %s: %w", mac, t.name, err)
	}
	e := &vnl.Neigh{
		LinkIndex: t.link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: unix.NTF_MASTER, State: unix.NUD_REACHABLE, HardwareAddr: mac[:],
	}
	if err := f.h.space.NeighSet(e); err != nil {
		return fmt.Errorf("learn %x on %s of %s: %w", mac, t.name, f.h.cfg.Bridge, err)
	}
	return nil
}

// Forget drops the MACs that were learnt behind an address, so that frames to them go to the uplink.
func (f *Fast) Forget(to netip.Addr) error {
	t := f.of(to)
	list, err := f.h.entries(t)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		if a, ok := netip.AddrFromSlice(e.IP); !ok || a.Unmap() != to || slices.Equal(e.HardwareAddr, anyMAC) || slices.Equal(e.HardwareAddr, groupMAC) {
			continue
		}
		inner := vnl.Neigh{LinkIndex: e.LinkIndex, Family: unix.AF_BRIDGE, Flags: unix.NTF_MASTER, HardwareAddr: e.HardwareAddr}
		for _, del := range []*vnl.Neigh{t.entryOf(e.HardwareAddr, to, 0), &inner} {
			if err := f.h.space.NeighDel(del); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("forget %s on %s: %w", e.HardwareAddr, t.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// entries lists what the VXLAN device itself knows.
func (h *Host) entries(t *tunnel) ([]vnl.Neigh, error) {
	if t == nil {
		return nil, nil
	}
	list, err := retry(func() ([]vnl.Neigh, error) { return h.space.NeighList(t.link.Attrs().Index, unix.AF_BRIDGE) })
	if err != nil {
		return nil, fmt.Errorf("list entries of %s: %w", t.name, err)
	}
	return slices.DeleteFunc(list, func(e vnl.Neigh) bool { return e.Flags&unix.NTF_SELF == 0 }), nil
}
