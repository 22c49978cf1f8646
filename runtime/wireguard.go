package runtime

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// What VXLAN in WireGuard adds to a container's packet: the heads of Ethernet, VXLAN, UDP and IPv4 inside; WireGuard's own head
// and tag (https://www.wireguard.com/protocol/, message of type 4) and UDP's head outside, where IP's comes on top.
const (
	wireGuardInside = 14 + 8 + 8 + 20
	wireGuardAround = 16 + 16 + 8
)

// tunnelNet are the addresses inside WireGuard: class E, which Linux takes for unicast and nobody routes, so that none of
// them is any host's on the underlay. They exist in the tunnel's network namespace only.
var tunnelNet = netip.MustParsePrefix("240.0.0.0/4")

// TunnelNet is the prefix that all tunnel addresses are in.
func TunnelNet() netip.Prefix { return tunnelNet }

// IsTunnel tells a tunnel address from one on the underlay.
func IsTunnel(a netip.Addr) bool { return tunnelNet.Contains(a) }

// TunnelAddr is the address that the device with a public key has inside: 28 bits of the key's hash. Two keys may have the
// same; a host is then on the kernel path with one of them at most.
func TunnelAddr(key [32]byte) netip.Addr {
	sum := sha256.Sum256(append([]byte("weave v1 wireguard address"), key[:]...))
	n := binary.BigEndian.Uint32(sum[:]) &^ (0xf << 28)
	if n == 0 || n == 1<<28-1 { // the network, and everybody
		n ^= 2
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 0xf<<28|n)
	return netip.AddrFrom4(a)
}

// TunnelPSK is the preshared key of two devices: from what the identities of their peers have in common (X25519), so that
// only these two peers can have a tunnel between the two devices. The order of the keys does not matter.
func TunnelPSK(shared []byte, a, b [32]byte) (psk [32]byte, err error) {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	k, err := hkdf.Key(sha256.New, shared, nil, "weave v1 vxlan in wireguard"+string(a[:])+string(b[:]), len(psk))
	if err != nil {
		return psk, fmt.Errorf("derive preshared key: %w", err)
	}
	copy(psk[:], k)
	clear(k)
	return psk, nil
}

// TunnelMTU is what the WireGuard device must take for containers' packets of a size, bytes. Padding does not exceed it.
func TunnelMTU(mtu int) int { return mtu + wireGuardInside }

// TunnelFit is the largest packet of a container that VXLAN in WireGuard carries in one IP packet of a size.
func TunnelFit(size int, v6 bool) int {
	head := 20
	if v6 {
		head = 40
	}
	return size - head - wireGuardAround - wireGuardInside
}

// TunnelPeer is one peer of the WireGuard device.
type TunnelPeer struct {
	Key      [32]byte // public, of the peer's device
	PSK      [32]byte
	Addr     netip.Addr     // TunnelAddr of Key: what packets from it and to it have inside, and no others
	Endpoint netip.AddrPort // where it is at first; WireGuard follows it if it moves
}

// Valid says what is wrong with a TunnelPeer.
func (p TunnelPeer) Valid() error {
	a := p.Endpoint.Addr()
	switch {
	case p.Key == [32]byte{}:
		return errors.New("tunnel: a peer without a key")
	case p.Addr != TunnelAddr(p.Key):
		return fmt.Errorf("tunnel: %v is not the address of the peer's key", p.Addr)
	case !p.Endpoint.IsValid() || p.Endpoint.Port() == 0 || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" || a.Is4In6() || IsTunnel(a):
		return fmt.Errorf("tunnel: %v is not the address of a host on a network", p.Endpoint)
	}
	return nil
}

// TunnelOp is what a TunnelStep does.
type TunnelOp uint8

// The operations, in the order they are done.
const (
	RemovePeer TunnelOp = iota + 1
	SetPeer
)

// TunnelStep changes one peer.
type TunnelStep struct {
	Op   TunnelOp
	Peer TunnelPeer
	// Known keeps where the peer is: the kernel knows it, and may know better.
	Known bool
}

// PlanTunnel lists the steps from what is seen to what is wanted, which has each key and each address once. Peers go before
// others come: an address would move from one to the other. A peer that is as it should be is not touched, wherever it is by
// now, so that nothing that travels is lost.
//
// No order can let anything pass in clear: the device knows only to encrypt for a peer, or to drop.
func PlanTunnel(want, seen []TunnelPeer) []TunnelStep {
	var steps []TunnelStep
	for _, s := range seen {
		if !slices.ContainsFunc(want, func(w TunnelPeer) bool { return w.Key == s.Key }) {
			steps = append(steps, TunnelStep{Op: RemovePeer, Peer: s})
		}
	}
	for _, w := range want {
		i := slices.IndexFunc(seen, func(s TunnelPeer) bool { return s.Key == w.Key })
		switch {
		case i < 0:
			steps = append(steps, TunnelStep{Op: SetPeer, Peer: w})
		case seen[i].Addr != w.Addr || seen[i].PSK != w.PSK:
			steps = append(steps, TunnelStep{Op: SetPeer, Peer: w, Known: seen[i].Endpoint.IsValid()})
		}
	}
	return steps
}
