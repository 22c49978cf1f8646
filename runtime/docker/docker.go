package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"weave/runtime"
	"weave/runtime/enginelist"
)

// Name is what Containers say their engine is, unless Open is given another name.
const Name = "docker"

// limit ends a call whose context has no earlier deadline, so that a hung engine cannot hold its caller.
const limit = 30 * time.Second

// refPattern is what Docker allows as a container's name; ids are of it too. Anything else would be another path of the API.
var refPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

var errNoID = errors.New("the engine's answer names no container")

// Engine is one endpoint of a Docker engine.
type Engine struct {
	name, endpoint string
	http           *http.Client // its transport is copied into every client

	mu  sync.Mutex
	api *client.Client // has agreed on a version with the engine; nil until one has
}

// Open makes an Engine of a unix:///path or tcp://host:port endpoint, which Containers and errors call name. Without an
// endpoint it is the docker command's own: DOCKER_HOST with the TLS files of DOCKER_CERT_PATH, or else DefaultEndpoint.
// It fails on an endpoint of another form and on unreadable TLS files, never because the engine is absent.
func Open(name, endpoint string) (*Engine, error) {
	var conf *tls.Config
	if endpoint == "" {
		var err error
		if endpoint, conf, err = fromEnvironment(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := checkEndpoint(endpoint); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Engine{name: name, endpoint: endpoint, http: &http.Client{
		Transport: newTransport(conf), CheckRedirect: client.CheckRedirect,
	}}, nil
}

// Endpoint is where the engine is, as Open was told or found out.
func (e *Engine) Endpoint() string { return e.endpoint }

// Close closes idle connections. The Engine can still be used.
func (e *Engine) Close() { e.forget(nil) }

// dial makes a client and agrees on a version of the API with the engine. A client whose first ping fails would speak
// the newest version for good, so that one is never kept.
func (e *Engine) dial(ctx context.Context, more ...client.Opt) (*client.Client, error) {
	opts := append([]client.Opt{client.WithHTTPClient(e.http), client.WithHost(e.endpoint)}, more...)
	api, err := client.New(opts...)
	if err != nil {
		return nil, err
	}
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		_ = api.Close()
		return nil, err
	}
	return api, nil
}

// client returns the client at hand, or a new one: fresh tells which.
func (e *Engine) client(ctx context.Context) (api *client.Client, fresh bool, err error) {
	e.mu.Lock()
	api = e.api
	e.mu.Unlock()
	if api != nil {
		return api, false, nil
	}
	if api, err = e.dial(ctx); err != nil {
		return nil, true, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api != nil { // another call was quicker
		_ = api.Close()
	} else {
		e.api = api
	}
	return e.api, true, nil
}

// forget drops a client, or whichever there is, so that the next call agrees on a version anew.
func (e *Engine) forget(api *client.Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api != nil && (api == nil || api == e.api) {
		_ = e.api.Close()
		e.api = nil
	}
}

// call does one operation. When the engine has been exchanged behind a client that worked before, it does it once more.
func (e *Engine) call(ctx context.Context, what string, do func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		api, fresh, err := e.client(ctx)
		if err == nil {
			err = do(ctx, api)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, runtime.ErrNoContainer):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %s: %s does not answer: %w", e.name, what, e.endpoint, context.Cause(ctx))
		}
		if exchanged(err) {
			e.forget(api)
			if !fresh {
				continue
			}
		}
		return fmt.Errorf("%s: %s: %w", e.name, what, err)
	}
}

// exchanged tells that an error can come from a client that outlived its engine: the connection is gone, or the API
// version that they agreed on is now too old or too new, which Docker answers with 400.
func exchanged(err error) bool {
	return client.IsErrConnectionFailed(err) || errdefs.IsInvalidArgument(err)
}

// refused turns the ways to say that there is no such container into ErrNoContainer. To the beginning of several ids
// Docker answers a 500 or a 400, by its age, and Podman's Docker-like API a 404 or a 500, by the call.
func (e *Engine) refused(ref string, err error) error {
	if err == nil {
		return nil
	}
	text := strings.ToLower(err.Error())
	switch {
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%s: %q: %w", e.name, ref, runtime.ErrNoContainer)
	case strings.Contains(text, "multiple ids found"), strings.Contains(text, "more than one result"):
		return fmt.Errorf("%s: %q begins more than one id: %w", e.name, ref, runtime.ErrNoContainer)
	}
	return err
}

// Inspect tells of a container.
func (e *Engine) Inspect(ctx context.Context, ref string) (runtime.Container, error) {
	if !refPattern.MatchString(ref) {
		return runtime.Container{}, fmt.Errorf("%s: %q: %w", e.name, ref, runtime.ErrNoContainer)
	}
	var c runtime.Container
	err := e.call(ctx, "inspect "+ref, func(ctx context.Context, api *client.Client) (err error) {
		c, err = e.inspect(ctx, api, ref)
		return err
	})
	return c, err
}

func (e *Engine) inspect(ctx context.Context, api *client.Client, ref string) (runtime.Container, error) {
	got, err := api.ContainerInspect(ctx, ref, client.ContainerInspectOptions{})
	if err != nil {
		return runtime.Container{}, e.refused(ref, err)
	}
	c := convert(e.name, got.Container)
	if c.ID == "" {
		return runtime.Container{}, errNoID
	}
	target, shares := strings.CutPrefix(c.NetworkMode, "container:")
	if !shares || fullID(target) {
		return c, nil
	}
	// Engines write down the id, but nothing in the API's documentation says that they must.
	if other, err := api.ContainerInspect(ctx, target, client.ContainerInspectOptions{}); err == nil {
		c.NetworkMode = "container:" + other.Container.ID
	}
	return c, nil
}

// List tells of the containers that run.
func (e *Engine) List(ctx context.Context) ([]runtime.Container, error) {
	var all []runtime.Container
	err := e.call(ctx, "list containers", func(ctx context.Context, api *client.Client) (err error) {
		all, err = e.list(ctx, api)
		return err
	})
	return all, err
}

func (e *Engine) list(ctx context.Context, api *client.Client) ([]runtime.Container, error) {
	// Docker lists the paused ones also without a filter, Podman's Docker-like API does not.
	found, err := api.ContainerList(ctx, client.ContainerListOptions{
		Filters: client.Filters{}.Add("status", "running", "paused"),
	})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(found.Items))
	for i, item := range found.Items {
		ids[i] = item.ID
	}
	return enginelist.Running(ctx, ids, inspectors, func(ctx context.Context, id string) (runtime.Container, error) {
		return e.inspect(ctx, api, id)
	})
}

// Kill sends SIGKILL to a container's first process. It is no error if the container does not run.
func (e *Engine) Kill(ctx context.Context, id string) error {
	if !refPattern.MatchString(id) {
		return fmt.Errorf("%s: %q: %w", e.name, id, runtime.ErrNoContainer)
	}
	return e.call(ctx, "kill "+id, func(ctx context.Context, api *client.Client) error {
		_, err := api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
		if errdefs.IsConflict(err) || (err != nil && strings.Contains(err.Error(), "container state improper")) {
			return nil // it does not run: so say Docker, and Podman's Docker-like API
		}
		return e.refused(id, err)
	})
}
