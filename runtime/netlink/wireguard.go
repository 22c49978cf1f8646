package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"weave/runtime"
)

// WireGuard is the kernel's WireGuard device, which encrypts VXLAN. It is in a network namespace of its own, with nothing else in
// it but the loopback:
//
//	host's namespace                             tunnels' namespace
//
//	bridge ── weave-vxw · · · · · · VXLAN's socket, UDP 6784
//	                                             │ 240.0.0.0/4
//	WireGuard's socket, UDP 6785 · · · · · · · weave-wg
//
// A device's socket is in the namespace in which the device was made, wherever the device is. So what enters weave-vxw leaves
// by weave-wg or not at all, and what comes out of it came in by weave-wg: by construction, whatever becomes of routes, rules
// and addresses of the host. The device encrypts for a peer that it was told of, or drops.
//
// The namespace is kept by a mount at Config.Tunnels, so that it outlives the daemon. The private key is made with the device,
// and is kept nowhere else.
type WireGuard struct {
	h       *Host
	name    string
	space   *space         // nil once it is closed
	control *wgctrl.Client // as well
	key     wgtypes.Key    // public
}

func wireGuardName(bridge string) string { return bridge + "-wg" }

// wireGuardType is the device's kind in rtnetlink (drivers/net/wireguard/device.c).
const wireGuardType = "wireguard"

// OpenWireGuard makes the device with its namespace, or adopts what an earlier daemon left, with its peers. Its socket is at a
// UDP port of the host; ErrPortTaken reports that somebody else has that. Close leaves all to the kernel, RemoveFast removes it.
func (h *Host) OpenWireGuard(port int) (*WireGuard, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &WireGuard{h: h, name: wireGuardName(h.cfg.Bridge)}
	if err := w.open(port); err != nil {
		w.close()
		return nil, fmt.Errorf("open WireGuard: %w", err)
	}
	h.wireguard = w
	return w, nil
}

func (w *WireGuard) open(port int) (err error) {
	if w.space, err = w.h.tunnelSpace(); err != nil {
		return err
	}
	link, err := w.space.LinkByName(w.name)
	if gone(err) {
		made := &vnl.GenericLink{LinkAttrs: vnl.NewLinkAttrs(), LinkType: wireGuardType}
		made.Name, made.Namespace = w.name, vnl.NsFd(w.space.file.Fd())
		if err := w.h.space.LinkAdd(made); err != nil {
			return fmt.Errorf("create %s: %w", w.name, err)
		}
		link, err = w.space.LinkByName(w.name)
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", w.name, err)
	}
	if w.control, err = w.space.wireGuards(); err != nil {
		return err
	}
	if err := w.configure(port); err != nil {
		return err
	}
	addr := &vnl.Addr{IPNet: ipNet(netip.PrefixFrom(w.Addr(), runtime.TunnelNet().Bits()))}
	if err := w.space.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give %s its address: %w", w.name, err)
	}
	if err := w.space.LinkSetMTU(link, runtime.TunnelMTU(w.h.MTU())); err != nil {
		return fmt.Errorf("set the MTU of %s: %w", w.name, err)
	}
	if err := w.space.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", w.name, taken(port, err))
	}
	return nil
}

// wireGuards opens what talks to the WireGuard devices of a namespace.
func (s *space) wireGuards() (control *wgctrl.Client, err error) {
	err = s.run(func() (err error) {
		control, err = wgctrl.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open WireGuard's netlink: %w", err)
	}
	return control, nil
}

// configure gives the device a key, unless it has one, and its port.
func (w *WireGuard) configure(port int) error {
	seen, err := w.control.Device(w.name)
	if err != nil {
		return fmt.Errorf("look at %s: %w", w.name, err)
	}
	w.key = seen.PublicKey
	change := wgtypes.Config{}
	if seen.PrivateKey == (wgtypes.Key{}) {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
		w.key, change.PrivateKey = key.PublicKey(), &key
		defer clear(key[:])
	}
	if seen.ListenPort != port {
		change.ListenPort = &port
	}
	if err := w.control.ConfigureDevice(w.name, change); err != nil {
		return fmt.Errorf("configure %s: %w", w.name, taken(port, err))
	}
	return nil
}

// taken tells an occupied port from other errors.
func taken(port int, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w: %d (%w)", ErrPortTaken, port, err)
	}
	return err
}

// Key is the device's public key.
func (w *WireGuard) Key() [32]byte { return w.key }

// Addr is what the device has for an address.
func (w *WireGuard) Addr() netip.Addr { return runtime.TunnelAddr(w.key) }

// Close gives up the sockets. The device works on.
func (w *WireGuard) Close() {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	w.close()
}

func (w *WireGuard) close() {
	if w.control != nil {
		_ = w.control.Close()
	}
	if w.space != nil {
		w.space.close()
	}
	w.control, w.space = nil, nil
	if w.h.wireguard == w {
		w.h.wireguard = nil
	}
}

// resize follows the MTU of containers.
func (w *WireGuard) resize(mtu int) error {
	link, err := w.space.LinkByName(w.name)
	if err == nil {
		err = w.space.LinkSetMTU(link, runtime.TunnelMTU(mtu))
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("set the MTU of %s: %w", w.name, err)
	}
	return nil
}

// Peers lists whom the device knows. One whose addresses are not as we give them has none.
func (w *WireGuard) Peers() ([]runtime.TunnelPeer, error) {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	return w.peers()
}

func (w *WireGuard) peers() ([]runtime.TunnelPeer, error) {
	if w.control == nil {
		return nil, fmt.Errorf("%s: %w", w.name, os.ErrClosed)
	}
	seen, err := w.control.Device(w.name)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", w.name, err)
	}
	var out []runtime.TunnelPeer
	for _, p := range seen.Peers {
		t := runtime.TunnelPeer{Key: p.PublicKey, PSK: p.PresharedKey}
		if p.Endpoint != nil {
			at := p.Endpoint.AddrPort()
			t.Endpoint = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		}
		if len(p.AllowedIPs) == 1 {
			if a, ok := prefix(&p.AllowedIPs[0]); ok && a.IsSingleIP() {
				t.Addr = a.Addr()
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// SetPeers makes the device's peers those wanted, in the order of runtime.PlanTunnel. Where something of one fails, it is among
// those returned with the error, by its address inside; the others are as they should be. Whoever stops to want a peer must have
// stopped the traffic before.
func (w *WireGuard) SetPeers(want []runtime.TunnelPeer) (failed []netip.Addr, err error) {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	var errs []error
	fail := func(p runtime.TunnelPeer, err error) { failed, errs = append(failed, p.Addr), append(errs, err) }
	var valid []runtime.TunnelPeer
	for _, p := range want {
		if err := p.Valid(); err != nil {
			fail(p, err)
			continue
		}
		valid = append(valid, p)
	}
	seen, err := w.peers()
	if err != nil {
		for _, p := range valid {
			fail(p, err)
		}
		return failed, errors.Join(append(errs, err)...)
	}
	for _, s := range runtime.PlanTunnel(valid, seen) {
		if err := w.step(s); err != nil {
			fail(s.Peer, fmt.Errorf("change a peer of %s: %w", w.name, err))
		}
	}
	return failed, errors.Join(errs...)
}

func (w *WireGuard) step(s runtime.TunnelStep) error {
	p := wgtypes.PeerConfig{PublicKey: s.Peer.Key, Remove: s.Op == runtime.RemovePeer}
	if s.Op == runtime.SetPeer {
		psk := wgtypes.Key(s.Peer.PSK)
		p.PresharedKey, p.ReplaceAllowedIPs = &psk, true
		p.AllowedIPs = []net.IPNet{*ipNet(netip.PrefixFrom(s.Peer.Addr, s.Peer.Addr.BitLen()))}
		if !s.Known {
			p.Endpoint = net.UDPAddrFromAddrPort(s.Peer.Endpoint)
		}
	}
	return w.control.ConfigureDevice(w.name, wgtypes.Config{Peers: []wgtypes.PeerConfig{p}})
}
