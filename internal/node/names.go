package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	goruntime "runtime"
	"sync/atomic"
	"syscall"
	"time"

	"weave/dns"
	"weave/dns/server"
	"weave/internal/store"
	"weave/peer"
	"weave/runtime"
)

// namesQueue is how much may wait for the loop. Messages that do not find room
// are dropped and counted: the peers compare notes anyway.
const namesQueue = 1024

// namesLoop owns dns.Core: it feeds it what happens and performs its effects.
// The server reads its index.
type namesLoop struct {
	core   *dns.Core
	index  *dns.Index
	cfg    NameConfig
	boot   string
	store  *store.Store
	mesh   *meshLoop
	log    *slog.Logger
	server *server.Server

	changed func() // is called when names of ours have changed; it must not block

	address   netip.AddrPort // told to containers
	upstreams *server.Upstreams
	packets   []net.PacketConn
	streams   []net.Listener

	nameQueue
}

// nameQueue is what waits for the loop, and what it has shown.
type nameQueue struct {
	in      chan nameCall
	look    chan struct{} // there is a new view of the mesh
	ids     atomic.Uint64
	dropped atomic.Uint64 // messages
	view    atomic.Pointer[dns.View]
	told    map[peer.Name]uint64
	waiting map[dns.ReqID]chan<- dns.Reply
}

// nameCall is an input, with where its reply goes.
type nameCall struct {
	in    dns.Input
	id    dns.ReqID
	reply chan<- dns.Reply // has room; nil = nobody cares
}

// openNames makes the catalogue and the server's sockets, if names are wanted.
func (n *node) openNames(ctx context.Context) error {
	if n.cfg.Names.Domain == "" {
		return nil
	}
	v := n.mesh.view.Load()
	if v == nil {
		return errors.New("names: the mesh has no view of itself")
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails, crypto/rand
	core := dns.New(dns.Config{
		Name: n.memory.name, Run: v.Self.UID, Domain: n.cfg.Names.Domain, Rand: mathrand.NewChaCha8(seed),
	})
	l := &namesLoop{
		core: core, index: core.Index(), cfg: n.cfg.Names, boot: bootID(), store: n.store, mesh: n.mesh,
		log: n.log.With("part", "names"), changed: func() {},
		nameQueue: nameQueue{
			in: make(chan nameCall, namesQueue), look: make(chan struct{}, 1), waiting: map[dns.ReqID]chan<- dns.Reply{},
		},
	}
	if err := n.listenNames(ctx, l); err != nil {
		return err
	}
	n.names = l
	n.mesh.subscribe(peer.ChannelDNS, l.heard)
	n.mesh.watchers = append(n.mesh.watchers, func(*peer.View) { l.glance() })
	l.glance()
	l.perform(core.Step(time.Now(), dns.Tick{}))
	return nil
}

// openService gives the bridge its service address, unless names are served at
// another. It comes before attachments are made, which get a route to it.
func (n *node) openService() error {
	at := n.cfg.Names.Listen
	if n.bridge == nil || n.cfg.Names.Domain == "" || (at.IsValid() && !at.Addr().IsUnspecified()) {
		return nil
	}
	return n.bridge.EnsureService(runtime.ServiceAddress(runtime.MAC(n.memory.name)), !at.IsValid())
}

// listenNames opens the sockets, at the bridge's service address unless another
// is asked for.
func (n *node) listenNames(ctx context.Context, l *namesLoop) error {
	at := l.cfg.Listen
	service := runtime.ServiceAddress(runtime.MAC(n.memory.name))
	l.address = at
	switch {
	case !at.IsValid():
		at = netip.AddrPortFrom(service, portDNS)
		l.address = at
	case at.Addr().IsUnspecified():
		l.address = netip.AddrPortFrom(service, at.Port())
	}
	if n.presence != nil && !l.cfg.Listen.IsValid() {
		packets, streams, err := n.presence.serveNames()
		if err != nil {
			return fmt.Errorf("serve names on the overlay: %w", err)
		}
		l.packets, l.streams = []net.PacketConn{packets}, []net.Listener{streams}
	} else if err := n.openNameSockets(ctx, l, at); err != nil {
		return err
	}
	l.upstreams = &server.Upstreams{
		File: l.cfg.ResolvConf, Fixed: l.cfg.Upstreams, Fallback: l.cfg.Fallback, Own: l.listens(),
	}
	l.server = server.New(server.Config{
		Index: l.index, Domain: l.cfg.Domain, TTL: l.cfg.TTL, Upstreams: l.upstreams, Log: l.log,
	})
	return nil
}

func (n *node) openNameSockets(ctx context.Context, l *namesLoop, at netip.AddrPort) (err error) {
	l.packets, l.streams, err = n.listenOnHost(ctx, at)
	if !l.cfg.Listen.IsValid() {
		err = n.evade(ctx, l, at, err)
	}
	return err
}

// listenOnHost listens at an address; at the service address so that answers leave by the bridge.
func (n *node) listenOnHost(ctx context.Context, at netip.AddrPort) ([]net.PacketConn, []net.Listener, error) {
	device := ""
	if n.bridge != nil && !n.cfg.Names.Listen.IsValid() {
		device = n.bridge.Name()
	}
	return server.ListenAt(ctx, at, max(2, goruntime.NumCPU()), device)
}

// evade listens at another port where somebody has port 53 of all addresses, and
// has the kernel lead there what is for it. err is what listening said.
func (n *node) evade(ctx context.Context, l *namesLoop, at netip.AddrPort, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		if undo := n.bridge.RedirectService(portDNS, portDNS); undo != nil {
			l.log.Debug("cannot look for redirections", "err", undo)
		}
		return err
	}
	free := netip.AddrPortFrom(at.Addr(), 0)
	if l.packets, l.streams, err = n.listenOnHost(ctx, free); err != nil {
		return err
	}
	port := l.streams[0].Addr().(*net.TCPAddr).AddrPort().Port()
	if err := n.bridge.RedirectService(portDNS, port); err != nil {
		l.close()
		return fmt.Errorf("%w (another name server has port %d of all addresses; have it listen on single ones, or use --dns-listen-address)", err, portDNS)
	}
	l.log.Info("another name server has port 53 of all addresses: names are served at another port, and nftables leads there", "port", port)
	return nil
}

// listens is where queries reach this server: they must not be sent on to there.
func (l *namesLoop) listens() []netip.AddrPort {
	out := []netip.AddrPort{l.address}
	for _, s := range l.streams { // the packet sockets have the same address
		if at, ok := s.Addr().(*net.TCPAddr); ok {
			out = append(out, at.AddrPort())
		}
	}
	return out
}

func (l *namesLoop) close() {
	for _, c := range l.packets {
		_ = c.Close()
	}
	for _, s := range l.streams {
		_ = s.Close()
	}
}

// heard takes a message of another peer's catalogue.
func (l *namesLoop) heard(from peer.Name, data []byte) {
	select {
	case l.in <- nameCall{in: dns.Message{From: from, Data: data}}:
	default:
		l.dropped.Add(1)
	}
}

// glance has the loop look at the mesh's view.
func (l *namesLoop) glance() {
	select {
	case l.look <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (l *namesLoop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		call := nameCall{in: dns.Tick{}}
		select {
		case <-ctx.Done():
			return nil
		case <-l.look:
		case call = <-l.in:
		case <-timer.C:
		}
		// First the view: a letter may be of a peer that has just come.
		l.reachable()
		if call.reply != nil {
			l.waiting[call.id] = call.reply
		}
		l.perform(l.core.Step(time.Now(), call.in))
		wait := idleTick
		if d := l.core.Deadline(); !d.IsZero() {
			wait = max(time.Until(d), 0)
		}
		timer.Reset(wait)
	}
}

// reachable tells the core who can be reached, if that has changed.
func (l *namesLoop) reachable() {
	v := l.mesh.view.Load()
	if v == nil {
		return
	}
	now := make(map[peer.Name]uint64, len(v.Peers))
	for _, p := range v.Peers {
		now[p.Name] = p.UID
	}
	if maps.Equal(now, l.told) {
		return
	}
	l.told = now
	l.perform(l.core.Step(time.Now(), dns.Reachable{Peers: now}))
}

func (l *namesLoop) perform(fx dns.Effects) {
	if fx.Publish != nil {
		l.view.Store(fx.Publish)
	}
	for _, s := range fx.Send {
		select {
		case l.mesh.in <- peer.Tell{Channel: peer.ChannelDNS, To: s.To, Data: s.Data}:
		default: // the mesh is far behind
			l.dropped.Add(1)
		}
	}
	for _, r := range fx.Replies {
		if to := l.waiting[r.ID]; to != nil {
			delete(l.waiting, r.ID)
			to <- r
		}
	}
}

// ask has the core do something and waits for its reply.
func (l *namesLoop) ask(ctx context.Context, input func(id dns.ReqID) dns.Input) (dns.Reply, error) {
	id := dns.ReqID(l.ids.Add(1))
	replies := make(chan dns.Reply, 1)
	select {
	case l.in <- nameCall{in: input(id), id: id, reply: replies}:
	case <-ctx.Done():
		return dns.Reply{}, ctx.Err()
	}
	select {
	case r := <-replies:
		return r, nil
	case <-ctx.Done():
		return dns.Reply{}, ctx.Err()
	}
}
