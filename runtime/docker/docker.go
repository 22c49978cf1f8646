package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"weave/runtime"
)

const (
	overlap   = time.Second // events of so long before a Watch are told too: Docker answers before it listens
	atOnce    = 8           // inspections of a List
	pingLimit = 5 * time.Second
)

// Engine is a [runtime.Engine].
type Engine struct {
	endpoint string

	mu  sync.Mutex
	api *client.Client
}

// Open makes an engine of an endpoint, unix:///path or tcp://host:port. It does not connect. Where DOCKER_TLS_VERIFY is
// set in the environment, tcp connections use TLS with the files of DOCKER_CERT_PATH, as Docker's own client does.
func Open(endpoint string) (runtime.Engine, error) {
	e := &Engine{endpoint: endpoint}
	_, err := e.renew()
	return e, err
}

// renew makes a client that knows nothing of the engine yet: it may have been upgraded.
func (e *Engine) renew() (*client.Client, error) {
	opts := []client.Opt{client.WithHost(e.endpoint)}
	if strings.HasPrefix(e.endpoint, "tcp://") && os.Getenv("DOCKER_TLS_VERIFY") != "" {
		opts = append(opts, client.WithTLSClientConfigFromEnv())
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("docker at %s: %w", e.endpoint, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api != nil {
		_ = e.api.Close() // its idle connections; calls under way go on
	}
	e.api = api
	return api, nil
}

func (e *Engine) client() *client.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.api
}

// Inspect implements [runtime.Engine].
func (e *Engine) Inspect(ctx context.Context, ref string) (runtime.Container, error) {
	if ref == "" || strings.ContainsAny(ref, "/?#%\x00") {
		return runtime.Container{}, fmt.Errorf("%w: %q", runtime.ErrNoContainer, ref)
	}
	got, err := e.client().ContainerInspect(ctx, ref, client.ContainerInspectOptions{})
	if err != nil {
		return runtime.Container{}, explain("inspect container "+ref, err)
	}
	return convert(got.Container), nil
}

// explain tells what is not there from what went wrong. Docker calls a beginning that fits several ids a bad parameter.
func explain(op string, err error) error {
	if errdefs.IsNotFound(err) || (errdefs.IsInvalidArgument(err) && strings.Contains(err.Error(), "multiple IDs found")) {
		return fmt.Errorf("%s: %w (%w)", op, runtime.ErrNoContainer, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// List implements [runtime.Engine].
func (e *Engine) List(ctx context.Context) ([]runtime.Container, error) {
	list, err := e.client().ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	all := make([]runtime.Container, len(list.Items))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, item := range list.Items {
		g.Go(func() error {
			c, err := e.Inspect(ctx, item.ID)
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
	if _, err := e.client().ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		return explain("kill container "+id, err)
	}
	return nil
}

// Watch implements [runtime.Engine].
func (e *Engine) Watch(ctx context.Context, to chan<- runtime.Event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	api, err := e.renew()
	if err != nil {
		return err
	}
	version, err := ping(ctx, api)
	if err != nil {
		return err
	}
	since := time.Now().Add(-overlap)
	stream := api.Events(ctx, client.EventsListOptions{
		Since:   fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Filters: make(client.Filters).Add("type", "container").Add("event", "start", "die", "destroy", "rename"),
	})
	if !send(ctx, to, runtime.Event{Change: runtime.Watching, ID: version}) {
		return nil
	}
	for {
		select {
		case m := <-stream.Messages:
			if ev, ok := eventOf(m); ok && !send(ctx, to, ev) {
				return nil
			}
		case err := <-stream.Err:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch docker at %s: %w", e.endpoint, err)
		case <-ctx.Done():
			return nil
		}
	}
}

// ping finds out whether the engine is there, agrees with it on a version of the API, and tells the engine's own.
func ping(ctx context.Context, api *client.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true, ForceNegotiate: true}); err != nil {
		return "", fmt.Errorf("ping docker: %w", err)
	}
	v, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", fmt.Errorf("ask docker for its version: %w", err)
	}
	return v.Version, nil
}

func send(ctx context.Context, to chan<- runtime.Event, ev runtime.Event) bool {
	select {
	case to <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// eventOf reads one of Docker's events.
func eventOf(m events.Message) (runtime.Event, bool) {
	ev := runtime.Event{ID: m.Actor.ID}
	switch m.Action {
	case events.ActionStart:
		ev.Change = runtime.Started
	case events.ActionDie:
		ev.Change = runtime.Died
	case events.ActionDestroy:
		ev.Change = runtime.Removed
	case events.ActionRename:
		ev.Change = runtime.Renamed
	}
	return ev, ev.Change != 0 && ev.ID != ""
}

// convert takes what we need of an inspection; what Docker leaves out stays empty.
func convert(in container.InspectResponse) runtime.Container {
	out := runtime.Container{
		ID: in.ID, Name: strings.TrimPrefix(in.Name, "/"), Engine: "docker", HostsPath: in.HostsPath, ResolvPath: in.ResolvConfPath,
	}
	if in.Path != "" {
		out.Entrypoint = append([]string{in.Path}, in.Args...)
	}
	if in.State != nil {
		out.Running = in.State.Running && in.State.Pid > 0
		out.PID = in.State.Pid
	}
	if in.Config != nil {
		out.Hostname, out.Domain, out.Env, out.Labels = in.Config.Hostname, in.Config.Domainname, in.Config.Env, in.Config.Labels
	}
	if in.HostConfig != nil {
		out.NetworkMode = string(in.HostConfig.NetworkMode)
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
