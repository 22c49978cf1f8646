package node

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weave/peer"
	"weave/runtime"
)

// tunnelKernel is a WireGuard device that remembers what it was told.
type tunnelKernel struct {
	key    [32]byte
	told   [][]runtime.TunnelPeer
	refuse netip.Addr
	left   []runtime.TunnelPeer
}

func (k *tunnelKernel) Key() [32]byte                        { return k.key }
func (k *tunnelKernel) Peers() ([]runtime.TunnelPeer, error) { return k.left, nil }

func (k *tunnelKernel) SetPeers(want []runtime.TunnelPeer) (failed []netip.Addr, err error) {
	k.told = append(k.told, want)
	for _, p := range want {
		if p.Addr == k.refuse {
			failed, err = append(failed, p.Addr), errors.New("out of memory")
		}
	}
	return failed, err
}

// last is what the kernel was told last.
func (k *tunnelKernel) last() []runtime.TunnelPeer {
	if len(k.told) == 0 {
		return nil
	}
	return k.told[len(k.told)-1]
}

var tunnelEndpoint = netip.AddrPortFrom(shieldThere, 6785)

// withTunnels gives shields a WireGuard device.
func withTunnels(t *testing.T, k *tunnelKernel, secret [32]byte) *shields {
	t.Helper()
	none := runtime.ShieldSupport{IPv4: "no IPsec", IPv6: "no IPsec"}
	s := newTestShields(t, &shieldKernel{}, none)
	s.tunnels = openTunnels(k, secret, time.Now(), slog.New(slog.DiscardHandler))
	return s
}

func tunnelledPeer(e *shieldSession, key peer.TunnelKey) *peerState {
	p := shieldPeer(e)
	p.wish.tunnel = key
	return p
}

// A peer is in the device from when it is tried until it has left, with the same preshared key at both ends; without a session it
// stays for a while.
func TestTunnelOfPeer(t *testing.T) {
	a, b := shieldHandshake(t)
	now := time.Now()
	ka, kb := &tunnelKernel{key: [32]byte{1}}, &tunnelKernel{key: [32]byte{2}}
	sa, sb := withTunnels(t, ka, a.private), withTunnels(t, kb, b.private)
	toB, toA := runtime.TunnelAddr(kb.key), runtime.TunnelAddr(ka.key)
	sa.tunnels.raise(toB, tunnelledPeer(b, kb.key), tunnelEndpoint, now)
	sb.tunnels.raise(toA, tunnelledPeer(a, ka.key), tunnelEndpoint, now)
	sa.apply(now)
	sb.apply(now)
	wa, wb := ka.last(), kb.last()
	if len(wa) != 1 || len(wb) != 1 || wa[0].PSK != wb[0].PSK || wa[0].PSK == ([32]byte{}) {
		t.Fatalf("%d and %d peers, or not one preshared key", len(wa), len(wb))
	}
	if wa[0].Key != kb.key || wa[0].Addr != toB || wa[0].Endpoint != tunnelEndpoint || !sa.has(toB) {
		t.Errorf("%v at %v", wa[0].Addr, wa[0].Endpoint)
	}
	sa.learn(a.pair, now)
	now = now.Add(time.Hour)
	sa.apply(now)
	if len(ka.told) != 1 {
		t.Errorf("told anew although there is a session: %d peers", len(ka.last()))
	}
	delete(sa.keys, b.m.PublicKey())
	sa.apply(now.Add(tunnelKeyless))
	if len(ka.told) != 1 {
		t.Error("the peer went with its session; a new one may be on its way")
	}
	sa.apply(now.Add(tunnelKeyless + 1))
	if len(ka.told) != 2 || len(ka.last()) != 0 {
		t.Error("the peer stays without a session")
	}
	sb.lower(toA, now)
	if len(kb.told) != 1 || sb.has(toA) {
		t.Error("the peer is gone before the kernel was told, or is to stay")
	}
	sb.apply(now)
	if len(kb.told) != 2 || len(kb.last()) != 0 {
		t.Error("the peer stays after it has left")
	}
}

// What the kernel refuses is not used, told, and not tried again at once; the others are.
func TestTunnelRefused(t *testing.T) {
	a, b := shieldHandshake(t)
	key, other := peer.TunnelKey{2}, peer.TunnelKey{3}
	k := &tunnelKernel{key: [32]byte{1}, refuse: runtime.TunnelAddr(key)}
	s := withTunnels(t, k, a.private)
	now := time.Now()
	s.tunnels.raise(k.refuse, tunnelledPeer(b, key), tunnelEndpoint, now)
	s.tunnels.raise(runtime.TunnelAddr(other), tunnelledPeer(b, other), tunnelEndpoint, now)
	s.apply(now)
	if got := s.without([]netip.Addr{k.refuse, runtime.TunnelAddr(other), shieldThere}); !slices.Equal(got, []netip.Addr{runtime.TunnelAddr(other), shieldThere}) {
		t.Errorf("used: %v", got)
	}
	direct := []netip.Addr{shieldThere}
	for _, c := range []struct {
		key peer.TunnelKey
		why string
	}{
		{other, ""},
		{key, "encrypted, and the kernel refuses: out of memory"},
		{k.key, "encrypted, and here no IPsec; the other end's WireGuard has our address"},
		{peer.TunnelKey{}, "encrypted, and here no IPsec; the other end's kernel has no WireGuard for it"},
	} {
		froms, why := s.place(neighbour{tunnel: c.key}, direct)
		if why != c.why || (why == "") != slices.Equal(froms, []netip.Addr{runtime.TunnelAddr(c.key)}) {
			t.Errorf("%x: %v, %q, want %q", c.key[:1], froms, why, c.why)
		}
	}
	nowhere := peer.TunnelKey{4}
	s.tunnels.raise(runtime.TunnelAddr(nowhere), tunnelledPeer(b, nowhere), netip.AddrPort{}, now)
	s.apply(now)
	if got := s.without([]netip.Addr{runtime.TunnelAddr(nowhere)}); len(got) > 0 || len(k.last()) != 2 {
		t.Errorf("a peer that is nowhere is used: %v, %d peers", got, len(k.last()))
	}
}

// What an earlier daemon left is as it was: the kernel is told nothing, until it is known whose it is, or that it is nobody's.
func TestTunnelsAdopted(t *testing.T) {
	a, b := shieldHandshake(t)
	now := time.Now()
	key, gone := peer.TunnelKey{2}, peer.TunnelKey{3}
	k := &tunnelKernel{key: [32]byte{1}}
	before := withTunnels(t, k, a.private)
	for _, one := range []peer.TunnelKey{key, gone} {
		before.tunnels.raise(runtime.TunnelAddr(one), tunnelledPeer(b, one), tunnelEndpoint, now)
	}
	before.apply(now)
	k.left, k.told = slices.Clone(k.last()), nil
	moved := netip.MustParseAddrPort("192.0.2.99:1024")
	for i := range k.left {
		k.left[i].Endpoint = moved
	}
	s := withTunnels(t, k, a.private)
	at := runtime.TunnelAddr(key)
	if !s.has(at) || !s.has(runtime.TunnelAddr(gone)) {
		t.Fatal("not adopted")
	}
	s.apply(now)
	s.claim(at, tunnelledPeer(b, key))
	s.claim(runtime.TunnelAddr(gone), tunnelledPeer(b, peer.TunnelKey{9}))
	s.apply(now)
	if len(k.told) != 0 {
		t.Errorf("the kernel was told of %d peers", len(k.last()))
	}
	s.keep([]netip.Addr{at}, now)
	s.apply(now)
	if w := k.last(); len(w) != 1 || w[0].Addr != at || w[0].Endpoint != moved {
		t.Errorf("%d peers after one was not wanted any more", len(w))
	}
	if s.has(runtime.TunnelAddr(gone)) {
		t.Error("it is thought to be there still")
	}
}

// A tunnel ends with the device at its other end, whatever else is wrong with it; ESP does not.
func TestTunnelLasts(t *testing.T) {
	a, _ := shieldHandshake(t)
	s := withTunnels(t, &tunnelKernel{key: [32]byte{1}}, a.private)
	key := peer.TunnelKey{2}
	at := runtime.TunnelAddr(key)
	for _, c := range []struct {
		key  peer.TunnelKey
		at   netip.Addr
		want bool
	}{{key, at, true}, {peer.TunnelKey{3}, at, false}, {peer.TunnelKey{}, at, false}, {peer.TunnelKey{}, runtime.TunnelAddr(peer.TunnelKey{}), false}, {peer.TunnelKey{}, shieldThere, true}} {
		if got := s.lasts(neighbour{tunnel: c.key}, c.at); got != c.want {
			t.Errorf("at %v with key %x: %v", c.at, c.key[:1], got)
		}
	}
}

// Both ends choose the same, whatever each has, in whatever order they know each other's addresses; ESP where both have it for an
// address at which they reach each other; and never one that either lacks.
func TestChooseSealing(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	rapid.Check(t, func(t *rapid.T) {
		caps := rapid.SampledFrom([]peer.Capability{0, peer.CapESP4, peer.CapESP6, peer.CapESP4 | peer.CapESP6})
		ours, theirs := caps.Draw(t, "ours"), caps.Draw(t, "theirs")
		tunnel := rapid.Bool().Draw(t, "ours has WireGuard") && rapid.Bool().Draw(t, "theirs has WireGuard")
		reached := rapid.SampledFrom([][]netip.Addr{nil, {v4}, {v6}, {v4, v6}}).Draw(t, "reached at")
		back := slices.Clone(reached)
		slices.Reverse(back)
		here, at := chooseSealing(ours&theirs, tunnel, reached)
		there, from := chooseSealing(theirs&ours, tunnel, back)
		if here != there || len(at) != len(from) {
			t.Fatalf("here %d at %v, there %d at %v", here, at, there, from)
		}
		has := func(a netip.Addr) bool {
			one := map[bool]peer.Capability{true: peer.CapESP4, false: peer.CapESP6}[a.Is4()]
			return slices.Contains(reached, a) && ours&one != 0 && theirs&one != 0
		}
		switch here {
		case sealESP:
			if slices.ContainsFunc(at, func(a netip.Addr) bool { return !has(a) }) || len(at) == 0 {
				t.Fatalf("ESP with %v", at)
			}
		case sealWireGuard:
			if !tunnel || has(v4) || has(v6) {
				t.Fatal("WireGuard where one lacks it, or where there is ESP")
			}
		case sealNone:
			if has(v4) || has(v6) || tunnel && len(reached) > 0 {
				t.Fatal("nothing, although there is something")
			}
		}
	})
}

// How large packets may be depends on what is around them.
func TestSealingFit(t *testing.T) {
	a, b := shieldHandshake(t)
	key := peer.TunnelKey{2}
	s := withTunnels(t, &tunnelKernel{key: [32]byte{1}}, a.private)
	at, in := &path{mtu: 1500, v6: true}, runtime.TunnelAddr(key)
	if got := s.fit(in, at); got != MaxMTU {
		t.Errorf("without a tunnel: %d", got)
	}
	s.tunnels.raise(in, tunnelledPeer(b, key), tunnelEndpoint, time.Now())
	s.raise(shieldThere, shieldPeer(b))
	if wg, esp := s.fit(in, at), s.fit(shieldThere, at); wg != 1370 || esp != runtime.ESPFit(1500, true) {
		t.Errorf("%d by WireGuard, %d in ESP", wg, esp)
	}
}
