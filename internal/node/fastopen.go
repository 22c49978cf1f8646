package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"weave/peer"
	"weave/runtime"
	"weave/runtime/netlink"
	"weave/stack"
)

// openFast makes the kernel path, if it may be and can be.
func (n *node) openFast() error {
	f := &fastdp{
		dp: n.dp, store: n.store, log: n.log.With("part", overlayFast), self: n.memory.name,
		secret: n.memory.identity.X25519Private(), host: n.bridge,
		fastRules: fastRules{port: uint16(n.cfg.Port), auto: n.cfg.AutoMTU, trusted: n.cfg.TrustedSubnets},
	}
	n.sessions.fast = f
	switch {
	case n.cfg.NoFast:
		f.off = "--no-fastdp"
	case n.bridge == nil:
		f.off = "it needs root here"
	case n.cfg.Port > 65534:
		f.off = "no port for it"
	}
	if f.off != "" {
		if n.bridge != nil {
			n.bridge.RemoveFast()
		}
		return nil
	}
	device, noDevice := n.openWireGuard()
	kernel, err := n.bridge.OpenFast(netlink.FastConfig{Port: n.cfg.Port + 1, Local: n.cfg.Host, WireGuard: device})
	if err != nil {
		f.off = "not possible here"
		if errors.Is(err, netlink.ErrPortTaken) {
			f.off = fmt.Sprintf("UDP port %d is taken here", n.cfg.Port+1)
		}
		f.log.Warn("frames go through user space only: there is no kernel path", "err", err)
		if device != nil {
			device.Close()
		}
		return nil
	}
	f.kernel = kernel
	n.dp.tunnel = kernel
	if device != nil && !kernel.Reaches(device.Addr()) {
		device, noDevice = nil, "WireGuard is not possible"
	}
	support := runtime.ShieldSupport{IPv4: notToBeUsed("IPsec"), IPv6: notToBeUsed("IPsec")}
	if n.cfg.FastEncryption != EncryptWireGuard {
		support = n.bridge.ShieldSupport()
	}
	now := time.Now()
	f.shields = openShields(n.bridge, support, uint16(n.cfg.Port+1), n.cfg.Host, f.log)
	if f.wireguard = device; device != nil {
		f.shields.tunnels = openTunnels(device, f.secret, now, f.log)
	} else {
		f.shields.tunnels = noTunnels(noDevice)
	}
	return f.adopt(now, n.sessions.sealed())
}

// openWireGuard makes the kernel's WireGuard device, or says why there is none.
func (n *node) openWireGuard() (device *netlink.WireGuard, why string) {
	switch {
	case !n.sessions.sealed():
		return nil, "there is no password"
	case n.cfg.FastEncryption == EncryptIPsec:
		return nil, notToBeUsed("WireGuard")
	case n.cfg.Port > 65533:
		return nil, "there is no port for WireGuard"
	}
	if why := n.bridge.WireGuardSupport(); why != "" {
		return nil, why
	}
	device, err := n.bridge.OpenWireGuard(n.cfg.Port + 2)
	if errors.Is(err, netlink.ErrPortTaken) {
		return nil, fmt.Sprintf("UDP port %d is taken", n.cfg.Port+2)
	}
	if err != nil {
		n.log.Warn("there is no kernel path by WireGuard", "err", err)
		return nil, "WireGuard is not possible"
	}
	return device, ""
}

// notToBeUsed is the reason that --fastdp-encryption makes.
func notToBeUsed(what string) string { return what + " is not to be used (--fastdp-encryption)" }

// adopt takes up what an earlier daemon left.
func (f *fastdp) adopt(now time.Time, sealed bool) error {
	saved, _, err := f.store.Get(keyFast)
	if err != nil {
		return err
	}
	flooded, err := f.kernel.Flooded()
	if err != nil {
		return err
	}
	if err := f.kernel.Broadcast(true); err != nil {
		return err
	}
	in := peer.FastAdopt{Saved: saved, Flooded: flooded, Sealed: sealed}
	for _, a := range flooded {
		switch {
		case f.shields.has(a):
			in.Shielded = append(in.Shielded, a)
		case !f.clearAt(a, sealed):
			in.Barred = append(in.Barred, a)
		}
	}
	f.core, f.queue = peer.NewFastPaths(f.self, rand.Reader), newFastQueue()
	f.learnt, f.moving = map[stack.MAC]time.Time{}, map[peer.Name]int{}
	f.beats = flooded // whoever is flooded to has had beats as well
	eff := f.core.Step(now, in)
	f.perform(nil, eff)
	f.shields.keep(eff.Beats, now)
	return nil
}

// clearAt tells whether clear text may go to an address.
func (f *fastdp) clearAt(a netip.Addr, sealed bool) bool {
	if runtime.IsTunnel(a) {
		return false // nobody says which peer's it is
	}
	return !sealed || slices.ContainsFunc(f.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}
