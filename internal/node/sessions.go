package node

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
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
	// lingering keeps the session of a peer that the mesh lost: a data path that
	// works is not cut for it.
	lingering = 30 * time.Second
	// yieldInitiation is how long the peer with the higher key leaves the first
	// handshake to the other; behind NAT only one of them gets through.
	yieldInitiation = time.Second
	// ageInterval is short because knowledge of multicast comes into force by
	// ageing (stack.Switch.Age).
	ageInterval = 5 * time.Second
	// loadThreshold is the handshake queue's length from which cookies are asked.
	loadThreshold = 128
)

// sessionLoop owns the handshake machine and everything that the data plane
// reads: it publishes the table, chooses paths, sends heartbeats.
type sessionLoop struct {
	dp      *dataplane
	machine *session.Machine
	self    session.PublicKey
	out     *output
	log     *slog.Logger
	report  chan<- peer.Input // path changes, to the mesh loop

	wanted  atomic.Pointer[wish]
	secrets atomic.Pointer[[]peer.Secret] // of data sessions
	wake    chan struct{}
	roused  atomic.Bool // all ways are to be tried at once
	reports shownPaths  // for users

	book peerBook
	idle time.Duration // see engagedFor
	chores
	fast *fastdp // nil in tests
}

// chores is when what is done now and then was done last.
type chores struct {
	aged, shown time.Time
	hurry       bool // a tick is due at once
}

// peerBook is the session loop's peers, and what the table is made of.
type peerBook struct {
	peers    map[session.PublicKey]*peerState
	ports    map[stack.Port]*peerState
	names    map[peer.Name]*remote
	keys     map[uint32]keyEntry
	nextPort stack.Port
	secrets  *[]peer.Secret // that peers were admitted with
	sparse   bool
	linked   []*remote
}

func newPeerBook() peerBook {
	return peerBook{
		peers: map[session.PublicKey]*peerState{}, ports: map[stack.Port]*peerState{},
		names: map[peer.Name]*remote{}, keys: map[uint32]keyEntry{},
	}
}

// want replaces what the mesh wants; any goroutine may call it, it never blocks.
// Most views of the mesh differ in what is of no interest here, some round-trip
// time between others.
func (l *sessionLoop) want(w wish) {
	if old := l.wanted.Swap(&w); old == nil || !old.same(&w) {
		offer(l.wake, struct{}{})
	}
}

// accept replaces the secrets; any goroutine may call it, it never blocks. Keys in
// use stay, the next handshakes are made with a secret that both ends accept.
func (l *sessionLoop) accept(list []peer.Secret) {
	l.secrets.Store(&list)
	offer(l.wake, struct{}{})
}

// rouse has all ways tried at once, as those to us may have changed; any goroutine
// may call it, it never blocks.
func (l *sessionLoop) rouse() {
	l.roused.Store(true)
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
			if l.wanted.Load() != nil {
				l.sync(ctx, l.now())
			}
		case d := <-l.dp.handshakes:
			l.handshake(d)
		case p := <-l.dp.wants:
			l.initiate(l.book.ports[p], l.now())
		case s := <-l.dp.stagings:
			l.stage(l.book.ports[s.port], s.packet, l.now())
		case m := <-l.dp.moves:
			l.roam(l.book.ports[m.port], m.from, l.now())
		case b := <-l.dp.beats:
			l.answered(ctx, l.book.ports[b.port], b, l.now())
		case to := <-l.dp.remeasure:
			l.remeasure(ctx, to)
		case b := <-l.dp.fastBeats:
			l.fastBeaten(b, l.now())
		case r := <-l.dp.fastReports:
			l.fastReported(l.book.ports[r.port], r.plain, l.now())
		case s := <-l.dp.strays:
			if l.fast != nil {
				l.fast.stray(l, s, l.now())
			}
		case <-l.fastReady():
			l.fastDone(ctx, l.now())
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

// tick runs the timers of sessions and heartbeats.
func (l *sessionLoop) tick(ctx context.Context, now time.Time) {
	l.step(now, session.Tick{}, netip.AddrPort{})
	for _, p := range l.book.peers {
		if !p.gone.IsZero() && now.Sub(p.gone) > lingering {
			l.remove(p, now)
			continue
		}
		l.look(ctx, p, now)
	}
	l.fastTick(ctx, now)
	if now.Sub(l.chores.aged) > ageInterval {
		l.chores.aged = now
		l.dp.sw.Age(l.dp.stamp())
	}
	if now.Sub(l.chores.shown) > reportInterval {
		l.chores.shown = now
		l.show()
	}
}

// publish shows the data plane the peers and keys of this moment.
func (l *sessionLoop) publish() {
	b := &l.book
	t := &table{remotes: newRemotes(b.ports), keys: maps.Clone(b.keys), names: maps.Clone(b.names), sparse: b.sparse}
	t.linked = append(make([]*remote, 0, peer.Ample(len(b.linked))), b.linked...)
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
		l.install(i, from, now)
	}
	for _, r := range eff.Retire {
		delete(l.book.keys, r.Index)
	}
	l.fastKeys(eff, now)
	if len(eff.Install)+len(eff.Retire) > 0 {
		l.publish()
	}
	for _, s := range eff.Send {
		l.send(s)
	}
	for _, key := range eff.Keepalive {
		if p := l.book.peers[key]; p != nil {
			l.out.plain(p.remote, nil)
		}
	}
	for _, key := range eff.Failed {
		if p := l.book.peers[key]; p != nil {
			l.log.Info("no answer to handshakes", "peer", p.name)
		}
	}
	for _, d := range eff.Dropped {
		l.dp.counters.handshakes[d.Reason].Add(1)
	}
}

// install makes a new key known to the data plane. The way that the answer to our
// handshake came works. That of the other end's handshake may be one that our answer
// does not take, a firewall being on it: what the other end sends next will tell.
func (l *sessionLoop) install(i session.Install, from netip.AddrPort, now time.Time) {
	p := l.book.peers[i.Peer]
	if p == nil {
		return
	}
	l.book.keys[i.Keypair.LocalIndex()] = keyEntry{pair: i.Keypair, from: p.remote}
	if i.Keypair.Initiator() {
		p.paths.Proven(now, wayOf(from))
	} else {
		p.paths.Heard(wayOf(from), now)
	}
	l.apply(p)
	l.hurry = true // beat, and probe, at once
}

// send passes a handshake message on: where it must go, or the way that works,
// or all ways there may be.
func (l *sessionLoop) send(s session.Send) {
	if s.To.IsValid() {
		l.out.raw(s.To, s.Bytes)
		return
	}
	p := l.book.peers[s.Peer]
	if p == nil {
		return
	}
	ways := p.paths.All()
	if best := p.paths.Best(); !best.IsZero() {
		ways = []peer.Way{best}
	}
	for _, w := range ways {
		l.out.raw(p.at(w), s.Bytes)
	}
}
