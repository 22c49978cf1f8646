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
	"time"

	"weave/runtime"
)

var errLimit = errors.New("the service does not answer")

// changes are the events that matter, in libpod's words.
// See https://docs.podman.io/en/latest/markdown/podman-events.1.html.
var changes = map[string]runtime.Change{
	"start": runtime.Started, "died": runtime.Died, "remove": runtime.Removed, "rename": runtime.Renamed,
}

// message is an event as libpod's API words it, or the error that ends the events.
type message struct {
	Type, Action string
	Actor        struct{ ID string }
	Message      string `json:"message"`
}

func (m message) event() (runtime.Event, bool) {
	change, known := changes[m.Action]
	return runtime.Event{Change: change, ID: m.Actor.ID}, known && m.Type == "container" && m.Actor.ID != ""
}

// Watch sends what happens to containers.
//
// Podman answers a request for events before it looks for any, and finds them in a file or in the journal, where each
// podman process writes them. Therefore the request has a "since", a moment before it was made, from which on Podman
// reads. With the file, which Podman polls, an event may come a quarter of a second late.
func (e *Engine) Watch(parent context.Context, out chan<- runtime.Event) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	version, body, err := e.subscribe(ctx, cancel)
	if err == nil {
		messages, ended := make(chan message), make(chan error, 1)
		go func() { ended <- read(ctx, body, messages); close(ended) }()
		s := runtime.Stream[message]{Version: version, Messages: messages, Ended: ended}
		err = runtime.Relay(ctx, s, message.event, out)
		cancel(nil)
		_ = body.Close()
		for range ended { // until its goroutine has ended
			continue
		}
	}
	e.http.CloseIdleConnections() // whatever ended the stream: the service may be another one now
	switch {
	case parent.Err() != nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s: watch: %w", e.name, err)
}

// subscribe returns once the service has accepted the request for events.
func (e *Engine) subscribe(ctx context.Context, cancel context.CancelCauseFunc) (string, io.ReadCloser, error) {
	timer := time.AfterFunc(limit, func() { cancel(errLimit) })
	defer timer.Stop()
	var engine struct{ Version string }
	if err := e.get(ctx, &engine, "/version", nil); err != nil {
		return "", nil, err
	}
	filters, err := json.Marshal(map[string][]string{
		"type": {"container"}, "event": {"start", "died", "remove", "rename"},
	})
	if err != nil {
		return "", nil, err
	}
	body, err := e.open(ctx, http.MethodGet, "/events", url.Values{
		"stream": {"true"}, "since": {time.Now().Format(time.RFC3339Nano)}, "filters": {string(filters)},
	})
	return engine.Version, body, err
}

// read sends what the service sends until that ends, and returns why it did.
func read(ctx context.Context, from io.Reader, to chan<- message) error {
	for dec := json.NewDecoder(from); ; {
		var m message
		if err := dec.Decode(&m); err != nil {
			return err
		}
		if m.Message != "" { // an error: the good status had gone out before it
			return errors.New(m.Message)
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
