package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"weave/peer"
	"weave/peer/wire"
)

// probeLife is how long an answer to a heartbeat is waited for.
const probeLife = 10 * time.Second

// overlaySleeve is Weave Net's word for the user-space path.
const overlaySleeve = "sleeve"

// probe is a heartbeat that was asked and not answered yet.
type probe struct {
	seq  uint32
	way  peer.Way
	size int // of the IP packet it made; 0: a small one
	at   time.Time
}

// look does what is due for one peer: heartbeats on the ways that want one, and
// what waits for a session.
func (l *sessionLoop) look(ctx context.Context, p *peerState, now time.Time) {
	if n := p.sent.frames.Load() + p.passed.frames.Load(); n != p.frames {
		p.frames, p.trafficAt = n, now
		if at := p.path.Load(); at != nil && at.via != nil { // it goes over the relay's link
			if relay := l.book.peers[at.via.key]; relay != nil {
				relay.trafficAt = now
			}
		}
	}
	l.unstage(p, now)
	engaged := l.engaged(p, now)
	if engaged && !p.busy {
		l.offerWays(p, now)
	}
	if p.busy = engaged; !engaged {
		l.rest(p, now)
		return
	}
	if p.keys.Sending() == nil {
		l.initiate(p, now)
	}
	if from := p.origin.Load(); from != nil {
		p.paths.Heard(wayOf(*from), l.dp.started.Add(time.Duration(p.heard.Load())*time.Millisecond))
	}
	before := p.paths.Link()
	due := p.paths.Tick(now, now.Sub(p.trafficAt) < trafficFor)
	l.apply(p)
	if p.paths.Link() != before {
		l.announce(ctx, p)
	}
	if p.keys.Sending() == nil {
		return
	}
	for _, w := range due {
		l.beat(p, w, now)
	}
	l.apply(p) // a round of the search for the MTU may have ended
	l.sweep(p, now)
}

// rest leaves a distant peer alone: nothing is asked of it. As long as it asks
// us, what it sends is answered the way it came.
func (l *sessionLoop) rest(p *peerState, now time.Time) {
	heard := l.dp.started.Add(time.Duration(p.heard.Load()) * time.Millisecond)
	if !p.paths.Best().IsZero() && now.Sub(heard) > l.idle {
		p.paths = peer.Paths{} // it may be elsewhere when it is needed again
		l.apply(p)
	}
}

// beat sends a heartbeat a certain way, and on a way in use those that look for
// its MTU.
func (l *sessionLoop) beat(p *peerState, w peer.Way, now time.Time) {
	l.ask(p, w, 0, now)
	p.paths.Sent(now, w)
	if w != p.paths.Best() && w != p.paths.Link() {
		return
	}
	for _, size := range p.paths.MTU(w).Round(now) {
		l.ask(p, w, size, now)
	}
}

// ask sends a heartbeat that makes an IP packet of size bytes, or a small one.
func (l *sessionLoop) ask(p *peerState, w peer.Way, size int, now time.Time) {
	at := l.pathOf(p, w)
	if at == nil {
		return
	}
	p.seq++
	p.probes = append(p.probes, probe{seq: p.seq, way: w, size: size, at: now})
	hb := wire.DataHeartbeat{Seq: p.seq, Timestamp: int64(now.Sub(l.dp.started))} // monotonic, deaf to changes of the clock
	l.out.scratch = wire.AppendHeartbeat(l.out.scratch[:0], hb, size-at.overhead())
	l.out.over(p.remote, at, l.out.scratch)
}

// sweep forgets questions that nobody will answer. What a search for the MTU asked
// must not stay in memory for each peer, so what is left moves to where it just fits.
func (l *sessionLoop) sweep(p *peerState, now time.Time) {
	if now.Sub(p.beaten) < probeLife {
		return
	}
	p.beaten = now
	kept := slices.DeleteFunc(p.probes, func(b probe) bool { return now.Sub(b.at) > probeLife })
	if p.probes = kept; cap(kept) > 2*len(kept)+2 {
		p.probes = append([]probe(nil), kept...)
	}
}

// answered takes the answer to a heartbeat.
func (l *sessionLoop) answered(ctx context.Context, p *peerState, b beat, now time.Time) {
	if p == nil || b.rtt < 0 {
		return
	}
	at := slices.IndexFunc(p.probes, func(asked probe) bool { return asked.seq == b.seq })
	if at < 0 {
		return
	}
	asked := p.probes[at]
	p.probes = slices.Delete(p.probes, at, at+1)
	mtu := p.paths.MTU(asked.way)
	if mtu == nil {
		return // the way is not known any more
	}
	if asked.size > 0 {
		mtu.Answered(asked.size)
		return
	}
	mtu.Heard()
	p.paths.Answered(now, asked.way, b.rtt)
	l.apply(p)
	if asked.way == p.paths.Link() {
		l.announce(ctx, p)
	}
}

// roam follows a peer whose messages come from another origin.
func (l *sessionLoop) roam(p *peerState, from netip.AddrPort, now time.Time) {
	if p == nil {
		return
	}
	p.origin.Store(&from)
	p.heard.Store(l.dp.millis.Load())
	p.paths.Seen(now, wayOf(from))
	l.apply(p)
	l.hurry = true
}

// apply gives the data plane the ways that Paths chose.
func (l *sessionLoop) apply(p *peerState) {
	l.set(p, &p.path, p.paths.Best())
	l.set(p, &p.link, p.paths.Link())
}

// set makes one of a peer's paths go a certain way.
func (l *sessionLoop) set(p *peerState, slot pathSlot, w peer.Way) {
	next := (*path)(nil)
	if !w.IsZero() {
		next = l.pathOf(p, w)
	}
	at := slot.Load()
	switch {
	case next == nil:
		if at != nil {
			slot.Store(nil)
		}
	case at == nil || *at != *next:
		if at != nil && at.way == next.way && at.mtu != next.mtu {
			l.log.Info("path MTU changed", "peer", p.name, "way", w.Kind, "to", w.Addr, "was", at.mtu, "is", next.mtu)
		}
		slot.Store(next)
	}
}

// pathSlot is an atomic pointer to a path.
type pathSlot interface {
	Load() *path
	Store(*path)
}

// pathOf is the path that goes a certain way, that in use if it does; nil if it
// cannot be gone now.
func (l *sessionLoop) pathOf(p *peerState, w peer.Way) *path {
	next := l.plan(p, w)
	for _, used := range [...]*path{p.path.Load(), p.link.Load()} {
		if used != nil && *used == next {
			return used
		}
	}
	if next.way.IsZero() {
		return nil
	}
	made := next
	return &made
}

// plan makes the path that goes a certain way; a zero one if it cannot be gone now.
func (l *sessionLoop) plan(p *peerState, w peer.Way) path {
	mtu := p.paths.MTU(w)
	if mtu == nil {
		return path{}
	}
	ceiling, ok := l.ceiling(p, w, mtu)
	if !ok {
		return path{}
	}
	if mtu.Current() == 0 || ceiling < mtu.Current() || (w.Kind == peer.WayRelay && ceiling != mtu.Ceiling()) {
		mtu.Begin(ceiling)
	}
	switch w.Kind {
	case peer.WayRelay:
		return *newRelayPath(p.hop.Load(), mtu.Current())
	case peer.WayStream:
		return *newStreamPath(p.wish.conn, mtu.Current())
	}
	return *newPath(w.Addr, mtu.Current())
}

// ceiling is the most that a way can carry, bytes at IP level; false if the way
// is closed. The kernel is asked once about an address, and again when it
// refuses a datagram.
func (l *sessionLoop) ceiling(p *peerState, w peer.Way, mtu *peer.PathMTU) (int, bool) {
	switch w.Kind {
	case peer.WayStream:
		return streamMTU, p.wish.conn != 0
	case peer.WayRelay:
		hop := p.hop.Load()
		if hop == nil || hop == p.remote || hop.link.Load() == nil {
			return 0, false
		}
		return hop.link.Load().limit - overheadRelay + overheadIPv4, true
	}
	if mtu.Current() != 0 {
		return mtu.Ceiling(), true
	}
	return l.measure(w.Addr), true
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
	for _, p := range l.book.peers {
		mtu := p.paths.MTU(peer.Way{Kind: peer.WayDirect, Addr: to})
		if mtu == nil {
			continue
		}
		if ceiling := l.measure(to); ceiling < mtu.Current() {
			mtu.Begin(ceiling)
			l.apply(p)
			l.announce(ctx, p)
		}
	}
}

// announce tells the mesh what the link with a neighbour is like.
func (l *sessionLoop) announce(ctx context.Context, p *peerState) {
	if p.wish.conn == 0 {
		return
	}
	in := peer.PathChanged{Peer: p.name, Overlay: overlaySleeve}
	if at := p.link.Load(); at != nil {
		in.Up, in.MTU, in.Stream = true, at.limit-wire.FrameOverhead, at.way.Kind == peer.WayStream
		in.Address, in.Clear = at.way.Addr, p.wish.clear
		r, _ := p.paths.Report(at.way)
		in.RTT = r.Least // which hardly wavers where hosts are busy: whatever is told makes work for everybody
		if l.fast != nil {
			if on, _ := l.fast.carries(p.name); on {
				in.Overlay, in.MTU = overlayFast, l.fast.host.MTU()
			}
		}
	}
	select {
	case l.report <- in:
	case <-ctx.Done():
	}
}
