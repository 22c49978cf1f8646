package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"weave/peer"
	"weave/peer/session"
	"weave/peer/wire"
	"weave/stack"
)

const (
	// engagedFor is how long a session with a distant peer of a sparse network is
	// kept up after the last frame that we sent it.
	engagedFor = time.Minute
	// trafficFor is how long after a frame its path counts as carrying traffic.
	trafficFor = 2 * time.Second
	// Frames that wait for a session: how many of one peer, and how long.
	maxWaiting = 16
	waitingFor = 3 * time.Second
	// askCandidates is how seldom the mesh is asked where a distant peer may be.
	askCandidates = 5 * time.Second
)

// wish is what the mesh wants of the data plane. It is immutable.
type wish struct {
	peers  []*neighbour // what is as it was in the wish before is the same object
	sparse bool
	view   *peer.View // knows where distant peers may be; nil: nobody is distant
}

// same tells that the session loop would find nothing to do: views aside, which
// it asks when it needs them.
func (w *wish) same(o *wish) bool {
	return w.sparse == o.sparse && slices.EqualFunc(w.peers, o.peers, func(a, b *neighbour) bool { return a == b || a.same(b) })
}

// add appends a peer. Views come every few seconds, and most say of most peers what the one before said.
func (w *wish) add(n *neighbour, before *wish) {
	if i := len(w.peers); before != nil && i < len(before.peers) && before.peers[i].same(n) {
		w.peers = append(w.peers, before.peers[i])
		return
	}
	kept := *n
	w.peers = append(w.peers, &kept)
}

func (n *neighbour) same(o *neighbour) bool {
	return n.name == o.name && n.uid == o.uid && n.key == o.key && n.aes == o.aes && n.fast == o.fast && n.esp == o.esp && n.tunnel == o.tunnel && n.mtu == o.mtu &&
		n.clear == o.clear && n.conn == o.conn && n.distant == o.distant && n.via == o.via &&
		slices.Equal(n.secrets, o.secrets) && slices.Equal(n.candidates, o.candidates)
}

// neighbour is a peer as the mesh describes it to the session loop.
type neighbour struct {
	name       peer.Name
	uid        uint64
	key        session.PublicKey
	aes        bool
	fast       bool             // both ends have the kernel path
	esp        peer.Capability  // and can encrypt it: of CapESP4 and CapESP6 those that both have
	tunnel     peer.TunnelKey   // of its kernel's WireGuard; zero: none
	mtu        int              // the largest packet that its containers take, bytes; 0: it does not tell
	secrets    []peer.SecretID  // it accepts
	clear      bool             // data need not be sealed
	conn       uint64           // the control connection with it; 0: none
	distant    bool             // in a sparse network, without a connection: a session when needed
	via        peer.Name        // the neighbour on the route to it, which may be itself; zero: no route
	candidates []netip.AddrPort // of a distant one they are asked for when needed
}

// peerState is what the session loop remembers of a peer.
type peerState struct {
	*remote
	wish  neighbour // as the mesh described it last
	news  bool      // the mesh is to be told of the link anew
	busy  bool      // engaged, when last looked at
	yield time.Time // no initiation of ours before
	gone  time.Time // the mesh no longer has the peer; zero while it has

	paths  peer.Paths
	probes []probe // in the order they were asked
	seq    uint32
	beaten time.Time // when probes was swept

	reportKey *[32]byte // see fastdp.key; nil until it is needed

	frames    uint64    // of remote.sent and passed, when last looked at
	trafficAt time.Time // when that had grown
	asked     time.Time // when candidates of a distant one were
	waiting   [][]byte  // packets for which there is no session yet
	waitingAt time.Time
}

// at is where raw messages for the peer go to go a certain way.
func (p *peerState) at(w peer.Way) netip.AddrPort {
	switch w.Kind {
	case peer.WayRelay:
		return relayOrigin(p.name)
	case peer.WayStream:
		return streamOrigin(p.wish.conn)
	}
	return w.Addr
}

// engaged reports whether a session with a peer is to be kept up.
func (l *sessionLoop) engaged(p *peerState, now time.Time) bool {
	return !p.wish.distant || now.Sub(p.trafficAt) < l.idle
}

// sync makes the peers those that the mesh has.
func (l *sessionLoop) sync(ctx context.Context, now time.Time) {
	w, list := l.wanted.Load(), l.secrets.Load()
	changed := l.book.secrets != list
	l.book.secrets = list
	seen := make(map[session.PublicKey]bool, len(w.peers))
	for _, told := range w.peers {
		n := *told
		seen[n.key] = true
		p := l.book.peers[n.key]
		switch {
		case p == nil:
			if p = l.add(n, now); p == nil {
				continue
			}
		case p.wish.clear != n.clear:
			l.remove(p, now) // keys in use must not outlive the change
			if p = l.add(n, now); p == nil {
				continue
			}
		case p.wish.uid != n.uid:
			l.restarted(p, n, now)
		case changed || p.wish.aes != n.aes || !slices.Equal(p.wish.secrets, n.secrets):
			l.admit(n, now)
		}
		if n.distant && n.candidates == nil {
			n.candidates = p.wish.candidates // asked for before
		}
		p.news = p.wish.uid != n.uid || p.wish.conn != n.conn
		p.gone, p.wish = time.Time{}, n
		p.takes.Store(uint32(n.mtu))
	}
	for key, p := range l.book.peers {
		if !seen[key] && p.gone.IsZero() {
			p.gone, p.wish.conn = now, 0
		}
	}
	l.route(w)
	if l.fast != nil {
		l.fast.spread(l, w.sparse)
	}
	l.publish()
	roused := l.roused.Swap(false)
	for _, p := range l.book.peers {
		if roused {
			p.paths.Again()
		}
		if l.engaged(p, now) {
			l.offerWays(p, now)
			l.initiate(p, now)
		}
		l.apply(p)
		if p.news && p.link.Load() != nil {
			l.announce(ctx, p)
		}
		p.news = false
	}
	l.hurry = true
}

// route follows the mesh's routes and connections.
func (l *sessionLoop) route(w *wish) {
	b := &l.book
	b.sparse, b.linked = w.sparse, nil
	for _, p := range b.peers {
		hop := b.names[p.wish.via]
		if !p.gone.IsZero() || hop != nil && !b.peers[hop.key].gone.IsZero() {
			hop = nil
		}
		if p.hop.Load() != hop {
			p.hop.Store(hop)
			p.paths.Again()
		}
		if p.wish.conn != 0 {
			b.linked = append(b.linked, p.remote)
		}
	}
}

// offerWays tells a peer's Paths which ways there may be.
func (l *sessionLoop) offerWays(p *peerState, now time.Time) {
	if w := l.wanted.Load(); p.wish.distant && w.view != nil && now.Sub(p.asked) >= askCandidates {
		p.asked = now
		p.wish.candidates = w.view.Candidates(p.name)
	}
	ways := make([]peer.Way, 0, len(p.wish.candidates)+2)
	for _, a := range p.wish.candidates {
		if !madeUp(a) {
			ways = append(ways, peer.Way{Kind: peer.WayDirect, Addr: a})
		}
	}
	if hop := p.hop.Load(); hop != nil && hop != p.remote && !p.wish.clear { // a relay must not read what it passes on
		ways = append(ways, peer.Way{Kind: peer.WayRelay})
	}
	if p.wish.conn != 0 {
		ways = append(ways, peer.Way{Kind: peer.WayStream})
	}
	p.paths.Offer(ways)
}

// restarted deals with a peer that has forgotten our keys. Its own first
// handshake may have come before the news of its restart; what that yielded
// stays, and one handshake more does no harm.
func (l *sessionLoop) restarted(p *peerState, n neighbour, now time.Time) {
	p.yield = time.Time{}
	p.paths = peer.Paths{}
	l.admit(n, now) // it may have another processor now
	l.step(now, session.Want{Key: p.key}, netip.AddrPort{})
}

// admit tells the machine of a peer, or of what changed about it.
func (l *sessionLoop) admit(n neighbour, now time.Time) {
	suite := session.SuiteWireGuard
	switch {
	case n.clear:
		suite = session.SuiteClear
	case n.aes:
		suite = session.SuiteAESGCM
	}
	l.step(now, session.AddPeer{Key: n.key, PSK: l.psk(n), Suite: suite, Clear: n.clear}, netip.AddrPort{})
}

// psk is what the handshakes with a peer are made with. With no password in common
// they must fail: ours stands for any that it does not have.
func (l *sessionLoop) psk(n neighbour) [32]byte {
	list := *l.secrets.Load()
	psk, ok := peer.CommonSecret(list, n.secrets)
	if !ok && len(list) > 0 {
		return list[0].PSK
	}
	return psk
}

func (l *sessionLoop) add(n neighbour, now time.Time) *peerState {
	l.admit(n, now)
	keys := l.machine.Keys(n.key)
	if keys == nil {
		l.log.Warn("peer's key is of no use", "peer", n.name)
		return nil
	}
	r := &remote{name: n.name, key: n.key, port: l.freePort(), keys: keys}
	p := &peerState{remote: r}
	if !n.distant && slices.Compare(l.self[:], n.key[:]) > 0 {
		p.yield = now.Add(yieldInitiation)
	}
	l.book.peers[n.key], l.book.ports[r.port], l.book.names[n.name] = p, p, r
	l.dp.sw.AddPort(r.port, stack.Remote)
	l.fastAdd(p)
	return p
}

func (l *sessionLoop) remove(p *peerState, now time.Time) {
	l.fastRemove(p, now)
	l.step(now, session.RemovePeer{Key: p.key}, netip.AddrPort{})
	b := &l.book
	delete(b.peers, p.key)
	delete(b.ports, p.port)
	if b.names[p.name] == p.remote {
		delete(b.names, p.name)
	}
	for index, e := range b.keys {
		if e.from == p.remote {
			delete(b.keys, index)
		}
	}
	for _, q := range b.peers {
		q.hop.CompareAndSwap(p.remote, nil)
	}
	b.linked = slices.DeleteFunc(b.linked, func(r *remote) bool { return r == p.remote })
	l.dp.sw.RemovePort(p.port)
	l.publish()
}

// freePort hands out ports in turn, so that a number returns late.
func (l *sessionLoop) freePort() stack.Port {
	b := &l.book
	for {
		b.nextPort++
		if b.nextPort < firstRemotePort {
			b.nextPort = firstRemotePort
		}
		if b.ports[b.nextPort] == nil {
			return b.nextPort
		}
	}
}

// stage keeps a packet until there is a session, and asks for one.
func (l *sessionLoop) stage(p *peerState, packet []byte, now time.Time) {
	if p == nil || len(p.waiting) >= maxWaiting {
		l.dp.counters.add(dropStaged, 1)
		return
	}
	if len(p.waiting) == 0 {
		p.waitingAt = now
	}
	p.waiting = append(p.waiting, packet)
	if p.wish.distant {
		p.trafficAt, p.yield = now, time.Time{}
		l.offerWays(p, now)
	}
	l.initiate(p, now)
	l.unstage(p, now)
}

// unstage sends what waits once it can be sent, and lets go what waited too
// long.
func (l *sessionLoop) unstage(p *peerState, now time.Time) {
	if len(p.waiting) == 0 {
		return
	}
	switch {
	case p.keys.Sending() != nil && p.path.Load() != nil:
		for _, packet := range p.waiting {
			buf := append(make([]byte, wire.Headroom, wire.Headroom+len(packet)), packet...)
			if wire.IsSuper(packet) || !l.out.frame(p.remote, packet) {
				l.out.cut(p.remote, buf)
			}
		}
	case now.Sub(p.waitingAt) < waitingFor:
		return
	default:
		l.dp.counters.add(dropStaged, uint64(len(p.waiting)))
	}
	p.waiting = nil
}
