//go:build remote

package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/bindings"
	"golang.org/x/sync/errgroup"

	"weave/runtime"
)

const (
	overlap   = time.Second // events of so long before a Watch are told too: the service answers before it listens
	atOnce    = 4           // inspections of a List
	pingLimit = 5 * time.Second
)

// Engine is a [runtime.Engine].
type Engine struct {
	endpoint string

	mu   sync.Mutex
	conn context.Context // carries the connection, as the bindings have it; nil until the service answered
}

// Open makes an engine of an endpoint, unix:///path or tcp://host:port. It does not connect.
func Open(endpoint string) (runtime.Engine, error) {
	if u, err := url.Parse(endpoint); err != nil || (u.Scheme != "unix" && u.Scheme != "tcp") {
		return nil, fmt.Errorf("podman: bad endpoint %q, should be unix:///path or tcp://host:port", endpoint)
	}
	return &Engine{endpoint: endpoint}, nil
}

// call is a caller's context with the connection in it.
type call struct {
	context.Context
	conn context.Context
}

func (c call) Value(key any) any {
	if v := c.conn.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

// connect gives ctx the connection, a new one if fresh is set or there is none.
func (e *Engine) connect(ctx context.Context, fresh bool) (context.Context, error) {
	e.mu.Lock()
	conn := e.conn
	e.mu.Unlock()
	if conn != nil && !fresh {
		return call{ctx, conn}, nil
	}
	ping, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	made, err := bindings.NewConnection(ping, e.endpoint)
	if err != nil {
		return nil, fmt.Errorf("podman at %s: %w", e.endpoint, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conn = context.WithoutCancel(made)
	return call{ctx, e.conn}, nil
}

// Inspect implements [runtime.Engine].
func (e *Engine) Inspect(ctx context.Context, ref string) (runtime.Container, error) {
	ctx, err := e.connect(ctx, false)
	if err != nil {
		return runtime.Container{}, err
	}
	return inspect(ctx, ref)
}

func inspect(ctx context.Context, ref string) (runtime.Container, error) {
	if ref == "" || strings.ContainsAny(ref, "/\x00") {
		return runtime.Container{}, fmt.Errorf("%w: %q", runtime.ErrNoContainer, ref)
	}
	var got define.InspectContainerData
	if err := request(ctx, http.MethodGet, "/containers/%s/json", nil, &got, ref); err != nil {
		return runtime.Container{}, explain("inspect container "+ref, err)
	}
	return convert(&got), nil
}

// request makes one call over the bindings' connection. Their typed calls (package containers) would link Podman's
// storage drivers.
func request(ctx context.Context, method, path string, query url.Values, into any, parts ...string) error {
	conn, err := bindings.GetClient(ctx)
	if err != nil {
		return err
	}
	resp, err := conn.DoRequest(ctx, nil, method, path, query, nil, parts...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return resp.Process(into)
}

// explain tells what is not there from what went wrong. Podman has no status of its own for the beginning of several
// ids.
func explain(op string, err error) error {
	code, unknown := bindings.CheckResponseCode(err)
	if unknown == nil && (code == http.StatusNotFound || strings.Contains(err.Error(), "more than one")) {
		return fmt.Errorf("%s: %w (%w)", op, runtime.ErrNoContainer, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// List implements [runtime.Engine].
func (e *Engine) List(ctx context.Context) ([]runtime.Container, error) {
	ctx, err := e.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID string `json:"Id"`
	}
	if err := request(ctx, http.MethodGet, "/containers/json", nil, &list); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	all := make([]runtime.Container, len(list))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, item := range list {
		g.Go(func() error {
			c, err := inspect(ctx, item.ID)
			if errors.Is(err, runtime.ErrNoContainer) {
				return nil // it went meanwhile
			}
			all[i] = c
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	running := all[:0]
	for _, c := range all {
		if c.Running {
			running = append(running, c)
		}
	}
	return running, nil
}

// Kill implements [runtime.Engine].
func (e *Engine) Kill(ctx context.Context, id string) error {
	ctx, err := e.connect(ctx, false)
	if err != nil {
		return err
	}
	if err := request(ctx, http.MethodPost, "/containers/%s/kill", url.Values{"signal": {"KILL"}}, nil, id); err != nil {
		return explain("kill container "+id, err)
	}
	return nil
}

// Watch implements [runtime.Engine].
func (e *Engine) Watch(ctx context.Context, to chan<- runtime.Event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bound, err := e.connect(ctx, true)
	if err != nil {
		return err
	}
	client, err := bindings.GetClient(bound)
	if err != nil {
		return err
	}
	// The bindings' own Events cannot tell when the stream is there.
	resp, err := client.DoRequest(bound, nil, http.MethodGet, "/events", url.Values{
		"stream":  {"true"},
		"since":   {strconv.FormatInt(time.Now().Add(-overlap).Unix(), 10)},
		"filters": {`{"type":["container"],"event":["start","died","remove","rename"]}`},
	}, nil)
	if err != nil {
		return fmt.Errorf("watch podman at %s: %w", e.endpoint, err)
	}
	defer resp.Body.Close()
	if !resp.IsSuccess() {
		return fmt.Errorf("watch podman at %s: %w", e.endpoint, resp.Process(nil))
	}
	if !send(ctx, to, runtime.Event{Change: runtime.Watching, ID: version(bound)}) {
		return nil
	}
	for dec := json.NewDecoder(resp.Body); ; {
		var m message
		if err := dec.Decode(&m); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch podman at %s: %w", e.endpoint, err)
		}
		if ev, ok := m.event(); ok && !send(ctx, to, ev) {
			return nil
		}
	}
}

// version is the service's, of Podman itself.
func version(ctx context.Context) string {
	if v := bindings.ServiceVersion(ctx); v != nil {
		return v.String()
	}
	return "?"
}

func send(ctx context.Context, to chan<- runtime.Event, ev runtime.Event) bool {
	select {
	case to <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// message is one of Podman's events; its form is that of Docker's.
type message struct {
	Action string
	Actor  struct{ ID string }
}

func (m message) event() (runtime.Event, bool) {
	ev := runtime.Event{ID: m.Actor.ID}
	switch m.Action {
	case "start":
		ev.Change = runtime.Started
	case "died", "die":
		ev.Change = runtime.Died
	case "remove":
		ev.Change = runtime.Removed
	case "rename":
		ev.Change = runtime.Renamed
	}
	return ev, ev.Change != 0 && ev.ID != ""
}

// convert takes what we need of an inspection.
func convert(in *define.InspectContainerData) runtime.Container {
	out := runtime.Container{
		ID: in.ID, Name: in.Name, Engine: "podman", HostsPath: in.HostsPath, ResolvPath: in.ResolvConfPath,
	}
	if in.Path != "" {
		out.Entrypoint = append([]string{in.Path}, in.Args...)
	}
	if in.State != nil {
		out.Running, out.PID = in.State.Running && in.State.Pid > 0, in.State.Pid
	}
	if in.Config != nil {
		out.Hostname, out.Domain, out.Env, out.Labels = in.Config.Hostname, in.Config.DomainName, in.Config.Env, in.Config.Labels
	}
	if in.HostConfig != nil {
		out.NetworkMode = in.HostConfig.NetworkMode
	}
	if in.NetworkSettings != nil {
		out.Sandbox = in.NetworkSettings.SandboxKey
		for _, n := range in.NetworkSettings.Networks {
			if n != nil {
				out.Aliases = append(out.Aliases, n.Aliases...)
			}
		}
	}
	return out
}
