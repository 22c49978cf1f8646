package netlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// vni is the VXLAN network identifier of all weave networks: what keeps two of them apart is who may send, see fastrules.go.
const vni = 0x776561

// ErrPortTaken reports that somebody else has the UDP port of the kernel path.
var ErrPortTaken = errors.New("UDP port is taken")

// FastConfig says how the kernel's own tunnels are made.
type FastConfig struct {
	Port  int        // UDP
	Local netip.Addr // what they send from; invalid: whatever leads to the peer
	// WireGuard is what carries the VXLAN packets to tunnel addresses; nil: nothing does.
	WireGuard *WireGuard
}

// Fast is the kernel path: one VXLAN device for each family of the underlay, and one for WireGuard, a port of the bridge beside
// the uplink. Which of them a peer is behind its address says, see runtime.IsTunnel.
//
//	containers ── veths ── bridge ─┬─ TAP (isolated) ── user space
//	                               ├─ VXLAN over IPv4 (isolated)
//	                               ├─ VXLAN over IPv6 (isolated)
//	                               └─ VXLAN over WireGuard (isolated)
//
// Isolated ports never forward to each other, so that nothing loops. The bridge floods broadcast and multicast to the
// devices, and they to their flood list; a frame to an address that the bridge does not know goes to the TAP alone. So a
// unicast frame always takes one path, and a broadcast reaches the peers in the flood list by the kernel and no others.
//
// Beats are the frames that prove a path. They go to a group address of the link's own (IEEE 802.1Q, table 8-1), which no
// bridge passes on: it never reaches a container, and our socket on the device gets it without looking at every frame.
type Fast struct {
	h       *Host
	tunnels [tunnelKinds]*tunnel // nil where the host lacks the family, or WireGuard
	inside  []netip.Addr         // tunnel addresses that may be sent to; guarded by the Host's mutex
}

// Tunnel is what carries VXLAN packets.
type Tunnel int

// The tunnels.
const (
	TunnelIPv4 Tunnel = iota
	TunnelIPv6
	TunnelWireGuard
	tunnelKinds
)

// TunnelTo is the one to a peer's address.
func TunnelTo(a netip.Addr) Tunnel {
	switch {
	case runtime.IsTunnel(a):
		return TunnelWireGuard
	case a.Is6():
		return TunnelIPv6
	}
	return TunnelIPv4
}

// tunnel is one VXLAN device.
type tunnel struct {
	name  string
	link  vnl.Link
	beats *os.File // an AF_PACKET socket that gets and sends beats
	entry *os.File // an AF_PACKET socket that takes packets with virtio-net headers
}

// tunnelNames are the devices of a bridge.
func tunnelNames(bridge string) [tunnelKinds]string {
	return [tunnelKinds]string{bridge + "-vx4", bridge + "-vx6", bridge + "-vxw"}
}

// OpenFast makes the devices, or adopts those that an earlier daemon left, with all that they know. Nobody may send to them
// until Allow. A host without IPv6 has one device less, and one that refuses WireGuard's too, see Reaches. Close leaves them to the kernel.
func (h *Host) OpenFast(cfg FastConfig) (*Fast, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &Fast{h: h}
	h.fast.port = cfg.Port
	if err := h.startGuard(); err != nil {
		return nil, fmt.Errorf("open kernel path: %w", err)
	}
	if cfg.WireGuard == nil { // what an earlier daemon left of it
		if err := h.withoutWireGuard(); err != nil {
			return nil, fmt.Errorf("open kernel path: %w", err)
		}
	}
	for i, name := range tunnelNames(h.cfg.Bridge) {
		spec, wanted := h.vxlanOf(Tunnel(i), name, cfg)
		if !wanted {
			continue
		}
		t, err := h.openTunnel(spec)
		if err != nil && spec.v6 && f.tunnels[0] != nil && !errors.Is(err, ErrPortTaken) {
			h.log.Debug("no VXLAN over IPv6", "err", err)
			continue
		}
		if err != nil && Tunnel(i) == TunnelWireGuard {
			h.log.Warn("no VXLAN over WireGuard", "err", err)
			err = h.withoutWireGuard()
			if err == nil {
				continue
			}
		}
		if err != nil {
			f.close()
			h.removeFast()
			return nil, fmt.Errorf("open kernel path: %w", err)
		}
		f.tunnels[i] = t
	}
	var err error
	if f.inside, err = f.flooded(TunnelWireGuard); err == nil { // or it would go down, and forget
		err = f.power()
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("open kernel path: %w", err)
	}
	return f, nil
}

// power has a device up only as long as somebody may send to it. So nothing gets in where nobody is on this path, a
// network with a password say, even if its rules are flushed while no daemon is there to make them again.
func (f *Fast) power() error {
	for i, t := range f.tunnels {
		if t == nil {
			continue
		}
		set := f.h.space.LinkSetDown
		here := func(a netip.Addr) bool { return TunnelTo(a) == Tunnel(i) }
		if slices.ContainsFunc(f.h.fast.allowed, here) || slices.ContainsFunc(f.inside, here) {
			set = f.h.space.LinkSetUp
		}
		if err := set(t.link); err != nil {
			return fmt.Errorf("set %s up or down: %w", t.name, err)
		}
	}
	return nil
}

// openTunnel makes or adopts one device, and the sockets on it.
func (h *Host) openTunnel(spec vxlanSpec) (*tunnel, error) {
	link, err := h.adoptTunnel(spec)
	if err != nil {
		return nil, err
	}
	t := &tunnel{name: spec.name, link: link}
	if err := h.wireTunnel(t); err != nil {
		return nil, err
	}
	if err := h.space.run(func() (err error) {
		if t.beats, err = packetSocket(link.Attrs().Index, beatType, 0); err != nil {
			return err
		}
		t.entry, err = packetSocket(link.Attrs().Index, 0, 1)
		return err
	}); err != nil {
		t.close()
		return nil, fmt.Errorf("packet socket on %s: %w", spec.name, err)
	}
	return t, nil
}

// adoptTunnel finds the device as it should be, or makes it anew.
func (h *Host) adoptTunnel(spec vxlanSpec) (vnl.Link, error) {
	old, err := h.space.LinkByName(spec.name)
	if err == nil {
		v, ok := old.(*vnl.Vxlan)
		if ok && v.VxlanId == vni && v.Port == spec.port && v.Learning && sameLocal(v.SrcAddr, spec.local) {
			return old, nil
		}
		if err := h.delete(spec.name); err != nil {
			return nil, fmt.Errorf("remove %s: %w", spec.name, err)
		}
	} else if !gone(err) {
		return nil, fmt.Errorf("look for %s: %w", spec.name, err)
	}
	if err := spec.sockets.run(func() error { return spec.create(h.MTU(), h.space) }); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = fmt.Errorf("the kernel has no VXLAN (%w)", err)
		}
		return nil, fmt.Errorf("create %s: %w", spec.name, err)
	}
	return h.space.LinkByName(spec.name)
}

func sameLocal(seen net.IP, want netip.Addr) bool {
	a, ok := netip.AddrFromSlice(seen)
	if !ok || a.IsUnspecified() {
		return !want.IsValid()
	}
	return a.Unmap() == want
}

// wireTunnel makes a device a port of the bridge. It goes up last: until then the bridge forwards nothing to or from it.
func (h *Host) wireTunnel(t *tunnel) error {
	bridge, err := h.space.LinkByName(h.cfg.Bridge)
	if err != nil {
		return fmt.Errorf("look for the bridge of %s: %w", t.name, err)
	}
	index := t.link.Attrs().Index
	_ = h.space.sysctl("net/ipv6/conf/"+t.name+"/disable_ipv6", "1") // it must not speak for itself
	if t.link.Attrs().MTU != h.MTU() {
		if err := h.space.LinkSetMTU(t.link, h.MTU()); err != nil {
			return fmt.Errorf("set the MTU of %s: %w", t.name, err)
		}
	}
	if t.link.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := errors.Join(h.space.LinkSetDown(t.link), h.space.LinkSetMaster(t.link, bridge)); err != nil {
			return fmt.Errorf("join %s to %s: %w", t.name, h.cfg.Bridge, err)
		}
	}
	if err := h.space.run(func() error { return setPort(index, tunnelPort) }); err != nil {
		return fmt.Errorf("set up port %s: %w", t.name, err)
	}
	err = h.space.LinkSetUp(t.link)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w: %d (%w)", ErrPortTaken, h.fast.port, err)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", t.name, err)
	}
	return nil
}

// RemoveFast removes the devices and their rules, if they are there.
func (h *Host) RemoveFast() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeFast()
}

// removeFast takes the devices first: the rules must outlive what they guard.
func (h *Host) removeFast() {
	for _, name := range tunnelNames(h.cfg.Bridge) {
		if err := h.delete(name); err != nil {
			h.log.Warn("cannot remove an interface", "name", name, "err", err)
			return
		}
	}
	h.stopGuard()
	h.removeShields() // they protect what the devices send
	h.removeWireGuard()
}

// Close gives up the sockets. Devices, lists and rules stay and work on.
func (f *Fast) Close() {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	f.close()
}

func (f *Fast) close() {
	for _, t := range f.tunnels {
		t.close()
	}
}

func (t *tunnel) close() {
	if t == nil {
		return
	}
	for _, s := range []*os.File{t.beats, t.entry} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// Reaches reports whether there is a device for an address.
func (f *Fast) Reaches(a netip.Addr) bool { return f.of(a) != nil }

func (f *Fast) of(a netip.Addr) *tunnel { return f.tunnels[TunnelTo(a)] }

// Broadcast says whether the bridge itself floods broadcast and multicast to the devices.
func (f *Fast) Broadcast(on bool) error {
	for _, t := range f.tunnels {
		if t == nil {
			continue
		}
		if err := f.h.space.run(func() error { return setPort(t.link.Attrs().Index, broadcastPort(on)) }); err != nil {
			return fmt.Errorf("set up port %s: %w", t.name, err)
		}
	}
	return nil
}

// Listen passes the beats that come to take until ctx ends. take must not keep them.
func (f *Fast) Listen(ctx context.Context, take func(frame []byte)) error {
	errs := make(chan error, len(f.tunnels))
	stop := context.AfterFunc(ctx, f.Close)
	defer stop()
	listeners := 0
	for _, t := range f.tunnels {
		if t == nil {
			continue
		}
		listeners++
		go func() { errs <- t.listen(ctx, take) }()
	}
	var all []error
	for range listeners {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func (t *tunnel) listen(ctx context.Context, take func([]byte)) error {
	buf := make([]byte, runtime.MaxFrame)
	for {
		n, err := t.beats.Read(buf)
		switch {
		case ctx.Err() != nil || errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, unix.ENETDOWN): // somebody has set it down; beats stop, and the path is left
			continue
		case err != nil:
			return fmt.Errorf("listen on %s: %w", t.name, err)
		}
		take(buf[:n])
	}
}

// Beat sends a beat to all that SetBeat said. payload follows the Ethernet header; it is padded to the MTU.
func (f *Fast) Beat(payload []byte) error {
	var errs []error
	for _, t := range f.tunnels {
		if t == nil {
			continue
		}
		frame := make([]byte, 0, 14+f.h.MTU())
		frame = append(append(frame, groupMAC...), t.link.Attrs().HardwareAddr...)
		frame = append(frame, beatType>>8, beatType&0xff)
		frame = append(frame, payload...)
		if err := put(t.beats, frame[:cap(frame)]); err != nil && !errors.Is(err, unix.ENETDOWN) { // down: for nobody
			errs = append(errs, fmt.Errorf("beat on %s: %w", t.name, err))
		}
	}
	return errors.Join(errs...)
}

// Put sends a packet with its virtio-net header by a device. Any goroutine may call it.
func (f *Fast) Put(by Tunnel, packet []byte) error {
	t := f.tunnels[by]
	if t == nil {
		return unix.ENODEV
	}
	return put(t.entry, packet)
}

// put writes a frame. A device that was down since the last has left an error in the socket.
func put(s *os.File, frame []byte) error {
	_, err := s.Write(frame)
	if errors.Is(err, unix.ENETDOWN) {
		_, err = s.Write(frame)
	}
	return err
}
