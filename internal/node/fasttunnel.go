package node

import (
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"golang.org/x/crypto/curve25519"

	"weave/peer"
	"weave/peer/session"
	"weave/runtime"
)

// tunnelKeyless is how long a peer stays in the kernel's WireGuard that there is no session with, one whose password was retired
// say: as long as the kernel's IPsec keeps keys without a daemon.
const tunnelKeyless = 5 * time.Minute

// tunneler is the kernel's WireGuard; *netlink.WireGuard is one.
type tunneler interface {
	Key() [32]byte
	Peers() ([]runtime.TunnelPeer, error)
	SetPeers(want []runtime.TunnelPeer) (failed []netip.Addr, err error)
}

// tunnels have VXLAN with peers that must be encrypted go through the kernel's WireGuard. They are to tunnel addresses what shields
// are to those of the underlay, and belong to the session loop.
//
// A peer is there before anything is sent to it, and gone after that has ended. For keys the two kernels see themselves; the
// preshared one is from the two identities.
type tunnels struct {
	kernel tunneler // nil: there is none, and off says why
	off    string
	log    *slog.Logger
	secret [32]byte // X25519, of our identity

	on   map[netip.Addr]*tunnelled
	done []runtime.TunnelPeer // as the kernel was told last
}

// tunnelled is one peer of the device.
type tunnelled struct {
	peer   session.PublicKey // zero: not known, as an earlier daemon left it
	want   runtime.TunnelPeer
	keyed  time.Time // when there was a session with it last
	left   bool      // it is not on the path any more
	broken bool      // the kernel refused it
	failed time.Time // when it did last
	why    string    // that
}

// noTunnels are those of a host without WireGuard.
func noTunnels(why string) *tunnels {
	return &tunnels{off: why, on: map[netip.Addr]*tunnelled{}}
}

// openTunnels takes over the peers that an earlier daemon has left.
func openTunnels(kernel tunneler, secret [32]byte, now time.Time, log *slog.Logger) *tunnels {
	t := &tunnels{kernel: kernel, log: log, secret: secret, on: map[netip.Addr]*tunnelled{}}
	seen, err := kernel.Peers()
	if err != nil {
		log.Warn("the kernel's WireGuard cannot be used", "err", err)
		return noTunnels(err.Error())
	}
	t.done = seen
	for _, p := range seen {
		if p.Valid() == nil {
			t.on[p.Addr] = &tunnelled{want: p, keyed: now}
		}
	}
	return t
}

// key is what others must know of ours; zero: there is none.
func (t *tunnels) key() (k peer.TunnelKey) {
	if t.kernel != nil {
		k = t.kernel.Key()
	}
	return k
}

// refuses says why there can be no tunnel with a peer that has a key; nothing if there can be.
func (t *tunnels) refuses(key peer.TunnelKey) string {
	switch {
	case t.kernel == nil:
		return "here " + t.off
	case key.IsZero():
		return "the other end's kernel has no WireGuard for it"
	case runtime.TunnelAddr(key) == runtime.TunnelAddr(t.key()):
		return "the other end's WireGuard has our address"
	}
	return ""
}

// trouble is why a peer could not be made a little while ago.
func (t *tunnels) trouble(a netip.Addr) string {
	if on := t.on[a]; on != nil && on.why != "" && time.Since(on.failed) < shieldRetry {
		return on.why
	}
	return ""
}

// has tells whether there is a tunnel to an address that is on the path, or being tried.
func (t *tunnels) has(a netip.Addr) bool {
	on := t.on[a]
	return on != nil && !on.left
}

// raise makes a peer one of the device's; nil: it is not known any more.
func (t *tunnels) raise(a netip.Addr, p *peerState, endpoint netip.AddrPort, now time.Time) {
	on := &tunnelled{keyed: now}
	if old := t.on[a]; old != nil {
		on.failed, on.why = old.failed, old.why
	}
	t.on[a] = on
	err := errors.New("it is gone")
	if p != nil {
		on.peer = p.key
		on.want = runtime.TunnelPeer{Key: p.wish.tunnel, Addr: a, Endpoint: endpoint}
		if on.want.PSK, err = t.psk(p); err == nil {
			err = on.want.Valid()
		}
	}
	if err != nil {
		on.broken, on.failed, on.why = true, now, "encrypted, and no tunnel to it can be made: "+err.Error()
	}
}

// psk is the preshared key with a peer.
func (t *tunnels) psk(p *peerState) (psk [32]byte, err error) {
	shared, err := curve25519.X25519(t.secret[:], p.key[:])
	if err != nil {
		return psk, err
	}
	defer clear(shared)
	return runtime.TunnelPSK(shared, t.key(), p.wish.tunnel)
}

// claim notes whose an address is that an earlier daemon left. A peer with another device by now is another's.
func (t *tunnels) claim(a netip.Addr, p *peerState) {
	on := t.on[a]
	if on == nil || on.left || on.peer != (session.PublicKey{}) || on.want.Key != p.wish.tunnel {
		return
	}
	if psk, err := t.psk(p); err == nil {
		on.peer, on.want.PSK = p.key, psk
	}
}

// lower takes a peer away.
func (t *tunnels) lower(a netip.Addr) {
	if on := t.on[a]; on != nil {
		on.left = true
	}
}

// apply makes the device's peers what they are to be now, if that is another than before. live tells with whom there are sessions.
func (t *tunnels) apply(live func(session.PublicKey) bool, now time.Time) {
	if t.kernel == nil {
		return
	}
	var want []runtime.TunnelPeer
	for a, on := range t.on {
		if live(on.peer) {
			on.keyed = now
		}
		switch {
		case on.left && now.Sub(on.failed) > shieldRetry:
			delete(t.on, a)
		case !on.left && now.Sub(on.keyed) <= tunnelKeyless && on.want.Valid() == nil:
			want = append(want, on.want)
		}
	}
	slices.SortFunc(want, func(a, b runtime.TunnelPeer) int { return a.Addr.Compare(b.Addr) })
	if reflect.DeepEqual(want, t.done) {
		return
	}
	t.done = want
	failed, err := t.kernel.SetPeers(want)
	if err != nil {
		t.log.Warn("the kernel's WireGuard is not as it should be", "peers", failed, "err", err)
	}
	for a, on := range t.on {
		if on.want.Valid() != nil {
			continue
		}
		if on.broken = slices.Contains(failed, a); on.broken {
			on.failed, on.why = now, "encrypted, and the kernel refuses: "+err.Error()
		}
	}
}

// broken tells that an address is not to be used although the core has it.
func (t *tunnels) broken(a netip.Addr) bool {
	on := t.on[a]
	return on != nil && on.broken
}
