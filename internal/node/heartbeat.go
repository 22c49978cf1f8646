package node

import (
	"context"
	"net/netip"
	"time"

	"weave/peer"
	"weave/peer/session"
	"weave/peer/wire"
)

// A data path is down until a heartbeat is answered, up while answers come:
//
//	      answer                    no answer for beatLost
//	down ────────► up (RTT known) ─────────────────────────► down

// tick runs the timers of sessions and heartbeats.
func (l *sessionLoop) tick(ctx context.Context, now time.Time) {
	l.step(now, session.Tick{}, netip.AddrPort{})
	for _, p := range l.peers {
		if !p.gone.IsZero() && now.Sub(p.gone) > lingering {
			l.remove(p, now)
			continue
		}
		l.beat(ctx, p, now)
		if p.up && now.Sub(p.heardBeat) > beatLost {
			p.up = false
			l.announce(ctx, p)
		}
	}
	if now.Sub(l.aged) > ageInterval {
		l.aged = now
		l.dp.sw.Age(l.dp.stamp())
	}
}

// beat sends a heartbeat when one is due; without a key it asks for one.
func (l *sessionLoop) beat(ctx context.Context, p *peerState, now time.Time) {
	every := beatSteady
	if !p.up || !p.mtu.Settled() {
		every = beatFirst
	}
	if now.Sub(p.sentBeat) < every {
		return
	}
	p.sentBeat = now
	if p.keys.Sending() == nil {
		l.initiate(p, now)
		return
	}
	l.ask(p, 0, now)
	clear(p.probes)
	for _, size := range p.mtu.Round(now) {
		p.probes[l.ask(p, size, now)] = size
	}
	l.resize(ctx, p)
}

// ask sends a heartbeat that makes an IP packet of size bytes, or a small one.
func (l *sessionLoop) ask(p *peerState, size int, now time.Time) (seq uint32) {
	p.seq++
	overhead := overheadIPv4
	if at := p.path.Load(); at != nil && at.v6 {
		overhead = overheadIPv6
	}
	hb := wire.DataHeartbeat{Seq: p.seq, Timestamp: int64(now.Sub(l.dp.started))} // monotonic, deaf to changes of the clock
	l.out.plain(p.remote, wire.AppendHeartbeat(nil, hb, size-overhead))
	return p.seq
}

// answered takes the answer to a heartbeat.
func (l *sessionLoop) answered(ctx context.Context, p *peerState, b beat, now time.Time) {
	if p == nil || b.rtt < 0 {
		return
	}
	p.heardBeat = now
	if size, ok := p.probes[b.seq]; ok {
		p.mtu.Answered(size)
		return
	}
	p.mtu.Heard()
	rtt := b.rtt
	if p.rtt == 0 {
		p.rtt = rtt
	}
	p.rtt += (rtt - p.rtt) / 8 // smoothed as RFC 6298 does
	p.up = true
	l.announce(ctx, p)
}

// announce tells the mesh what the path is like.
func (l *sessionLoop) announce(ctx context.Context, p *peerState) {
	in := peer.PathChanged{Peer: p.name, Up: p.up, RTT: p.rtt, Overlay: overlaySleeve}
	if at := p.path.Load(); at != nil {
		in.MTU = at.limit - wire.FrameOverhead
	}
	select {
	case l.report <- in:
	case <-ctx.Done():
	}
}

// overlaySleeve is Weave Net's word for the user-space path.
const overlaySleeve = "sleeve"
