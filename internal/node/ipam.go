package node

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"weave/internal/store"
	"weave/ipam"
	"weave/peer"
)

const (
	ipamPrefix = "ipam/" // of the keys in the state file
	// ipamQueue is how much may wait for the loop. Messages that do not find room
	// are dropped and counted: the peers compare notes anyway.
	ipamQueue = 1024
	// ipamBatch is how many inputs share one write to the disk.
	ipamBatch = 256
)

// ipamLoop owns ipam.Core: it feeds it what happens and performs its effects.
// What several callers want at the same time is made durable by one write.
type ipamLoop struct {
	core  *ipam.Core
	cfg   AddressConfig
	store *store.Store
	mesh  *meshLoop
	log   *slog.Logger

	in      chan ipamCall
	look    chan struct{} // there is a new view of the mesh
	ids     atomic.Uint64
	dropped atomic.Uint64 // messages
	view    atomic.Pointer[ipam.View]

	told    ipam.Reachable
	waiting map[ipam.ReqID]chan<- ipam.Reply
}

// ipamCall is an input, with where its reply goes.
type ipamCall struct {
	in    ipam.Input
	id    ipam.ReqID
	reply chan<- ipam.Reply // has room for the reply; nil = nobody cares
}

// openAddresses makes the allocator, if there is a range to allocate from.
func (n *node) openAddresses() error {
	if !n.cfg.Addresses.Range.IsValid() {
		return nil
	}
	var lacks bool
	if n.cfg.Addresses, lacks = n.cfg.Addresses.withoutV6(); lacks {
		n.log.Info("this kernel has no IPv6: containers get IPv4 addresses only")
	}
	cfg := ipam.Config{
		Name: n.memory.name, Nickname: n.cfg.Nickname, Range: n.cfg.Addresses.Range, Init: n.cfg.Addresses.Init,
		ReclaimAfter: n.cfg.Addresses.ReclaimAfter,
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails, crypto/rand
	cfg.Rand = mathrand.NewChaCha8(seed)
	saves, err := n.store.List(ipamPrefix)
	if err != nil {
		return err
	}
	for _, s := range saves {
		if err := cfg.Saved.Restore(strings.TrimPrefix(s.Key, ipamPrefix), s.Value); err != nil {
			n.log.Warn("part of what was saved about addresses is unreadable and ignored", "err", err)
		}
	}
	l := &ipamLoop{
		core: ipam.New(cfg), cfg: n.cfg.Addresses, store: n.store, mesh: n.mesh, log: n.log.With("part", "ipam"),
		in: make(chan ipamCall, ipamQueue), look: make(chan struct{}, 1), waiting: map[ipam.ReqID]chan<- ipam.Reply{},
	}
	n.ipam = l
	n.mesh.subscribe(peer.ChannelIPAM, l.heard)
	n.mesh.watchers = append(n.mesh.watchers, func(*peer.View) { l.glance() })
	l.glance()
	return l.perform(l.core.Step(time.Now(), ipam.Tick{}))
}

// subscribe has letters of a channel handed to take, which must not block.
func (l *meshLoop) subscribe(c peer.Channel, take func(from peer.Name, data []byte)) {
	if l.heard == nil {
		l.heard = map[peer.Channel]func(peer.Name, []byte){}
	}
	l.heard[c] = take
}

// heard takes a message of another peer's allocator.
func (l *ipamLoop) heard(from peer.Name, data []byte) {
	select {
	case l.in <- ipamCall{in: ipam.Message{From: from, Data: data}}:
	default:
		l.dropped.Add(1)
	}
}

// glance has the loop look at the mesh's view.
func (l *ipamLoop) glance() {
	select {
	case l.look <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (l *ipamLoop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var fx ipam.Effects
		select {
		case <-ctx.Done():
			return nil
		case <-l.look:
			l.reachable(&fx)
		case call := <-l.in:
			l.batch(&fx, call)
		case <-timer.C:
			l.step(&fx, ipamCall{in: ipam.Tick{}})
		}
		if err := l.perform(fx); err != nil {
			return err
		}
		wait := idleTick
		if d := l.core.Deadline(); !d.IsZero() {
			wait = max(time.Until(d), 0)
		}
		timer.Reset(wait)
	}
}

// batch steps through everything that waits.
func (l *ipamLoop) batch(fx *ipam.Effects, call ipamCall) {
	for range ipamBatch {
		l.step(fx, call)
		select {
		case call = <-l.in:
		default:
			return
		}
	}
}

func (l *ipamLoop) step(fx *ipam.Effects, call ipamCall) {
	if call.reply != nil {
		l.waiting[call.id] = call.reply
	}
	next := l.core.Step(time.Now(), call.in)
	fx.Save = append(fx.Save, next.Save...)
	if next.Publish != nil {
		fx.Publish = next.Publish
	}
	fx.Send = append(fx.Send, next.Send...)
	fx.Replies = append(fx.Replies, next.Replies...)
	fx.Events = append(fx.Events, next.Events...)
}

// perform makes effects come true: durable before visible.
func (l *ipamLoop) perform(fx ipam.Effects) error {
	if len(fx.Save) > 0 {
		saves := make([]store.Save, len(fx.Save))
		for i, s := range fx.Save {
			saves[i] = store.Save{Key: ipamPrefix + s.Key, Value: s.Value}
		}
		if err := l.store.Update(saves); err != nil {
			return err
		}
	}
	if fx.Publish != nil {
		l.view.Store(fx.Publish)
	}
	for _, s := range fx.Send {
		select {
		case l.mesh.in <- peer.Tell{Channel: peer.ChannelIPAM, To: s.To, Data: s.Data}:
		default: // the mesh is far behind; it must not hold allocation up
			l.dropped.Add(1)
		}
	}
	for _, r := range fx.Replies {
		if to := l.waiting[r.ID]; to != nil {
			delete(l.waiting, r.ID)
			to <- r
		}
	}
	for _, e := range fx.Events {
		l.event(e)
	}
	return nil
}

func (l *ipamLoop) event(e ipam.Event) {
	level := [...]slog.Level{ipam.LevelDebug: slog.LevelDebug, ipam.LevelInfo: slog.LevelInfo, ipam.LevelWarn: slog.LevelWarn}[e.Level]
	attrs := make([]slog.Attr, len(e.Attrs))
	for i, a := range e.Attrs {
		attrs[i] = slog.String(a.Key, a.Value)
	}
	l.log.LogAttrs(context.Background(), level, e.Text, attrs...)
}

// reachable tells the core who can be reached, if that has changed.
func (l *ipamLoop) reachable(fx *ipam.Effects) {
	v := l.mesh.view.Load()
	if v == nil {
		return
	}
	now := ipam.Reachable{Peers: make(map[peer.Name]string, len(v.Peers)), Electors: electors(v)}
	for _, p := range v.Peers {
		if p.Name != v.Self.Name {
			now.Peers[p.Name] = p.Nickname
		}
	}
	if now.Electors == l.told.Electors && maps.Equal(now.Peers, l.told.Peers) {
		return
	}
	l.told = now
	l.step(fx, ipamCall{in: now})
}

// electors is of how many peers the first ring needs a majority: ourselves and
// the targets, without those that turned out to be ourselves or will never be
// dialled again for another reason.
func electors(v *peer.View) int {
	never := map[string]bool{}
	for _, c := range v.Connections {
		if c.State == peer.StateFailed && c.Retry.IsZero() && c.Conn == 0 {
			never[c.Address] = true
		}
	}
	n := 1
	for _, t := range v.Targets {
		if !never[t] && !never[net.JoinHostPort(strings.Trim(t, "[]"), strconv.Itoa(DefaultPort))] && !never[net.JoinHostPort(t, strconv.Itoa(int(v.Self.Port)))] {
			n++
		}
	}
	return n
}

// ask has the core do something and waits for its reply. When ctx ends first,
// what was asked for is called off.
func (l *ipamLoop) ask(ctx context.Context, input func(id ipam.ReqID) ipam.Input) (ipam.Reply, error) {
	id := ipam.ReqID(l.ids.Add(1))
	replies := make(chan ipam.Reply, 1)
	select {
	case l.in <- ipamCall{in: input(id), id: id, reply: replies}:
	case <-ctx.Done():
		return ipam.Reply{}, ctx.Err()
	}
	select {
	case r := <-replies:
		return r, faultOf(r)
	case <-ctx.Done():
	}
	// The reply may be on its way: then it is undone by whoever asked.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	select {
	case l.in <- ipamCall{in: ipam.Cancel{ID: id}}:
	case <-end.Done():
		return ipam.Reply{}, ctx.Err()
	}
	select {
	case r := <-replies:
		return r, faultOf(r)
	case <-end.Done():
		return ipam.Reply{}, ctx.Err()
	}
}
