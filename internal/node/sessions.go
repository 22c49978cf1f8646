package node

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"weave/peer"
	"weave/peer/session"
	"weave/stack"
)

// Times of the session loop.
const (
	// coarseTick bounds the age of the data plane's clock and of timers that the
	// hot path feeds (session.Tick).
	coarseTick = 250 * time.Millisecond
	// beatFirst is the interval of heartbeats until the first is answered,
	// beatSteady afterwards; after beatLost without an answer the path is down.
	beatFirst  = 500 * time.Millisecond
	beatSteady = 5 * time.Second
	beatLost   = 16 * time.Second
	// lingering keeps the session of a peer whose control connection went: a
	// data path that works is not cut for it.
	lingering = 30 * time.Second
	// yieldInitiation is how long the peer with the higher key leaves the first
	// handshake to the other; behind NAT only one of them gets through.
	yieldInitiation = time.Second
	// ageInterval is short because knowledge of multicast comes into force by
	// ageing (stack.Switch.Age).
	ageInterval = 5 * time.Second
	// roamAfter is for how many seconds a peer's address must be silent before
	// another one takes its place.
	roamAfter = 1
	// loadThreshold is the handshake queue's length from which cookies are asked.
	loadThreshold = 128
)

// neighbour is a peer that the mesh wants a data session with.
type neighbour struct {
	name       peer.Name
	uid        uint64
	key        session.PublicKey
	aes        bool
	candidates []netip.AddrPort
}

// peerState is what the session loop remembers of a peer.
type peerState struct {
	*remote
	uid        uint64
	candidates []netip.AddrPort
	yield      time.Time // no initiation of ours before
	gone       time.Time // the mesh no longer has the peer; zero while it has

	mtu       peer.PathMTU
	probes    map[uint32]int // sizes of this round's probes by sequence number
	seq       uint32
	sentBeat  time.Time
	heardBeat time.Time // last answer; zero: none since the session began
	rtt       time.Duration
	up        bool
}

// sessionLoop owns the handshake machine and everything that the data plane
// reads: it publishes the table, moves paths, sends heartbeats.
type sessionLoop struct {
	dp      *dataplane
	machine *session.Machine
	psk     [32]byte
	self    session.PublicKey
	out     *output
	log     *slog.Logger
	report  chan<- peer.Input // path changes, to the mesh loop

	wanted atomic.Pointer[[]neighbour]
	wake   chan struct{}

	peers    map[session.PublicKey]*peerState
	ports    map[stack.Port]*peerState
	keys     map[uint32]keyEntry
	nextPort stack.Port
	aged     time.Time
	hurry    bool // a tick is due at once
}

// want replaces the set of peers; any goroutine may call it, it never blocks.
func (l *sessionLoop) want(ns []neighbour) {
	l.wanted.Store(&ns)
	offer(l.wake, struct{}{})
}

// run works until ctx ends.
func (l *sessionLoop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
			l.sync(l.now())
		case d := <-l.dp.handshakes:
			l.handshake(d)
		case p := <-l.dp.wants:
			l.initiate(l.ports[p], l.now())
		case m := <-l.dp.moves:
			l.roam(l.ports[m.port], m.from)
		case b := <-l.dp.beats:
			l.answered(ctx, l.ports[b.port], b, l.now())
		case to := <-l.dp.remeasure:
			l.remeasure(ctx, to)
		case <-timer.C:
			l.tick(ctx, l.now())
			timer.Reset(coarseTick)
		}
		if l.hurry {
			l.hurry = false
			timer.Reset(0)
		}
		l.out.flush()
	}
}

// now advances the data plane's clock.
func (l *sessionLoop) now() time.Time {
	t := time.Now()
	l.dp.advance(t)
	return t
}

// sync makes the peers those that the mesh wants.
func (l *sessionLoop) sync(now time.Time) {
	seen := map[session.PublicKey]bool{}
	for _, n := range *l.wanted.Load() {
		seen[n.key] = true
		p := l.peers[n.key]
		if p != nil && p.uid != n.uid {
			l.restarted(p, n, now)
		}
		if p == nil {
			if p = l.add(n, now); p == nil {
				continue
			}
		}
		p.gone = time.Time{}
		p.candidates = n.candidates
		l.initiate(p, now)
	}
	for key, p := range l.peers {
		if !seen[key] && p.gone.IsZero() {
			p.gone = now
		}
	}
}

// restarted deals with a peer that has forgotten our keys. Its own first
// handshake may have come before the news of its restart; what that yielded
// stays, and one handshake more does no harm.
func (l *sessionLoop) restarted(p *peerState, n neighbour, now time.Time) {
	p.uid, p.up, p.yield = n.uid, false, time.Time{}
	p.heardBeat, p.sentBeat = time.Time{}, time.Time{}
	l.admit(n, now) // it may have another processor now
	l.step(now, session.Want{Key: p.key}, netip.AddrPort{})
}

// admit tells the machine of a peer, or of what changed about it.
func (l *sessionLoop) admit(n neighbour, now time.Time) {
	suite := session.SuiteWireGuard
	if n.aes {
		suite = session.SuiteAESGCM
	}
	l.step(now, session.AddPeer{Key: n.key, PSK: l.psk, Suite: suite}, netip.AddrPort{})
}

func (l *sessionLoop) add(n neighbour, now time.Time) *peerState {
	l.admit(n, now)
	keys := l.machine.Keys(n.key)
	if keys == nil {
		l.log.Warn("peer's key is of no use", "peer", n.name)
		return nil
	}
	r := &remote{name: n.name, key: n.key, port: l.freePort(), keys: keys}
	p := &peerState{remote: r, uid: n.uid, candidates: n.candidates, probes: map[uint32]int{}}
	if slices.Compare(l.self[:], n.key[:]) > 0 {
		p.yield = now.Add(yieldInitiation)
	}
	l.peers[n.key], l.ports[r.port] = p, p
	l.dp.sw.AddPort(r.port, stack.Remote)
	l.publish()
	return p
}

func (l *sessionLoop) remove(p *peerState, now time.Time) {
	l.step(now, session.RemovePeer{Key: p.key}, netip.AddrPort{})
	delete(l.peers, p.key)
	delete(l.ports, p.port)
	maps.DeleteFunc(l.keys, func(_ uint32, e keyEntry) bool { return e.from == p.remote })
	l.dp.sw.RemovePort(p.port)
	l.publish()
}

// freePort hands out ports in turn, so that a number returns late.
func (l *sessionLoop) freePort() stack.Port {
	for {
		l.nextPort++
		if l.nextPort < firstRemotePort {
			l.nextPort = firstRemotePort
		}
		if l.ports[l.nextPort] == nil {
			return l.nextPort
		}
	}
}

// publish shows the data plane the peers and keys of this moment.
func (l *sessionLoop) publish() {
	t := &table{keys: maps.Clone(l.keys)}
	for port, p := range l.ports {
		for int(port) >= len(t.remotes) {
			t.remotes = append(t.remotes, nil)
		}
		t.remotes[port] = p.remote
	}
	l.dp.table.Store(t)
}

// initiate starts a handshake unless there is a key, one is under way or it is
// the other's turn.
func (l *sessionLoop) initiate(p *peerState, now time.Time) {
	if p == nil || p.keys.Sending() != nil || now.Before(p.yield) {
		return
	}
	l.step(now, session.Want{Key: p.key}, netip.AddrPort{})
}

func (l *sessionLoop) handshake(d datagram) {
	l.step(l.now(), session.Datagram{
		From: d.from, Bytes: d.bytes, UnderLoad: len(l.dp.handshakes) > loadThreshold,
	}, d.from)
}

// step feeds the machine and performs its effects; from is where an input that
// is a datagram came from.
func (l *sessionLoop) step(now time.Time, in session.Input, from netip.AddrPort) {
	eff := l.machine.Step(now, in)
	for _, i := range eff.Install {
		l.install(i, from)
	}
	for _, r := range eff.Retire {
		delete(l.keys, r.Index)
	}
	if len(eff.Install)+len(eff.Retire) > 0 {
		l.publish()
	}
	for _, s := range eff.Send {
		l.send(s)
	}
	for _, key := range eff.Keepalive {
		if p := l.peers[key]; p != nil {
			l.out.plain(p.remote, nil)
		}
	}
	for _, key := range eff.Failed {
		if p := l.peers[key]; p != nil {
			l.log.Info("no answer to handshakes", "peer", p.name)
		}
	}
	for _, d := range eff.Dropped {
		l.dp.counters.handshakes[d.Reason].Add(1)
	}
}

// install makes a new key known to the data plane. The address that its
// handshake came from is the peer's path.
func (l *sessionLoop) install(i session.Install, from netip.AddrPort) {
	p := l.peers[i.Peer]
	if p == nil {
		return
	}
	l.keys[i.Keypair.LocalIndex()] = keyEntry{pair: i.Keypair, from: p.remote}
	l.move(p, from)
	if p.heardBeat.IsZero() {
		p.sentBeat, l.hurry = time.Time{}, true // beat at once
	}
}

// send passes a handshake message on: where it must go, or where the peer is,
// or wherever it may be.
func (l *sessionLoop) send(s session.Send) {
	if s.To.IsValid() {
		l.out.raw(s.To, s.Bytes)
		return
	}
	p := l.peers[s.Peer]
	if p == nil {
		return
	}
	if at := p.path.Load(); at != nil {
		l.out.raw(at.addr, s.Bytes)
	}
	for _, to := range p.candidates {
		if at := p.path.Load(); at == nil || at.addr != to {
			l.out.raw(to, s.Bytes)
		}
	}
}

// roam follows a peer whose messages come from another address, unless the
// known address is alive too: two peers that reach each other in two ways would
// otherwise follow each other back and forth.
func (l *sessionLoop) roam(p *peerState, from netip.AddrPort) {
	l.now()
	if p != nil && p.path.Load() != nil && l.dp.seconds.Load()-p.heard.Load() <= roamAfter {
		return
	}
	l.move(p, from)
}

// move makes from the peer's path.
func (l *sessionLoop) move(p *peerState, from netip.AddrPort) {
	if p == nil || !from.IsValid() {
		return
	}
	if at := p.path.Load(); at != nil && at.addr == from {
		return
	}
	p.mtu.Begin(l.measure(from))
	p.sentBeat, l.hurry = time.Time{}, true // beat, and probe, at once
	p.path.Store(newPath(from, p.mtu.Current()))
}

// measure asks the kernel for the MTU towards an address, bytes at IP level.
func (l *sessionLoop) measure(to netip.AddrPort) int {
	s := l.dp.sockets[0].of(to.Addr().Is6())
	if s == nil {
		return peer.MinMTU
	}
	mtu, err := s.PathMTU(to)
	if err != nil {
		l.log.Debug("path MTU", "to", to, "err", err)
		return defaultUnderlayMTU
	}
	return mtu
}

// remeasure is asked for when a datagram was larger than the kernel allows.
func (l *sessionLoop) remeasure(ctx context.Context, to netip.AddrPort) {
	for _, p := range l.peers {
		at := p.path.Load()
		if at == nil || at.addr != to {
			continue
		}
		if ceiling := l.measure(to); ceiling < at.mtu {
			p.mtu.Begin(ceiling)
			l.resize(ctx, p)
		}
	}
}

// resize makes the path's messages as large as the search says.
func (l *sessionLoop) resize(ctx context.Context, p *peerState) {
	at := p.path.Load()
	if at == nil || at.mtu == p.mtu.Current() {
		return
	}
	l.log.Info("path MTU changed", "peer", p.name, "to", at.addr, "was", at.mtu, "is", p.mtu.Current())
	p.path.Store(newPath(at.addr, p.mtu.Current()))
	l.announce(ctx, p)
}

// defaultUnderlayMTU is assumed where the kernel does not say.
const defaultUnderlayMTU = 1500
