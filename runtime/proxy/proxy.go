package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"weave/runtime"
)

// DefaultAttachLimit is how long a client waits for its container to be attached; less than the wait shim's own limit.
const DefaultAttachLimit = 90 * time.Second

// Network attaches the containers that the proxy starts.
type Network interface {
	// Attach returns when the running container is attached, or tells why it cannot be; nil for one that is not ours.
	// ref is its id, the beginning of one, or its name.
	Attach(ctx context.Context, ref string) error
	// Interface tells what a container has on our network; no addresses if it is not attached.
	Interface(ctx context.Context, id string) (mac net.HardwareAddr, addresses []netip.Prefix, err error)
}

// Shim says where on the host the wait shim is: directories that hold one file, which are mounted in containers.
type Shim struct {
	Dir     string
	NoWait  string // the one for containers that have nothing to wait for
	Relabel bool   // the host has SELinux, which keeps containers from files that are not labelled for them
}

// Config says how a proxy behaves. It is only read.
type Config struct {
	Upstream string // the engine, unix:///PATH or tcp://HOST:PORT
	Network  Network
	Shim     Shim
	Naming   runtime.Naming // its domain is the one names are served in
	DNS      netip.Addr     // the name server told to containers; invalid: they get neither that nor names

	NoDefaultAllocation bool // only containers that ask for addresses are ours
	RewriteInspect      bool
	AttachLimit         time.Duration // 0: DefaultAttachLimit
	Log                 *slog.Logger  // nil: none
}

// Proxy relays between clients and an engine.
type Proxy struct {
	cfg    Config
	engine *engine
}

// New makes a proxy. The engine need not be there yet.
func New(cfg Config) (*Proxy, error) {
	e, err := newEngine(cfg.Upstream)
	if err != nil {
		return nil, err
	}
	if cfg.Network == nil || cfg.Shim.Dir == "" {
		return nil, errors.New("proxy: no network, or no shim")
	}
	if cfg.Shim.NoWait == "" {
		cfg.Shim.NoWait = cfg.Shim.Dir
	}
	if cfg.AttachLimit == 0 {
		cfg.AttachLimit = DefaultAttachLimit
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Proxy{cfg: cfg, engine: e}, nil
}

const (
	acceptPause      = 50 * time.Millisecond // when the process has no descriptor left
	handshakeTimeout = 10 * time.Second
)

// Run serves until ctx ends, closes the listeners and every connection, and returns when all of them are done. An error
// of a listener ends all.
func (p *Proxy) Run(ctx context.Context, listeners []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	errs := make(chan error, len(listeners))
	for _, l := range listeners {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		all.Go(func() {
			defer cancel()
			errs <- p.accept(ctx, l, &all)
		})
	}
	<-ctx.Done()
	all.Wait()
	p.engine.http.CloseIdleConnections()
	for range listeners {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func (p *Proxy) accept(ctx context.Context, l net.Listener, all *sync.WaitGroup) error {
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			p.cfg.Log.Warn("cannot take a client's connection", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		case err != nil:
			return fmt.Errorf("proxy: %w", err)
		default:
			all.Go(func() { p.serve(ctx, conn) })
		}
	}
}

// serve has one client's connection.
func (p *Proxy) serve(ctx context.Context, conn net.Conn) {
	defer func() {
		if r := recover(); r != nil { // one bad client must not end the daemon
			p.cfg.Log.Error("a session panicked", "panic", r)
			_ = conn.Close()
		}
	}()
	if c, ok := conn.(interface{ HandshakeContext(context.Context) error }); ok {
		limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
		err := c.HandshakeContext(limited)
		cancel()
		if err != nil {
			p.cfg.Log.Debug("a client's TLS handshake failed", "client", conn.RemoteAddr(), "err", err)
			_ = conn.Close()
			return
		}
	}
	s := &session{p: p}
	s.run(ctx, conn)
}
