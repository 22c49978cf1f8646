package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"weave/peer"
	"weave/peer/session"
	"weave/peer/wire"
)

// fastTick tells the kernel path's core what is known of each peer, and lets time pass for it.
func (l *sessionLoop) fastTick(ctx context.Context, now time.Time) {
	f := l.fast
	if f == nil || f.core == nil {
		return
	}
	for _, p := range l.book.peers {
		f.perform(l, f.core.Step(now, l.fastPeer(p)))
	}
	f.perform(l, f.core.Step(now, peer.FastTick{Sealed: l.sealed()}))
	l.fastShield(now)
	l.fastNews(ctx)
}

// fastNews tells the mesh of peers that have changed paths.
func (l *sessionLoop) fastNews(ctx context.Context) {
	for _, p := range l.book.peers {
		if p.news && p.link.Load() != nil {
			l.announce(ctx, p)
		}
		p.news = false
	}
}

// fastPeer describes a peer to the core: whether the kernel path may be used to it, and where it is.
func (l *sessionLoop) fastPeer(p *peerState) peer.FastPeer {
	in := peer.FastPeer{
		Name: p.name, Life: p.wish.uid, Trusted: p.wish.clear, Shield: l.sealed() && !p.wish.clear, Linked: p.gone.IsZero() && p.wish.conn != 0,
		Heard: l.dp.started.Add(time.Duration(p.heard.Load()) * time.Millisecond),
	}
	switch {
	case !p.gone.IsZero():
		in.Pending = true
	case !p.wish.fast:
		in.Why = "not offered by the other end"
	case !l.fast.auto && p.wish.mtu != 0 && p.wish.mtu < l.fast.host.MTU():
		in.Why = fmt.Sprintf("its containers take packets of %d bytes only", p.wish.mtu)
	case p.wish.distant:
		in.Why = "no neighbour, in a network of this size"
	default:
		l.fastPlace(p, &in)
	}
	return in
}

// fastPlace finds where the kernel path to a peer leads. Of its addresses that answer the sessions' heartbeats both ends
// take IPv4 first, so that mostly they take the same family. What it sends may come from any of them; behind a shield from
// the one alone. One that is on stays where it is: that beats arrive there says more than which way the session takes, which
// after a restart begins with TCP.
func (l *sessionLoop) fastPlace(p *peerState, in *peer.FastPeer) {
	best := p.paths.Best()
	direct, ports, up := l.fastDirect(p)
	var refused string
	in.Froms, refused = l.fastFroms(p, in.Shield, direct)
	on, _ := l.fast.state(p.name)
	at := l.fast.core.At(p.name)
	switch {
	case !up:
		in.Pending = true
	case on && (in.Shield && l.fast.shields.lasts(p.wish, at) || l.fast.clearAt(at, l.sealed())):
		in.At = at
	case len(in.Froms) > 0: // also where the session has a relay that is faster now
		in.At = l.fastAddress(p, in.Froms, best.Addr.Addr().Unmap())
		if in.Shield {
			in.Froms = []netip.Addr{in.At}
		}
	case len(direct) == 0 && len(ports) > 0:
		in.Why = fmt.Sprintf("it is reached at UDP port %d, not at %d as here", ports[0], l.fast.port)
	case refused != "":
		in.Why = refused
	case best.Kind != peer.WayDirect:
		in.Why = fmt.Sprintf("the path is not direct, but %s", best.Kind)
	default:
		in.Why = "no VXLAN over this family of addresses here"
	}
}

// fastDirect are the addresses at which a peer answers, at the port that is ours too; other ports; whether it answers at all.
func (l *sessionLoop) fastDirect(p *peerState) (direct []netip.Addr, others []uint16, up bool) {
	for _, w := range p.paths.All() {
		r, _ := p.paths.Report(w)
		up = up || r.Up
		if !r.Up || w.Kind != peer.WayDirect {
			continue
		}
		if w.Addr.Port() != l.fast.port {
			others = append(others, w.Addr.Port())
		} else if a := w.Addr.Addr().Unmap(); !slices.Contains(direct, a) {
			direct = append(direct, a)
		}
	}
	return direct, others, up
}

// fastFroms are the addresses that VXLAN with a peer may be sent to and come from, or why there are none.
func (l *sessionLoop) fastFroms(p *peerState, shield bool, direct []netip.Addr) (froms []netip.Addr, refused string) {
	if shield {
		froms, refused = l.fast.shields.place(p.wish, direct)
	}
	for _, a := range direct {
		switch {
		case shield:
		case l.fast.clearAt(a, l.sealed()):
			froms = append(froms, a)
		default:
			refused = "it is not at a trusted address"
		}
	}
	return slices.DeleteFunc(froms, func(a netip.Addr) bool { return !l.fast.kernel.Reaches(a) }), refused
}

// fastEndpoint is where the kernel's WireGuard is to look for a peer's; invalid: nowhere.
func (l *sessionLoop) fastEndpoint(p *peerState) netip.AddrPort {
	if p == nil {
		return netip.AddrPort{}
	}
	direct, _, _ := l.fastDirect(p)
	if len(direct) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(l.fastAddress(p, direct, p.paths.Best().Addr.Addr().Unmap()), l.fast.port+2)
}

// fastKeys hands the keys of new sessions to the kernel, before anybody is told that they are there, and takes the old ones
// from it.
func (l *sessionLoop) fastKeys(eff session.Effects, now time.Time) {
	if l.fast == nil || l.fast.core == nil || len(eff.Install)+len(eff.Retire) == 0 {
		return
	}
	for _, r := range eff.Retire {
		l.fast.shields.forget(r, now)
	}
	for _, i := range eff.Install {
		l.fast.shields.learn(i.Keypair, now)
	}
	l.fastShield(now)
}

// fastShield has the kernel encrypt with the keys of now. Whose the addresses are that an earlier daemon left turns out
// by and by.
func (l *sessionLoop) fastShield(now time.Time) {
	for _, p := range l.book.peers {
		l.fast.shields.claim(l.fast.core.At(p.name), p)
	}
	l.fast.shields.apply(now)
}

// sealed tells that clear text may go to trusted peers only.
func (l *sessionLoop) sealed() bool { return len(*l.secrets.Load()) > 0 }

// fastAddress chooses: the one in use, else the best of the better family.
func (l *sessionLoop) fastAddress(p *peerState, froms []netip.Addr, best netip.Addr) netip.Addr {
	if at := l.fast.core.At(p.name); slices.Contains(froms, at) {
		return at
	}
	v4 := slices.IndexFunc(froms, netip.Addr.Is4)
	switch {
	case slices.Contains(froms, best) && (best.Is4() || v4 < 0):
		return best
	case v4 >= 0:
		return froms[v4]
	}
	return froms[0]
}

// fastBeaten takes in a beat that came by VXLAN.
func (l *sessionLoop) fastBeaten(b wire.FastBeat, now time.Time) {
	if l.fast != nil && l.fast.core != nil {
		l.fast.perform(l, l.fast.core.Step(now, peer.FastHeard{Beat: b}))
	}
}

// fastReported takes in what a peer says of the kernel path.
func (l *sessionLoop) fastReported(p *peerState, plain []byte, now time.Time) {
	f := l.fast
	if p == nil || f == nil || f.core == nil {
		return
	}
	r, ok := wire.ParseFastReport(plain, f.key(p), p.name, f.self)
	if !ok {
		l.dp.counters.add(dropShort, 1)
		return
	}
	f.perform(l, f.core.Step(now, peer.FastReported{Name: p.name, Report: r}))
}

// fastReady tells when something was done for the kernel path.
func (l *sessionLoop) fastReady() <-chan struct{} {
	if l.fast == nil || l.fast.core == nil {
		return nil
	}
	return l.fast.queue.ready
}

// fastDone does what had to wait for that, and tells the mesh.
func (l *sessionLoop) fastDone(ctx context.Context, now time.Time) {
	for _, then := range l.fast.queue.reap() {
		l.fast.after(l, then, now)
	}
	l.fastNews(ctx)
}

// sendReport sends one to a peer that there is a session with.
func (l *sessionLoop) sendReport(s peer.FastSend) {
	p := l.named(s.To)
	if p == nil || p.keys.Sending() == nil || p.path.Load() == nil {
		return
	}
	l.out.plain(p.remote, wire.AppendFastReport(nil, s.Report, l.fast.key(p), l.fast.self, p.name))
}

// fastAdd puts a peer that has just become known, or known again, into the set that it is in.
func (l *sessionLoop) fastAdd(p *peerState) {
	if f := l.fast; f != nil && f.core != nil {
		on, _ := f.state(p.name)
		f.queue.settle() // or it would be flooded to by us before the kernel has ceased to, after it was known before
		f.take(p, f.core.At(p.name), on)
		f.bypass(p, on)
	}
}

// fastRemove tells that a peer is not known any more.
func (l *sessionLoop) fastRemove(p *peerState, now time.Time) {
	if f := l.fast; f != nil && f.core != nil {
		f.perform(l, f.core.Step(now, peer.FastGone{Name: p.name}))
	}
}

// named finds a peer by its name; nil if it is not known.
func (l *sessionLoop) named(n peer.Name) *peerState {
	if r := l.book.names[n]; r != nil {
		return l.book.ports[r.port]
	}
	return nil
}
