//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/containers/podman/v4/pkg/bindings"

	"weave/runtime"
)

// limit ends a call whose context has no earlier deadline, so that a hung service cannot hold its caller.
const limit = 30 * time.Second

// inspectors is how many containers List asks about at once, and how many idle connections are kept for it.
const inspectors = 8

// Engine is one endpoint of a Podman service.
type Engine struct {
	name, endpoint string
	network, addr  string // to dial
	http           *http.Client

	mu   sync.Mutex
	conn *bindings.Connection // has reached the service once; nil until then
}

// Open makes an Engine of a unix:///path or tcp://host:port endpoint, which Containers and errors call name. Without an
// endpoint it is RootEndpoint. It fails on an endpoint of another form, never because the service is absent.
func Open(name, endpoint string) (*Engine, error) {
	if endpoint == "" {
		endpoint = RootEndpoint
	}
	e := &Engine{name: name, endpoint: endpoint}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: endpoint %q: %w", name, endpoint, err)
	case u.Scheme == "unix" && u.Host == "" && len(u.Path) > 1:
		e.network, e.addr = "unix", u.Path
	case u.Scheme == "tcp" && u.Port() != "":
		e.network, e.addr = "tcp", u.Host
	default:
		return nil, fmt.Errorf("%s: endpoint %q: give unix:///path/of/the.sock or tcp://host:port", name, endpoint)
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	e.http = &http.Client{Transport: prompt{&http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, e.network, e.addr)
		},
		MaxIdleConns: inspectors, MaxIdleConnsPerHost: inspectors, IdleConnTimeout: 30 * time.Second,
		DisableCompression: true,
	}}}
	return e, nil
}

// Endpoint is where the service is, as Open was told.
func (e *Engine) Endpoint() string { return e.endpoint }

// Close closes idle connections. The Engine can still be used.
func (e *Engine) Close() { e.http.CloseIdleConnections() }

// prompt hands a request's failure over as the body of an answer. The bindings would otherwise repeat the request twice
// and sleep for 600 ms in all, also when the context has ended.
type prompt struct{ *http.Transport }

func (p prompt) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := p.Transport.RoundTrip(r)
	if err != nil {
		return &http.Response{StatusCode: http.StatusBadGateway, Request: r, Body: failure{err}}, nil
	}
	return resp, nil
}

type failure struct{ error }

func (f failure) Read([]byte) (int, error) { return 0, f.error }
func (f failure) Close() error             { return nil }

// connection returns the bindings' connection, which is good for as long as the Engine: it holds no socket.
func (e *Engine) connection(ctx context.Context) (*bindings.Connection, error) {
	e.mu.Lock()
	conn := e.conn
	e.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	if err := e.ping(ctx); err != nil { // at once, where the bindings would take their time to fail
		return nil, err
	}
	with, err := bindings.NewConnection(ctx, e.endpoint)
	if err != nil {
		return nil, err
	}
	if conn, err = bindings.GetClient(with); err != nil {
		return nil, err
	}
	conn.Client.CloseIdleConnections()
	conn.Client = e.http
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conn = conn
	return conn, nil
}

func (e *Engine) ping(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://podman/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := e.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<10); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ping: %s", resp.Status)
	}
	if resp.Header.Get("Libpod-Api-Version") == "" {
		return fmt.Errorf("what listens at %s is not Podman", e.endpoint)
	}
	return nil
}

// named puts who failed doing what before an error, and the right reason where a context has ended.
func (e *Engine) named(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, runtime.ErrNoContainer):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %s: %s does not answer: %w", e.name, what, e.endpoint, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %s: %w", e.name, what, err)
}
