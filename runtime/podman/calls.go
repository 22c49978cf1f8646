//go:build remote

package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"weave/runtime"
	"weave/runtime/enginelist"
)

// maxAnswer is the largest answer that is read, in bytes: a thousand times what one container takes.
const maxAnswer = 64 << 20

// refPattern is what Podman allows as a container's name; ids are of it too.
var refPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// refusal is an error as libpod's API words it.
// See https://docs.podman.io/en/latest/_static/api.html, ErrorModel.
type refusal struct {
	Cause   string `json:"cause"`
	Message string `json:"message"`
	Status  int    `json:"response"`
}

func (r *refusal) Error() string {
	if r.Message == "" {
		return fmt.Sprintf("the service answers with status %d", r.Status)
	}
	return r.Message
}

// open makes a request and returns the body of a good answer. endpoint is one of libpod's with a verb for each value.
func (e *Engine) open(ctx context.Context, method, endpoint string, query url.Values, values ...string) (io.ReadCloser, error) {
	conn, err := e.connection(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := conn.DoRequest(ctx, nil, method, endpoint, query, nil, values...)
	if err != nil {
		return nil, err
	}
	if _, failed := resp.Body.(failure); failed && ctx.Err() == nil { // of a service that has gone, if it is back
		if resp, err = conn.DoRequest(ctx, nil, method, endpoint, query, nil, values...); err != nil {
			return nil, err
		}
	}
	if why, failed := resp.Body.(failure); failed {
		return nil, why.error
	}
	if resp.IsSuccess() {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	why := &refusal{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(why); err != nil {
		why.Message = "the service answers " + resp.Status
	}
	why.Status = resp.StatusCode
	return nil, why
}

// get reads a whole answer.
func (e *Engine) get(ctx context.Context, into any, endpoint string, query url.Values, values ...string) error {
	body, err := e.open(ctx, http.MethodGet, endpoint, query, values...)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("the service's answer: %w", err)
	}
	return nil
}

// unknown turns Podman's ways to say that it knows no such container into ErrNoContainer. What it answers to the beginning
// of several ids is a 404 or a 500, by the call.
func (e *Engine) unknown(ref string, err error) error {
	var r *refusal
	switch {
	case !errors.As(err, &r):
		return err
	case strings.Contains(r.Message, "more than one result"):
		return fmt.Errorf("%s: %q begins more than one id: %w", e.name, ref, runtime.ErrNoContainer)
	case r.Status == http.StatusNotFound:
		return fmt.Errorf("%s: %q: %w", e.name, ref, runtime.ErrNoContainer)
	}
	return err
}

// Inspect tells of a container.
func (e *Engine) Inspect(ctx context.Context, ref string) (runtime.Container, error) {
	if !refPattern.MatchString(ref) {
		return runtime.Container{}, fmt.Errorf("%s: %q: %w", e.name, ref, runtime.ErrNoContainer)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := e.inspect(ctx, ref)
	return c, e.named(ctx, "inspect "+ref, err)
}

func (e *Engine) inspect(ctx context.Context, ref string) (runtime.Container, error) {
	var in inspected
	if err := e.get(ctx, &in, "/containers/%s/json", nil, ref); err != nil {
		return runtime.Container{}, e.unknown(ref, err)
	}
	if in.ID == "" {
		return runtime.Container{}, errors.New("the service's answer names no container")
	}
	return in.convert(e.name), nil
}

// List tells of the containers that run.
func (e *Engine) List(ctx context.Context) ([]runtime.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	all, err := e.list(ctx)
	return all, e.named(ctx, "list containers", err)
}

func (e *Engine) list(ctx context.Context) ([]runtime.Container, error) {
	var found []struct{ ID string } // Podman writes Id, which is the same to Go
	// Without a filter Podman leaves out the paused ones.
	query := url.Values{"filters": {`{"status":["running","paused"]}`}}
	if err := e.get(ctx, &found, "/containers/json", query); err != nil {
		return nil, err
	}
	ids := make([]string, len(found))
	for i, item := range found {
		ids[i] = item.ID
	}
	return enginelist.Running(ctx, ids, inspectors, e.inspect)
}

// Kill sends SIGKILL to a container's first process. It is no error if the container does not run.
func (e *Engine) Kill(ctx context.Context, id string) error {
	if !refPattern.MatchString(id) {
		return fmt.Errorf("%s: %q: %w", e.name, id, runtime.ErrNoContainer)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := e.open(ctx, http.MethodPost, "/containers/%s/kill", url.Values{"signal": {"KILL"}}, id)
	if err == nil {
		return body.Close()
	}
	var r *refusal
	if errors.As(err, &r) && (r.Status == http.StatusConflict || r.Cause == "container state improper") {
		return nil // it does not run
	}
	return e.named(ctx, "kill "+id, e.unknown(id, err))
}
