package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	dialTimeout  = 10 * time.Second
	askTimeout   = 30 * time.Second // for a question of ours to the engine
	maxInspect   = 64 << 20         // bytes of what the engine answers to an inspection
	maxRequest   = 16 << 20         // bytes of a request that we change
	contentType  = "Content-Type"
	jsonType     = "application/json"
	notReachable = "Could not connect to target"
)

// engine is the upstream.
type engine struct {
	network, address string
	http             *http.Client // for our own questions
}

// newEngine reads unix:///PATH or tcp://HOST:PORT.
func newEngine(upstream string) (*engine, error) {
	e := &engine{}
	scheme, rest, _ := strings.Cut(upstream, "://")
	switch {
	case scheme == "unix" && strings.HasPrefix(rest, "/"):
		e.network, e.address = "unix", rest
	case (scheme == "tcp" || scheme == "http") && rest != "":
		if _, _, err := net.SplitHostPort(rest); err != nil {
			return nil, fmt.Errorf("proxy: invalid engine address %q: %w", upstream, err)
		}
		e.network, e.address = "tcp", rest
	default:
		return nil, fmt.Errorf("proxy: invalid engine address %q, should be unix:///PATH or tcp://HOST:PORT", upstream)
	}
	e.http = &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx) },
		DisableCompression: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
	}}
	return e, nil
}

func (e *engine) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, e.network, e.address)
}

// reply is a whole response that we give, or were given.
type reply struct {
	status int
	kind   string // its content type
	body   []byte
}

// failure is an error as the engine words them.
func failure(c call, status int, text string) *reply {
	if c.before(1, 24) { // Docker's errors were plain text then
		return &reply{status, "text/plain; charset=utf-8", []byte(text + "\n")}
	}
	body, _ := json.Marshal(map[string]string{"message": text}) // strings always are JSON
	return &reply{status, jsonType, append(body, '\n')}
}

// ask has the engine answer a question of ours.
func (e *engine) ask(ctx context.Context, method, path string) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxInspect))
	if err != nil {
		return nil, err
	}
	return &reply{resp.StatusCode, resp.Header.Get(contentType), body}, nil
}

// image is what an image gives containers that do not say otherwise.
type image struct {
	Entrypoint, Cmd words
	Env             []string
	Labels          map[string]string
}

// image asks for one. The reply, if there is one, is for the client in place of what it asked for.
func (e *engine) image(ctx context.Context, c call, name string) (image, *reply) {
	r, err := e.ask(ctx, http.MethodGet, c.prefix+"/images/"+escapeName(name)+"/json")
	switch {
	case err != nil:
		return image{}, failure(c, http.StatusInternalServerError, notReachable+": "+err.Error())
	case r.status == http.StatusNotFound:
		return image{}, failure(c, http.StatusNotFound, "No such image: "+name)
	case r.status != http.StatusOK:
		return image{}, r
	}
	var shown struct{ Config image }
	if err := json.Unmarshal(r.body, &shown); err != nil {
		return image{}, failure(c, http.StatusInternalServerError, "cannot read the engine's answer about image "+name+": "+err.Error())
	}
	return shown.Config, nil
}

// escapeName makes an image's name part of a path, whose slashes stay: registry/name:tag.
func escapeName(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// container is what we need to know of one.
type container struct {
	ID     string
	Config struct{ Entrypoint words }
	Mounts []struct{ Destination string }
	// Volumes is in place of Mounts before version 1.20 of the API.
	Volumes    map[string]string
	HostConfig struct{ NetworkMode string }
}

// waits tells that it was made to start with the shim, and has it.
func (c container) waits() bool {
	if len(c.Config.Entrypoint) == 0 || c.Config.Entrypoint[0] != shimPath {
		return false
	}
	_, has := c.Volumes[shimDir]
	for _, m := range c.Mounts {
		has = has || m.Destination == shimDir
	}
	return has
}

// container asks for one; false if the engine will have its own word to say about the request that asked.
func (e *engine) container(ctx context.Context, c call) (container, bool) {
	r, err := e.ask(ctx, http.MethodGet, c.prefix+"/containers/"+escapeName(c.id)+"/json")
	if err != nil || r.status != http.StatusOK {
		return container{}, false
	}
	var shown container
	if err := json.Unmarshal(r.body, &shown); err != nil {
		return container{}, false
	}
	return shown, true
}

// kill ends a container; one that has ended is fine.
func (e *engine) kill(ctx context.Context, c call) error {
	r, err := e.ask(ctx, http.MethodPost, c.prefix+"/containers/"+escapeName(c.id)+"/kill")
	if err != nil {
		return err
	}
	if r.status >= 300 && r.status != http.StatusConflict && r.status != http.StatusNotFound {
		return fmt.Errorf("kill: status %d: %s", r.status, bytes.TrimSpace(r.body))
	}
	return nil
}
