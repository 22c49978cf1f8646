package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"weave/runtime"
)

var errLimit = errors.New("the engine does not answer")

// changes are the actions that matter, in Docker's words and in those of Podman's Docker-like API.
// See https://docs.docker.com/reference/cli/docker/system/events/.
var changes = map[events.Action]runtime.Change{
	events.ActionStart:   runtime.Started,
	events.ActionDie:     runtime.Died,
	"died":               runtime.Died,
	events.ActionDestroy: runtime.Removed,
	events.ActionRemove:  runtime.Removed,
	events.ActionRename:  runtime.Renamed,
}

// Watch sends what happens to containers.
//
// Docker answers a request for events before it has subscribed the asker, so what happens in between would be lost.
// Therefore the request has a "since", a moment before it was made: Docker then also sends what its memory of the last
// 256 events has from that moment on, and subscribes under the same lock. The clocks are the same, because an engine
// whose namespaces we can enter is on our host. An event of that time may come twice, from memory and as news.
//
// Docker drops events for an asker that does not read for 100 ms: see runtime.Relay.
func (e *Engine) Watch(parent context.Context, out chan<- runtime.Event) error {
	ctx, cancel := context.WithCancelCause(parent)
	s, err := e.subscribe(ctx, cancel)
	if err == nil {
		err = runtime.Relay(ctx, s.Stream, s.event, out)
		cancel(nil)
		for range s.Ended { // until its goroutine has ended
			continue
		}
		_ = s.api.Close()
	}
	cancel(nil)
	e.forget(nil) // whatever ended the stream: the engine may be another one now
	if parent.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: watch: %w", e.name, err)
}

// stream is the engine's answer to one Watch.
type stream struct {
	runtime.Stream[events.Message]
	api     *client.Client
	settled int64 // unix nanoseconds: events after this come once
	seen    map[string]bool
}

// subscribe returns once the engine has accepted the request for events.
func (e *Engine) subscribe(ctx context.Context, cancel context.CancelCauseFunc) (*stream, error) {
	timer := time.AfterFunc(limit, func() { cancel(errLimit) })
	defer timer.Stop()
	var accepted atomic.Bool
	api, err := e.dial(ctx, client.WithHTTPResponseHook(func(r *http.Response) {
		if r.StatusCode == http.StatusOK && strings.HasSuffix(r.Request.URL.Path, "/events") {
			accepted.Store(true)
		}
	}))
	if err != nil {
		return nil, reason(ctx, err)
	}
	s := &stream{api: api, seen: map[string]bool{}}
	engine, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err == nil {
		got := api.Events(ctx, client.EventsListOptions{Since: stamp(time.Now()), Filters: filters()})
		if accepted.Load() {
			s.Stream = runtime.Stream[events.Message]{Version: engine.Version, Messages: got.Messages, Ended: got.Err}
			s.settled = time.Now().UnixNano()
			return s, nil
		}
		err = <-got.Err
	}
	_ = api.Close()
	return nil, reason(ctx, err)
}

// reason prefers why a context was ended to what ended because of it.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// stamp is a moment in the form that Docker takes with nanoseconds.
func stamp(t time.Time) string {
	return strconv.FormatInt(t.Unix(), 10) + "." + fmt.Sprintf("%09d", t.Nanosecond())
}

func filters() client.Filters {
	f := client.Filters{}.Add("type", string(events.ContainerEventType))
	for action := range changes {
		f.Add("event", string(action))
	}
	return f
}

// event tells what a message means to us, if it means something and is news.
func (s *stream) event(m events.Message) (runtime.Event, bool) {
	change, known := changes[m.Action]
	if !known || m.Type != events.ContainerEventType || m.Actor.ID == "" {
		return runtime.Event{}, false
	}
	if m.TimeNano <= s.settled {
		key := strconv.FormatInt(m.TimeNano, 10) + string(m.Action) + m.Actor.ID
		if s.seen[key] {
			return runtime.Event{}, false
		}
		s.seen[key] = true
	}
	return runtime.Event{Change: change, ID: m.Actor.ID}, true
}
