package node

import (
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"weave/peer"
	"weave/peer/session"
	"weave/runtime"
)

const (
	// shieldLinger is how long after a peer has left the kernel path its shield stays, without keys: what was on its way
	// through the kernel meanwhile is dropped and not sent in clear.
	shieldLinger = 2 * time.Second
	// shieldRetry is how long a peer is not tried whose shield could not be made.
	shieldRetry = 30 * time.Second
	// shieldGrace is how long the keys of a session that was retired open still. Two handshakes at once retire the one before
	// while the other end may not have either of the new ones.
	shieldGrace = 10 * time.Second
)

// shielder makes shields; *netlink.Host is one.
type shielder interface {
	Shield(port uint16, want []runtime.Shield) (failed []netip.Addr, err error)
	Shielded(port uint16) ([]netip.Addr, error)
	SourceTo(peer netip.Addr) (netip.Addr, error)
}

// shields have VXLAN with the peers that must be encrypted go through the kernel's IPsec, with keys of their sessions, or to tunnel
// addresses through its WireGuard. It belongs to the session loop.
//
// A shield is there before anything is sent to a peer or let in from it, and gone after that has ended. The keys of a
// handshake open at once, and before its answer leaves, so that the other end may seal with them as soon as it knows.
type shields struct {
	kernel  shielder
	log     *slog.Logger
	support runtime.ShieldSupport
	port    uint16
	local   netip.Addr // what VXLAN is sent from; invalid: whatever leads to the peer
	tunnels *tunnels

	keys map[session.PublicKey][]sessionKeys // of all live sessions, oldest first
	on   map[netip.Addr]*shielded
	done []runtime.Shield // as the kernel was told last
}

// sessionKeys are what one keypair of a session gave.
type sessionKeys struct {
	pair    *session.Keypair
	retired time.Time // zero: not yet
	runtime.Generation
}

// shielded is a peer's address that there is a shield for.
type shielded struct {
	peer   session.PublicKey // zero: not known, as an earlier daemon left it
	local  netip.Addr
	left   time.Time // not on the path any more since; zero: it is
	broken bool      // the shield could not be made
	failed time.Time // when it could not be made last
	why    string    // that
}

// openShields takes over the shields that an earlier daemon has left. Where it cannot be found out which these are, nothing
// is encrypted by the kernel.
func openShields(kernel shielder, support runtime.ShieldSupport, port uint16, local netip.Addr, log *slog.Logger) *shields {
	s := &shields{
		kernel: kernel, log: log, support: support, port: port, local: local,
		tunnels: noTunnels("there is no WireGuard"),
		keys:    map[session.PublicKey][]sessionKeys{}, on: map[netip.Addr]*shielded{},
		done: []runtime.Shield{{}}, // not known: what nobody wants is to be removed at first
	}
	left, err := kernel.Shielded(port)
	if err != nil {
		log.Warn("the kernel cannot encrypt VXLAN", "err", err)
		s.support = runtime.ShieldSupport{IPv4: err.Error(), IPv6: err.Error()}
	}
	for _, a := range left {
		s.on[a] = &shielded{local: s.sourceTo(a)}
		if s.support.For(a) != "" { // it is to end, and until VXLAN has there is nothing in clear
			s.on[a].left = time.Now()
		}
	}
	return s
}

// capabilities are what of it others should know.
func (s *shields) capabilities() (c peer.Capability) {
	if s.support.IPv4 == "" {
		c |= peer.CapESP4
	}
	if s.support.IPv6 == "" {
		c |= peer.CapESP6
	}
	return c
}

// place says from which of the addresses that a peer is reached at VXLAN is to come, encrypted, or else why from none.
func (s *shields) place(n neighbour, direct []netip.Addr) (froms []netip.Addr, why string) {
	kind, all := chooseSealing(n.esp, s.tunnels.refuses(n.tunnel) == "", direct)
	switch kind {
	case sealESP:
		for _, a := range all {
			if on := s.on[a]; on != nil && on.why != "" && time.Since(on.failed) < shieldRetry {
				why = on.why // and no WireGuard instead: the other end would not know
			} else {
				froms = append(froms, a)
			}
		}
	case sealWireGuard:
		a := runtime.TunnelAddr(n.tunnel)
		if why = s.tunnels.trouble(a); why == "" {
			froms = []netip.Addr{a}
		}
	case sealNone:
		if len(direct) > 0 {
			why = "encrypted, and " + s.noESP(direct[0]) + "; " + s.tunnels.refuses(n.tunnel)
		}
	}
	return froms, why
}

// lasts tells whether a peer may stay where it is: a tunnel ends with the device at its other end.
func (s *shields) lasts(n neighbour, at netip.Addr) bool {
	return !runtime.IsTunnel(at) || !n.tunnel.IsZero() && at == runtime.TunnelAddr(n.tunnel)
}

// noESP is why VXLAN to an address cannot be in ESP.
func (s *shields) noESP(a netip.Addr) string {
	if why := s.support.For(a); why != "" {
		return "here " + why
	}
	return "the other end's kernel has no IPsec for it"
}

// sealing is how VXLAN with a peer is encrypted.
type sealing uint8

const (
	sealNone sealing = iota
	sealESP
	sealWireGuard
)

// chooseSealing chooses by what both ends have, so that both choose the same: ESP, with those of the addresses at which the peer is
// reached that both have it for, else WireGuard.
func chooseSealing(esp peer.Capability, tunnel bool, direct []netip.Addr) (sealing, []netip.Addr) {
	var all []netip.Addr
	for _, a := range direct {
		one := peer.CapESP6
		if a.Is4() {
			one = peer.CapESP4
		}
		if esp&one != 0 {
			all = append(all, a)
		}
	}
	switch {
	case len(all) > 0:
		return sealESP, all
	case tunnel && len(direct) > 0:
		return sealWireGuard, direct
	}
	return sealNone, nil
}

// seal names what encrypts VXLAN to an address; "": nothing.
func (s *shields) seal(a netip.Addr) string {
	switch {
	case !s.has(a):
		return ""
	case runtime.IsTunnel(a):
		return EncryptWireGuard
	}
	return EncryptIPsec
}

// fit is the largest packet of a container that the encrypted kernel path carries whole along a session's path; not encrypted, no
// limit.
func (s *shields) fit(a netip.Addr, at *path) int {
	switch {
	case !s.has(a):
		return MaxMTU
	case runtime.IsTunnel(a):
		return runtime.TunnelFit(at.mtu, at.v6)
	}
	return runtime.ESPFit(at.mtu, at.v6)
}

// has tells whether there is a shield for an address that is on the path, or being tried.
func (s *shields) has(a netip.Addr) bool {
	on := s.on[a]
	return on != nil && on.left.IsZero() || s.tunnels.has(a)
}

// learn derives the keys of a new keypair.
func (s *shields) learn(pair *session.Keypair, now time.Time) {
	if s.capabilities() == 0 && s.tunnels.kernel == nil || pair.Suite() == session.SuiteClear {
		return
	}
	var secret [runtime.ESPSecretLen]byte
	defer clear(secret[:])
	k := sessionKeys{pair: pair, Generation: runtime.Generation{Since: now}}
	err := pair.Export(runtime.ESPLabel, secret[:])
	if err == nil {
		k.Out, k.In, err = runtime.DeriveESP(secret[:], pair.Initiator())
	}
	if err != nil {
		s.log.Warn("no keys for IPsec", "err", err)
		return
	}
	s.keys[pair.Peer()] = append(s.keys[pair.Peer()], k)
}

// forget notes that a keypair was retired.
func (s *shields) forget(r session.Retire, now time.Time) {
	for i, k := range s.keys[r.Peer] {
		if k.pair.LocalIndex() == r.Index && k.retired.IsZero() {
			s.keys[r.Peer][i].retired = now
		}
	}
}

// prune drops the keys that were retired a while ago.
func (s *shields) prune(now time.Time) {
	for peer, all := range s.keys {
		spent := func(k sessionKeys) bool { return !k.retired.IsZero() && now.Sub(k.retired) > shieldGrace }
		if all = slices.DeleteFunc(all, spent); len(all) > 0 { // which also clears what is behind the end
			s.keys[peer] = all
		} else {
			delete(s.keys, peer)
		}
	}
}

// claim notes whose an address is.
func (s *shields) claim(a netip.Addr, p *peerState) {
	if on := s.on[a]; on != nil && on.left.IsZero() {
		on.peer = p.key
	}
	s.tunnels.claim(a, p)
}

// raise has a shield around an address of a peer; nil: it is not known any more, and its keys are gone.
func (s *shields) raise(a netip.Addr, p *peerState) {
	on := &shielded{local: s.sourceTo(a)}
	if old := s.on[a]; old != nil {
		on.failed, on.why = old.failed, old.why
	}
	s.on[a] = on
	if p != nil {
		on.peer = p.key
	}
}

// lower takes the shield down, after a moment.
func (s *shields) lower(a netip.Addr, now time.Time) {
	if on := s.on[a]; on != nil && on.left.IsZero() {
		on.left = now
	}
	s.tunnels.lower(a)
}

// keep takes down all shields but those around some addresses.
func (s *shields) keep(list []netip.Addr, now time.Time) {
	for _, a := range slices.Concat(slices.Collect(maps.Keys(s.on)), slices.Collect(maps.Keys(s.tunnels.on))) {
		if !slices.Contains(list, a) {
			s.lower(a, now)
		}
	}
}

func (s *shields) sourceTo(a netip.Addr) netip.Addr {
	if s.local.IsValid() {
		return s.local
	}
	local, err := s.kernel.SourceTo(a)
	if err != nil {
		s.log.Debug("no way to a peer", "at", a, "err", err)
	}
	return local
}

// apply makes the kernel's shields what they are to be now, if that is another than before.
func (s *shields) apply(now time.Time) {
	s.prune(now)
	s.tunnels.apply(func(k session.PublicKey) bool { return len(s.keys[k]) > 0 }, now)
	var want []runtime.Shield
	for a, on := range s.on {
		switch gone := !on.left.IsZero() && now.Sub(on.left) > shieldLinger; {
		case gone && now.Sub(on.failed) > shieldRetry:
			delete(s.on, a)
		case !gone && on.local.IsValid():
			want = append(want, s.shield(a, on, now))
		}
	}
	slices.SortFunc(want, func(a, b runtime.Shield) int { return a.Peer.Compare(b.Peer) })
	if reflect.DeepEqual(want, s.done) {
		return
	}
	s.done = want
	failed, err := s.kernel.Shield(s.port, want)
	if err != nil {
		s.log.Warn("VXLAN with some peers cannot be encrypted by the kernel", "peers", failed, "err", err)
	}
	for a, on := range s.on {
		if on.broken = slices.Contains(failed, a); on.broken {
			on.failed, on.why = now, "encrypted, and the kernel refuses: "+err.Error()
		}
	}
}

// shield is what one peer's is to be.
func (s *shields) shield(a netip.Addr, on *shielded, now time.Time) runtime.Shield {
	w := runtime.Shield{Local: on.local, Peer: a}
	if !on.left.IsZero() {
		return w
	}
	var all []runtime.Generation
	for _, k := range s.keys[on.peer] {
		k.Confirmed = k.pair.Confirmed()
		all = append(all, k.Generation)
	}
	w.Adopt = runtime.Adopting(all, now)
	return runtime.ShieldOf(w, all, now)
}

// without takes out the addresses that have no shield although they should.
func (s *shields) without(list []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool {
		on := s.on[a]
		return on != nil && (on.broken || !on.local.IsValid()) || s.tunnels.broken(a)
	})
}
