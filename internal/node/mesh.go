package node

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"weave/internal/store"
	"weave/peer"
	"weave/peer/control"
)

// idleTick bounds the wait of the mesh loop when the mesh has no deadline.
const idleTick = time.Minute

// meshLoop owns peer.Mesh: it feeds it what happens and performs its effects.
// Everybody else reads the published view.
type meshLoop struct {
	mesh      *peer.Mesh
	transport *control.Transport
	store     *store.Store
	sessions  *sessionLoop
	log       *slog.Logger

	heard    map[peer.Channel]func(from peer.Name, data []byte) // subsystems; they must not block
	watchers []func(*peer.View)                                 // are shown each new view; they must not block

	in     chan peer.Input
	events chan control.Event
	view   atomic.Pointer[peer.View]
}

// run works until ctx ends.
func (l *meshLoop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var in peer.Input = peer.Tick{}
		select {
		case <-ctx.Done():
			return nil
		case in = <-l.in:
		case ev := <-l.events:
			if in = l.translate(ev); in == nil {
				continue
			}
		case <-timer.C:
		}
		if err := l.step(in); err != nil {
			return err
		}
		wait := idleTick
		if d := l.mesh.Deadline(); !d.IsZero() {
			wait = max(time.Until(d), 0)
		}
		timer.Reset(wait)
	}
}

// submit hands the mesh an input; it waits while the loop is behind.
func (l *meshLoop) submit(ctx context.Context, in peer.Input) error {
	select {
	case l.in <- in:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// translate makes an input of what the control edge reports.
func (l *meshLoop) translate(ev control.Event) peer.Input {
	switch ev := ev.(type) {
	case control.Up:
		return peer.ConnUp{
			Conn: peer.ConnID(ev.Conn.ID()), Dialled: ev.Conn.Dialled(),
			Remote: ev.Conn.Remote(), Static: ev.Conn.Static(),
		}
	case control.Message:
		return peer.Received{Conn: peer.ConnID(ev.Conn.ID()), Message: ev.Message}
	case control.Down:
		return peer.ConnDown{Conn: peer.ConnID(ev.Conn.ID()), Reason: ev.Err.Error()}
	case control.DialFailed:
		return peer.DialFailed{Address: ev.Target, Reason: ev.Err.Error()}
	case control.Refused:
		l.log.Warn("connection refused", "remote", ev.Remote, "err", ev.Err)
	}
	return nil
}

// step feeds the mesh and performs its effects: durable before visible.
func (l *meshLoop) step(in peer.Input) error {
	eff := l.mesh.Step(time.Now(), in)
	if len(eff.Save) > 0 {
		saves := make([]store.Save, len(eff.Save))
		for i, s := range eff.Save {
			saves[i] = store.Save{Key: meshPrefix + s.Key, Value: s.Value}
		}
		if err := l.store.Update(saves); err != nil {
			return err
		}
	}
	if eff.Publish != nil {
		l.view.Store(eff.Publish)
		l.sessions.want(wantedSessions(eff.Publish, l.sessions.wanted.Load()))
		for _, show := range l.watchers {
			show(eff.Publish)
		}
	}
	for _, s := range eff.Send {
		l.transport.Send(uint64(s.Conn), s.Message)
	}
	for _, d := range eff.Dial {
		l.transport.Dial(d.Address)
	}
	for _, c := range eff.Close {
		l.transport.Close(uint64(c.Conn), c.Reason)
	}
	for _, h := range eff.Heard {
		if take := l.heard[h.Channel]; take != nil {
			take(h.From, h.Data)
		}
	}
	for _, e := range eff.Events {
		l.logEvent(e)
	}
	return nil
}

func (l *meshLoop) logEvent(e peer.Event) {
	level := slog.LevelInfo
	switch e.Level {
	case peer.LevelDebug:
		level = slog.LevelDebug
	case peer.LevelWarn:
		level = slog.LevelWarn
	case peer.LevelInfo:
	}
	attrs := make([]slog.Attr, len(e.Attrs))
	for i, a := range e.Attrs {
		attrs[i] = slog.String(a.Key, a.Value)
	}
	l.log.LogAttrs(context.Background(), level, e.Text, attrs...)
}

// wantedSessions makes of a view what the data plane is to do: all reachable
// peers are ports of the switch. In a network too large for everybody to be
// connected with everybody, sessions with those that we are not connected with
// are made when they are needed.
func wantedSessions(v *peer.View, before *wish) wish {
	w := wish{sparse: v.Sparse, view: v, peers: make([]*neighbour, 0, peer.Ample(len(v.Peers)))}
	routes, mtus := v.Routes(), make(map[peer.Name]int, len(v.Peers))
	for _, p := range v.Peers {
		mtus[p.Name] = int(p.MTU)
	}
	have := make(map[peer.Name]bool, len(v.Peers))
	have[v.Self.Name] = true
	for _, n := range v.Neighbours {
		have[n.Name] = true
		w.add(&neighbour{
			name: n.Name, uid: n.UID, key: n.X25519, aes: both(v, n.Capabilities, peer.CapAES), fast: both(v, n.Capabilities, peer.CapFast), clear: n.Clear, conn: uint64(n.Conn),
			esp:     n.Capabilities & v.Self.Capabilities & (peer.CapESP4 | peer.CapESP6),
			secrets: n.Secrets, via: routes[n.Name].Via, candidates: n.Candidates, mtu: mtus[n.Name], tunnel: n.TunnelKey,
		}, before)
	}
	for _, p := range v.Peers {
		if have[p.Name] {
			continue
		}
		n := neighbour{
			name: p.Name, uid: p.UID, key: p.X25519, aes: both(v, p.Capabilities, peer.CapAES), fast: both(v, p.Capabilities, peer.CapFast), distant: v.Sparse,
			secrets: p.Secrets, via: routes[p.Name].Via, mtu: int(p.MTU), esp: p.Capabilities & v.Self.Capabilities & (peer.CapESP4 | peer.CapESP6), tunnel: p.TunnelKey,
		}
		if !n.distant {
			n.candidates = v.Candidates(p.Name)
		}
		w.add(&n, before)
	}
	return w
}

// both says whether we and a peer with these capabilities have one.
func both(v *peer.View, c, one peer.Capability) bool { return c&v.Self.Capabilities&one != 0 }
