package runtime

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The address and the preshared key, calculated with another implementation (Python's hmac and hashlib).
func TestTunnelGolden(t *testing.T) {
	a, b := [32]byte(bytes.Repeat([]byte{1}, 32)), [32]byte(bytes.Repeat([]byte{2}, 32))
	if got := TunnelAddr(a).String(); got != wantTunnelAddr {
		t.Errorf("address %s, want %s", got, wantTunnelAddr)
	}
	shared := bytes.Repeat([]byte{7}, 32)
	for _, keys := range [][2][32]byte{{a, b}, {b, a}} {
		psk, err := TunnelPSK(shared, keys[0], keys[1])
		if got := hex.EncodeToString(psk[:]); err != nil || got != wantTunnelPSK {
			t.Errorf("preshared key %s, %v", got, err)
		}
	}
	if other, _ := TunnelPSK(shared, a, a); hex.EncodeToString(other[:]) == wantTunnelPSK {
		t.Error("the preshared key is the same for other devices")
	}
}

const (
	wantTunnelAddr = "249.206.47.47"
	wantTunnelPSK  = "2777b29c4c63b17efefa9559448a6469e06f5fadeb3c0a3e4a0fbeed84f46b85"
)

// Whatever the key, its address is one that a host may have, and no host of an underlay has.
func TestTunnelAddr(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := TunnelAddr(drawKey(t))
		if !a.Is4() || !IsTunnel(a) || a == tunnelNet.Addr() || a == netip.MustParseAddr("255.255.255.255") {
			t.Fatalf("%v", a)
		}
	})
	for _, a := range []string{"10.0.0.1", "239.1.2.3", "f000::1", "::ffff:240.0.0.1"} {
		if IsTunnel(netip.MustParseAddr(a)) {
			t.Errorf("%s is taken for a tunnel address", a)
		}
	}
}

func drawKey(t *rapid.T) [32]byte {
	return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
}

// What fits, fits, and one byte more does not.
func TestTunnelFit(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for size := 600; size < 1600; size++ {
			packet := func(mtu int) int { // padded to 16 bytes, but not above the device's MTU
				inner := mtu + 14 + 8 + 8 + 20
				return min((inner+15)&^15, TunnelMTU(mtu)) + 32 + 8 + map[bool]int{false: 20, true: 40}[v6]
			}
			if fit := TunnelFit(size, v6); packet(fit) > size || packet(fit+1) <= size {
				t.Fatalf("in %d bytes: %d", size, fit)
			}
		}
	}
	if v4, v6 := TunnelFit(1500, false), TunnelFit(1500, true); v4 != 1390 || v6 != 1370 {
		t.Errorf("in 1500 bytes: %d of IPv4, %d of IPv6", v4, v6)
	}
}

func TestTunnelPeerValid(t *testing.T) {
	key := [32]byte{1}
	good := TunnelPeer{Key: key, Addr: TunnelAddr(key), Endpoint: netip.MustParseAddrPort("192.0.2.1:6785")}
	if err := good.Valid(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*TunnelPeer){
		"no key":               func(p *TunnelPeer) { p.Key = [32]byte{} },
		"another's address":    func(p *TunnelPeer) { p.Addr = p.Addr.Next() },
		"no endpoint":          func(p *TunnelPeer) { p.Endpoint = netip.AddrPort{} },
		"no port":              func(p *TunnelPeer) { p.Endpoint = netip.AddrPortFrom(good.Endpoint.Addr(), 0) },
		"itself":               func(p *TunnelPeer) { p.Endpoint = netip.MustParseAddrPort("127.0.0.1:6785") },
		"a group":              func(p *TunnelPeer) { p.Endpoint = netip.MustParseAddrPort("224.0.0.1:6785") },
		"a tunnel in a tunnel": func(p *TunnelPeer) { p.Endpoint = netip.MustParseAddrPort("240.0.0.1:6785") },
	} {
		bad := good
		change(&bad)
		if bad.Valid() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// tunnelWorld is a WireGuard device: an address is at one peer only, the last that was given it.
type tunnelWorld []TunnelPeer

func (w *tunnelWorld) do(s TunnelStep) {
	i := slices.IndexFunc(*w, func(p TunnelPeer) bool { return p.Key == s.Peer.Key })
	if s.Op == RemovePeer {
		if i >= 0 {
			*w = slices.Delete(*w, i, i+1)
		}
		return
	}
	for j := range *w {
		if (*w)[j].Addr == s.Peer.Addr {
			(*w)[j].Addr = netip.Addr{}
		}
	}
	if i < 0 {
		*w = append(*w, s.Peer)
		return
	}
	if s.Known {
		s.Peer.Endpoint = (*w)[i].Endpoint
	}
	(*w)[i] = s.Peer
}

// From whatever was there to whatever is wanted: after all steps the device has the peers wanted and no others, and before that,
// at any moment, no peer's packets are let in or sent with an address that it does not have in one of the two. Who is wanted and
// was right all the time is not touched, and stays where it moved to.
func TestPlanTunnel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string, moved bool) (out []TunnelPeer) {
			for i := range 6 {
				key := [32]byte{byte(i + 1)}
				if !rapid.Bool().Draw(t, label) {
					continue
				}
				p := TunnelPeer{Key: key, PSK: [32]byte{rapid.ByteRange(0, 1).Draw(t, "psk")}, Addr: TunnelAddr(key), Endpoint: netip.MustParseAddrPort("192.0.2.1:6785")}
				if moved && rapid.Bool().Draw(t, "moved") {
					p.Endpoint = netip.MustParseAddrPort("192.0.2.9:1024")
				}
				if moved && rapid.Bool().Draw(t, "damaged") {
					p.Addr, p.Endpoint = netip.Addr{}, netip.AddrPort{}
				}
				out = append(out, p)
			}
			return out
		}
		seen, want := draw("seen", true), draw("wanted", false)
		world := tunnelWorld(slices.Clone(seen))
		for _, s := range PlanTunnel(want, seen) {
			i := slices.IndexFunc(seen, func(p TunnelPeer) bool { return p.Key == s.Peer.Key })
			j := slices.IndexFunc(want, func(p TunnelPeer) bool { return p.Key == s.Peer.Key })
			if i >= 0 && j >= 0 && seen[i].Addr == want[j].Addr && seen[i].PSK == want[j].PSK {
				t.Fatalf("%+v was right, and is touched", s.Peer)
			}
			world.do(s)
			for _, p := range world {
				if p.Addr.IsValid() && p.Addr != TunnelAddr(p.Key) {
					t.Fatalf("%v is at another's device", p.Addr)
				}
			}
		}
		if len(world) != len(want) {
			t.Fatalf("%d peers, want %d", len(world), len(want))
		}
		for _, w := range want {
			i := slices.IndexFunc(world, func(p TunnelPeer) bool { return p.Key == w.Key })
			if i < 0 || world[i].Addr != w.Addr || world[i].PSK != w.PSK || !world[i].Endpoint.IsValid() {
				t.Fatalf("want %+v, have %+v", w, world)
			}
		}
		if again := PlanTunnel(want, world); len(again) > 0 {
			t.Fatalf("not done: %+v", again)
		}
	})
}
