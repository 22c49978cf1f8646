package control

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/flynn/noise"

	"weave/peer/wire"
)

// ErrFamily says that the host has no such address family, which for IPv6 is
// nothing out of the ordinary: the caller goes on without.
var ErrFamily = errors.New("address family not available on this host")

// A Transport listens, dials and owns all control connections. Its methods may
// be called concurrently and, Run excepted, do not block. All goroutines are
// Run's.
type Transport struct {
	cfg    Config
	limits Limits
	key    noise.DHKey
	accept limiter
	half   halfOpen
	count  counters
	shared shared
	wake   chan struct{} // capacity 1: Run should look at dials
	group  sync.WaitGroup
	psks   atomic.Pointer[[][32]byte]
	events chan<- Event // set by Run
	done   <-chan struct{}

	mu    sync.Mutex // for what follows
	state state
}

// shared is what spares each connection goroutines and buffers of its own.
type shared struct {
	spare   spare
	writers writers
	resting resting // set by Run
}

// state is what a Transport's callers and goroutines share.
type state struct {
	listeners []*net.TCPListener
	dials     []string
	conns     map[uint64]*Conn
	lastID    uint64
	started   bool
	stopped   bool
}

// Stats is a snapshot; counts never decrease.
type Stats struct {
	Accepted      uint64 // incoming TCP connections
	Garbage       uint64 // of these: did not speak the protocol
	Refused       uint64 // of these: spoke it, but the handshake failed
	Evicted       uint64 // of these: made room, with too many handshakes open
	AcceptErrors  uint64 // accept(2) failed, such as for lack of descriptors
	Malformed     uint64 // authentic messages that are no protobuf: skipped
	Merged        uint64 // messages and records replaced by newer ones while waiting
	Overflows     uint64 // connections closed because too much waited
	WriteTimeouts uint64 // connections closed because the other end did not read
}

type counters struct {
	accepted, garbage, refused, evicted, acceptErrors atomic.Uint64
	malformed, merged, overflows, writeTimeouts       atomic.Uint64
}

// New checks the configuration.
func New(cfg Config) (*Transport, error) {
	private, err := ecdh.X25519().NewPrivateKey(cfg.Private[:])
	if err != nil {
		return nil, fmt.Errorf("control: private key: %w", err)
	}
	orElse(&cfg.Port, DefaultPort)
	orElse(&cfg.MinVersion, ProtocolMin)
	orElse(&cfg.MaxVersion, ProtocolMax)
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	limits := cfg.Limits.withDefaults()
	t := &Transport{
		cfg: cfg, limits: limits, wake: make(chan struct{}, 1),
		key:    noise.DHKey{Private: private.Bytes(), Public: private.PublicKey().Bytes()},
		accept: limiter{burst: limits.Burst, interval: limits.Interval},
		half:   halfOpen{limit: limits.HalfOpen},
		state:  state{conns: make(map[uint64]*Conn)},
	}
	t.SetPSKs(cfg.PSKs)
	return t, nil
}

// SetPSKs replaces the pre-shared keys. Whoever dials us may hold any of them;
// dialling, we try them in their order. Connections that exist stay.
func (t *Transport) SetPSKs(psks [][32]byte) {
	if len(psks) == 0 {
		psks = [][32]byte{{}}
	}
	kept := slices.Clone(psks)
	t.psks.Store(&kept)
}

// Listen binds an address and returns it with the port in use. Connections are
// accepted once Run runs; Listen must be called before. An IPv6 address never
// takes IPv4. The error wraps ErrFamily when the host lacks the family.
func (t *Transport) Listen(addr netip.AddrPort) (netip.AddrPort, error) {
	network := "tcp4"
	if addr.Addr().Unmap().Is6() {
		network = "tcp6"
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(addr))
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) && addr.Addr().IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("listen on %s: %w: %w", addr, ErrFamily, err)
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen on %s: %w", addr, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.started {
		_ = l.Close()
		return netip.AddrPort{}, errors.New("control: Listen after Run")
	}
	t.state.listeners = append(t.state.listeners, l)
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// Dial asks for a connection to target, host or host:port. The outcome is an
// Up whose Conn names the target, or a DialFailed.
func (t *Transport) Dial(target string) {
	t.mu.Lock()
	t.state.dials = append(t.state.dials, target)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Send queues m on a connection; an unknown id is ignored. See Conn.Send.
func (t *Transport) Send(id uint64, m *wire.Control) {
	if c := t.conn(id); c != nil {
		c.Send(m)
	}
}

// SendData queues a message of a data session on a connection, and copies it.
// false: there is no such connection, or too many wait; the message is dropped,
// as a datagram may be.
func (t *Transport) SendData(id uint64, message []byte) bool {
	c := t.conn(id)
	return c != nil && c.sendData(message)
}

// Close closes a connection; an unknown id is ignored. See Conn.Close.
func (t *Transport) Close(id uint64, reason string) {
	if c := t.conn(id); c != nil {
		c.Close(reason)
	}
}

func (t *Transport) conn(id uint64) *Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.conns[id]
}

// Stats reads the counters; they are not read as one instant.
func (t *Transport) Stats() Stats {
	c := &t.count
	return Stats{
		Accepted: c.accepted.Load(), Garbage: c.garbage.Load(), Refused: c.refused.Load(),
		Evicted: c.evicted.Load(), AcceptErrors: c.acceptErrors.Load(), Malformed: c.malformed.Load(),
		Merged: c.merged.Load(), Overflows: c.overflows.Load(), WriteTimeouts: c.writeTimeouts.Load(),
	}
}

// Run serves until ctx ends, then says goodbye on all connections and returns
// once every goroutine has. events may be slow but must be read; once ctx has
// ended nothing more is sent to it. Run may be called once.
func (t *Transport) Run(ctx context.Context, events chan<- Event) error {
	t.mu.Lock()
	if t.state.started {
		t.mu.Unlock()
		return errors.New("control: Run called twice")
	}
	t.state.started = true
	t.events, t.done = events, ctx.Done()
	listeners := t.state.listeners
	t.mu.Unlock()
	var err error
	if t.shared.resting, err = newResting(); err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return err
	}
	t.spawn(func() { t.watch(ctx) })
	for _, l := range listeners {
		t.spawn(func() { t.acceptFrom(ctx, l) })
	}
	t.serveDials(ctx)
	for _, l := range listeners {
		_ = l.Close()
	}
	for _, c := range t.stop() {
		c.Close("peer is shutting down")
	}
	t.group.Wait()
	return ctx.Err()
}

// stop lets no more connections in and returns those there are.
func (t *Transport) stop() []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.stopped = true
	return slices.Collect(maps.Values(t.state.conns))
}

// all lists the connections there are.
func (t *Transport) all() []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.state.conns))
}

// serveDials starts a goroutine per Dial until ctx ends.
func (t *Transport) serveDials(ctx context.Context) {
	for {
		t.mu.Lock()
		dials := t.state.dials
		t.state.dials = nil
		t.mu.Unlock()
		for _, target := range dials {
			t.spawn(func() { t.dial(ctx, target) })
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
			return
		}
	}
}

// emit hands an event to the driver, unless Run is ending.
func (t *Transport) emit(e Event) {
	select {
	case t.events <- e:
	case <-t.done:
	}
}

// serve begins a connection whose handshake has ended.
func (t *Transport) serve(tcp *net.TCPConn, dialled string, s session) {
	c := &Conn{
		dialled: dialled, remote: remoteOf(tcp), static: s.static, version: s.version,
		tr: t, tcp: tcp, spoke: time.Now(),
		in:  half{cs: s.recv, rekey: t.limits.Rekey, spare: &t.shared.spare},
		out: half{cs: s.send, rekey: t.limits.Rekey, spare: &t.shared.spare},
	}
	if !t.register(c) {
		_ = tcp.Close()
		return
	}
	t.emit(Up{Conn: c})
	if !c.rest() {
		t.spawn(c.sit)
	}
}

// ended forgets a connection of which both directions have ended.
func (t *Transport) ended(c *Conn) {
	t.mu.Lock()
	delete(t.state.conns, c.id)
	t.mu.Unlock()
	c.mu.Lock()
	c.pending = pending{}
	err := c.cause
	c.mu.Unlock()
	t.emit(Down{Conn: c, Err: err})
}

// register gives a connection its id; false when Run is ending.
func (t *Transport) register(c *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.stopped {
		return false
	}
	t.state.lastID++
	c.id = t.state.lastID
	t.state.conns[c.id] = c
	return true
}

// shake runs one end of the handshake within its time. The listening end knows
// by which of the PSKs the other came; the dialling end has one.
func (t *Transport) shake(ctx context.Context, tcp *net.TCPConn, psks [][32]byte, dialler bool) (session, error) {
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	defer stop()
	_ = tcp.SetLinger(0) // a dead connection must not linger in the kernel
	_ = tcp.SetDeadline(time.Now().Add(t.limits.Handshake))
	h := handshake{
		rw: tcp, key: t.key, psks: psks,
		ours: preface{min: t.cfg.MinVersion, max: t.cfg.MaxVersion, password: t.cfg.Password},
	}
	run := h.listen
	if dialler {
		run = h.dial
	}
	s, err := run()
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = fmt.Errorf("no weave handshake within %v: %w", t.limits.Handshake, err)
	}
	if err == nil {
		err = tcp.SetDeadline(time.Time{})
	}
	return s, err
}

// closeGently lets the other end read our last bytes before the connection is
// reset: it closes our direction and waits for the other's end, for a while.
func (t *Transport) closeGently(tcp *net.TCPConn) {
	_ = tcp.SetDeadline(time.Now().Add(t.limits.Goodbye))
	if tcp.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(tcp, 64<<10))
	}
	_ = tcp.Close()
}

func remoteOf(tcp *net.TCPConn) netip.AddrPort {
	a := tcp.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
