package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"weave/runtime"
)

const (
	dialTimeout   = 10 * time.Second
	attachTimeout = 90 * time.Second // for a container to be attached
	headerTimeout = 30 * time.Second // for a client's header
	shutdownGrace = 2 * time.Second  // for streams that are open when the proxy ends
)

// Network attaches containers.
type Network interface {
	// Attach returns when the container, which runs, is attached, or why it cannot be; nil for one that is none of ours.
	Attach(ctx context.Context, id string) error
	// Interface tells what an attached container has; an error if it is not attached.
	Interface(ctx context.Context, id string) (net.HardwareAddr, []netip.Prefix, error)
}

// Config says how containers are changed.
type Config struct {
	Upstream string  // the engine's endpoint, unix:///path or tcp://host:port
	Network  Network // asked for containers that run
	Shim     string  // the host's directory that containers get as runtime.ShimDir
	Naming   runtime.Naming
	DNS      netip.Addr // invalid: containers' DNS stays as it is, and their names
	Log      *slog.Logger

	NoDefaultAllocation bool // only containers that say so join
	RewriteInspect      bool
}

// Proxy stands before an engine.
type Proxy struct {
	cfg       Config
	network   string // of the engine, for net.Dial
	address   string
	transport *http.Transport
	pass      *httputil.ReverseProxy

	ended   chan struct{} // closed when Run ends
	streams sync.WaitGroup
}

// New makes a proxy. The engine need not be there.
func New(cfg Config) (*Proxy, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{cfg: cfg, ended: make(chan struct{})}
	scheme, rest, _ := strings.Cut(cfg.Upstream, "://")
	switch scheme {
	case "unix":
		p.network, p.address = "unix", rest
	case "tcp", "http":
		p.network, p.address = "tcp", rest
	default:
		return nil, fmt.Errorf("proxy: cannot stand before %q, should be unix:///path or tcp://host:port", cfg.Upstream)
	}
	p.transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) },
		DisableCompression: true, MaxIdleConns: 64, IdleConnTimeout: time.Minute,
	}
	p.pass = &httputil.ReverseProxy{
		Transport: p.transport, FlushInterval: -1, ErrorHandler: p.failed, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "docker"})
			r.Out.URL.RawPath, r.Out.URL.RawQuery = r.In.URL.RawPath, r.In.URL.RawQuery
		},
	}
	return p, nil
}

// dial connects to the engine.
func (p *Proxy) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, p.network, p.address)
}

// failed answers a request that did not get through, as Weave Net did.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		p.cfg.Log.Debug("a request did not get through", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	refuse(w, http.StatusBadGateway, "Could not connect to target: "+err.Error())
}

// Run serves until ctx ends, then closes the listeners and what is open. It can be called once.
func (p *Proxy) Run(ctx context.Context, listeners []net.Listener) error {
	server := &http.Server{
		Handler: p, ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
	}
	errs := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() { errs <- server.Serve(tolerant{l}) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	close(p.ended)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	serving.Wait()
	p.streams.Wait()
	p.transport.CloseIdleConnections()
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// The calls that are changed, with the version of the API before them or not.
var (
	createPath  = regexp.MustCompile(`^(/v[0-9.]+)?/containers/create$`)
	startPath   = regexp.MustCompile(`^(/v[0-9.]+)?/containers/([^/]+)/(?:start|restart)$`)
	execPath    = regexp.MustCompile(`^(/v[0-9.]+)?/containers/([^/]+)/exec$`)
	inspectPath = regexp.MustCompile(`^(/v[0-9.]+)?/containers/([^/]+)/json$`)
	rawPath     = regexp.MustCompile(`^(/v[0-9.]+)?(/libpod)?/(containers/[^/]+/attach(/ws)?|exec/[^/]+/start)$`)
)

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case r.Header.Get("Upgrade") != "" || rawPath.MatchString(path):
		p.hijack(w, r)
	case r.Method == http.MethodPost && createPath.MatchString(path):
		p.create(w, r, createPath.FindStringSubmatch(path)[1])
	case r.Method == http.MethodPost && startPath.MatchString(path):
		m := startPath.FindStringSubmatch(path)
		p.start(w, r, m[1], m[2])
	case r.Method == http.MethodPost && execPath.MatchString(path):
		m := execPath.FindStringSubmatch(path)
		p.exec(w, r, m[1], m[2])
	case r.Method == http.MethodGet && p.cfg.RewriteInspect && inspectPath.MatchString(path):
		p.inspect(w, r)
	default:
		p.pass.ServeHTTP(w, r)
	}
}
