package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/cpu"

	"weave/internal/api"
	"weave/internal/store"
	"weave/peer"
	"weave/peer/control"
	"weave/peer/session"
	"weave/runtime/netlink"
	"weave/stack"
	"weave/tun"
)

// node is a running daemon. Run makes one; its methods are what the API asks for.
type node struct {
	cfg    Config
	log    *slog.Logger
	store  *store.Store
	memory memory

	host      wiring
	bridge    *netlink.Host // the wiring, if it is that of root; else nil
	tap       *tun.Device   // of the bridge, else nil
	dp        *dataplane
	transport *control.Transport
	secrets   *secrets

	loops
	phase
	stop context.CancelFunc
}

// loops are what owns state of its own.
type loops struct {
	mesh        *meshLoop
	sessions    *sessionLoop
	attachments *attachments
	containers  *containers
	ipam        *ipamLoop    // nil: addresses are not allocated
	names       *namesLoop   // nil: names are not served
	proxy       *proxyServer // nil: the Docker API is not proxied
	presence    *presence    // nil: the bridge is the host's presence
	exposure    *exposure
	services    *portServices
	policy      *policyLoop
}

// phase is how far the daemon is.
type phase struct {
	ready     atomic.Bool
	resetting atomic.Bool
}

// Run is the daemon. It returns nil when it was asked to stop, by ctx or by
// the API, and an error when it cannot start or go on.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	n := &node{cfg: cfg, log: cfg.Log, stop: stop}
	defer n.close()
	if err := n.open(ctx); err != nil {
		return err
	}
	if err := n.run(ctx); err != nil {
		return err
	}
	return end(n.store)
}

// open acquires everything in the order in which later parts need earlier ones.
func (n *node) open(ctx context.Context) error {
	for _, dir := range []string{n.cfg.Paths.State, n.cfg.Paths.Run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var err error
	if n.store, err = store.Open(n.cfg.Paths.store()); err != nil {
		return err
	}
	if n.memory, err = recall(n.store, n.cfg); err != nil {
		return err
	}
	if n.cfg.AutoMTU {
		if n.cfg.MTU, err = n.firstMTU(); err != nil {
			return err
		}
	}
	n.exposure = newExposure()
	if err := n.openData(); err != nil {
		return err
	}
	if err := n.openHost(); err != nil {
		return err
	}
	if err := n.openFast(); err != nil {
		return err
	}
	if err := n.openAttachments(ctx); err != nil {
		return err
	}
	if err := n.openControl(); err != nil {
		return err
	}
	if err := n.openAddresses(); err != nil {
		return err
	}
	if err := n.openNames(ctx); err != nil {
		return err
	}
	if err := n.openEngines(); err != nil {
		return err
	}
	if err := n.openPolicy(); err != nil {
		return err
	}
	if err := n.openProxy(); err != nil {
		return err
	}
	return begin(n.store, n.cfg)
}

// openData makes the switch, the sockets and the session loop.
func (n *node) openData() error {
	clock := session.NewClock(time.Now())
	sw := stack.Config{Seed: mathrand.Uint64(), MaxAge: ageing}
	if n.cfg.Rootless {
		sw.PerPort = containerLimits // on a bridge there is one port, with all containers behind it
	}
	n.dp = newDataplane(stack.NewSwitch(sw), clock)
	n.dp.self, n.dp.ownStack = n.memory.name, n.cfg.Rootless
	if err := n.listenUDP(); err != nil {
		return err
	}
	machine, err := session.New(session.Config{
		Private: n.memory.identity.X25519Private(), Rand: rand.Reader, Clock: clock, NoAES: !hasAES(),
	})
	if err != nil {
		return err
	}
	n.sessions = &sessionLoop{
		dp: n.dp, machine: machine, self: machine.PublicKey(),
		out: newOutput(n.dp, n.dp.sockets[0], replyArena, numberSessions), log: n.log.With("part", "sessions"),
		wake: make(chan struct{}, 1), book: newPeerBook(), idle: engagedFor,
	}
	n.sessions.accept(n.memory.secrets)
	return nil
}

// openHost makes the TAP and the bridge. The TAP comes first: holding it, no
// other daemon has this bridge.
func (n *node) openHost() error {
	if n.cfg.Rootless {
		return n.openUserHost()
	}
	names, err := n.openTap()
	if err != nil {
		return err
	}
	if why := n.tap.Fallback(); why != nil {
		n.log.Warn("the kernel refuses TAP offloads; going on slowly without", "err", why)
	}
	n.dp.addLocal(&localPort{port: tapPort, queues: n.tapQueues(), vital: true})
	n.bridge, err = netlink.Open(netlink.Config{
		Bridge: names.bridge, MAC: n.memory.name[:], MTU: n.cfg.MTU, Tunnels: n.cfg.Paths.tunnels(),
	}, n.log.With("part", "netlink"))
	if err != nil {
		return err
	}
	n.host = n.bridge
	n.services = newPortServices(n, n.bridge)
	if err := n.bridge.EnsureBridge(); err != nil {
		return err
	}
	if err := n.bridge.AddUplink(n.tap.Name()); err != nil {
		return err
	}
	return n.openService()
}

// openAttachments takes over what was attached before.
func (n *node) openAttachments(ctx context.Context) error {
	n.attachments = newAttachments(n.host, n.store, n.log)
	n.attachments.guard = !n.cfg.AllowSpoof
	if err := n.attachments.load(); err != nil {
		return err
	}
	if err := n.attachments.reconcile(ctx); err != nil {
		n.log.Warn("not every attachment could be taken over", "err", err)
	}
	return nil
}

// openControl makes the mesh and its connections.
func (n *node) openControl() error {
	if err := n.listenTCP(); err != nil {
		return err
	}
	mesh := peer.NewMesh(n.meshConfig())
	n.mesh = &meshLoop{
		mesh: mesh, transport: n.transport, store: n.store, sessions: n.sessions,
		log: n.log.With("part", "mesh"), in: make(chan peer.Input, 256), events: make(chan control.Event, 256),
	}
	n.sessions.report = n.mesh.in
	n.secrets = &secrets{
		store: n.store, transport: n.transport, mesh: n.mesh, sessions: n.sessions, list: n.memory.secrets,
	}
	targets := peer.Connect{Targets: n.memory.targets(n.cfg), Replace: true}
	return n.mesh.step(targets)
}

func (n *node) meshConfig() peer.Config {
	cfg := peer.Config{
		Identity: n.memory.identity, Name: n.memory.name, Nickname: n.cfg.Nickname,
		UID: mathrand.Uint64(), Port: uint16(n.cfg.Port), Addresses: n.candidates(),
		NoDiscovery: n.cfg.NoDiscovery, ConnLimit: n.cfg.ConnLimit, Password: n.cfg.password(),
		Secrets: peer.IDsOf(n.memory.secrets), TrustedSubnets: n.cfg.TrustedSubnets,
		Pins: n.memory.mesh.Pins, Version: n.memory.mesh.Version, MTU: uint16(n.cfg.MTU),
	}
	if hasAES() {
		cfg.Capabilities |= peer.CapAES
	}
	if n.sessions.fast.core != nil {
		cfg.Capabilities |= peer.CapFast | n.sessions.fast.shields.capabilities()
		cfg.TunnelKey = n.sessions.fast.shields.tunnels.key()
	}
	if n.memory.crashed || n.cfg.Resume {
		cfg.KnownAddresses = n.memory.mesh.Addresses
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails, crypto/rand
	cfg.Rand = mathrand.NewChaCha8(seed)
	return cfg
}

// hasAES tells whether AES-GCM is fast and constant in time here.
func hasAES() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
}

// run starts every loop and waits for all of them.
func (n *node) run(ctx context.Context) error {
	server, err := api.Listen(api.Config{
		Socket:   filepath.Join(n.cfg.Paths.Run, api.SocketName),
		HTTPAddr: n.cfg.Listeners.HTTP, StatusAddr: n.cfg.Listeners.Status,
		Instance: n.cfg.Instance, Log: n.log.With("part", "api"),
	}, n.backends())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return unlessDone(ctx, n.transport.Run(ctx, n.mesh.events)) })
	for _, loop := range []func(context.Context) error{n.mesh.run, n.sessions.run, tidy, n.watchContainers, n.policy.run} {
		g.Go(func() error { return loop(ctx) })
	}
	n.follow(ctx, g)
	if n.ipam != nil {
		g.Go(func() error { return n.ipam.run(ctx) })
	}
	if n.names != nil {
		g.Go(func() error { return n.names.run(ctx) })
		g.Go(func() error { return unlessDone(ctx, n.names.server.Run(ctx, n.names.packets, n.names.streams)) })
	}
	n.sendLongFrames(ctx, g)
	lanes, err := newLanes(n.dp, n.cfg.Queues, n.noOffloads())
	if err != nil {
		return err
	}
	makeRoom(len(lanes))
	for _, l := range lanes {
		g.Go(func() error { return n.ended("data plane", l.run(ctx)) })
	}
	g.Go(func() error { return newStreamLane(n.dp, n.noOffloads()).run(ctx) })
	g.Go(func() error {
		n.takeOver(ctx)
		g.Go(func() error { return n.containers.run(ctx) })
		if n.proxy != nil {
			g.Go(func() error { return n.proxy.run(ctx) })
		}
		g.Go(func() error { return n.services.run(ctx) })
		if n.bridge != nil {
			g.Go(func() error { return n.watchRules(ctx) })
		}
		if n.presence != nil {
			g.Go(func() error { return n.presence.run(ctx) })
		}
		giveBack() // what the start needed
		n.ready.Store(true)
		n.log.Info("running", "name", n.memory.name, "nickname", n.cfg.Nickname, "port", n.cfg.Port, "instance", n.cfg.Instance)
		return server.Run(ctx)
	})
	return g.Wait()
}

// takeOver has again what an earlier run of the daemon had.
func (n *node) takeOver(ctx context.Context) {
	if err := n.adopt(ctx); err != nil {
		n.log.Warn("not every address could be taken over", "err", err)
	}
	if err := n.services.recall(); err != nil {
		n.log.Warn("not every service could be taken over", "err", err)
	}
	if err := n.recallExposed(ctx); err != nil {
		n.log.Warn("not everything that was exposed could be taken over", "err", err)
	}
	if err := n.recallNames(ctx); err != nil {
		n.log.Warn("not every name could be taken over", "err", err)
	}
}

// noOffloads tells that what local ports get must be frames without offloads.
func (n *node) noOffloads() bool { return n.tap != nil && !n.tap.Offloads() }

func (n *node) tapQueues() []tapQueue {
	var all []tapQueue
	for _, q := range n.tap.Queues() {
		all = append(all, q)
	}
	return all
}

// ended judges the end of a loop: a reset takes the TAP away on purpose.
func (n *node) ended(what string, err error) error {
	if err == nil || n.resetting.Load() {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// close gives back what open took, as far as it got.
func (n *node) close() {
	if n.sessions != nil {
		n.sessions.machine.Close()
		n.sessions.fast.close()
	}
	if n.tap != nil {
		n.tap.Close()
	}
	if n.dp != nil {
		n.dp.closeSockets()
	}
	if n.names != nil {
		n.names.close()
	}
	if n.proxy != nil {
		n.proxy.Close()
	}
	if n.presence != nil {
		n.presence.Close()
	}
	if n.bridge != nil {
		n.bridge.Close()
	}
	if n.store == nil {
		return
	}
	n.store.Close()
	if n.resetting.Load() {
		removeState(n.cfg.Paths.State)
	}
}
