package docker_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weave/runtime"
	"weave/runtime/enginetest"
)

// news is an event in Docker's words.
func news(at time.Time, what, action, id string) string {
	return fmt.Sprintf(`{"Type":%q,"Action":%q,"Actor":{"ID":%q},"timeNano":%d}`+"\n", what, action, id, at.UnixNano())
}

// stream answers a request for events with them, and then ends.
func stream(events ...string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		fmt.Fprint(w, strings.Join(events, ""))
	}
}

func TestWatchTellsWhatMatters(t *testing.T) {
	now := time.Now()
	e := serve(t, &wire{answer: stream(
		news(now, "container", "start", "a"), news(now, "container", "start", "a"), // from memory and as news
		news(now, "container", "exec_create: sh", "a"), news(now, "network", "destroy", "n"), "null", "{}",
		news(now, "container", "start", ""),
		news(now, "container", "die", "a"), news(now.Add(time.Nanosecond), "container", "start", "a"),
		news(now.Add(time.Hour), "container", "rename", "a"), news(now.Add(time.Hour), "container", "rename", "a"),
		news(now, "container", "destroy", "a"), news(now, "container", "remove", "b"),
	)})
	got, err := enginetest.Collect(t.Context(), t, e)
	want := []runtime.Event{
		{Change: runtime.Watching, ID: "20.10"},
		{Change: runtime.Started, ID: "a"},
		{Change: runtime.Died, ID: "a"},
		{Change: runtime.Started, ID: "a"},
		{Change: runtime.Renamed, ID: "a"},
		{Change: runtime.Renamed, ID: "a"},
		{Change: runtime.Removed, ID: "a"},
		{Change: runtime.Removed, ID: "b"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "engine: watch: ") {
		t.Errorf("watch returned %v, want an error that names the engine", err)
	}
}

// TestWatchAsksForThePast: Docker answers before it has subscribed the asker, so the request must reach back.
func TestWatchAsksForThePast(t *testing.T) {
	before := time.Now()
	since := make(chan string, 1)
	e := serve(t, &wire{answer: func(w http.ResponseWriter, r *http.Request, _ string) {
		arrived := time.Now()
		at, err := strconv.ParseFloat(r.FormValue("since"), 64)
		if err != nil || at < float64(before.Unix()) || at > float64(arrived.UnixMicro())/1e6 {
			since <- r.FormValue("since")
		}
		close(since)
	}})
	if _, err := enginetest.Collect(t.Context(), t, e); err == nil {
		t.Error("watch returned no error")
	}
	if bad, wrong := <-since; wrong {
		t.Errorf("the request for events reaches back to %q, want a moment of this test before it arrived", bad)
	}
}

func TestWatchFails(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request, string){
		"refused":   always(500, `{"message":"out of order"}`),
		"not found": always(404, "page not found"),
	} {
		if got, err := enginetest.Collect(t.Context(), t, serve(t, &wire{answer: answer})); err == nil || len(got) > 0 {
			t.Errorf("%s: %v, %v; want no event and an error", name, got, err)
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request, string){
		"not JSON":   stream("<html>"),
		"cut":        stream(`{"Type":"contai`),
		"other type": stream(`["start"]`, news(time.Now(), "container", "start", "a")),
	} {
		if got, err := enginetest.Collect(t.Context(), t, serve(t, &wire{answer: answer})); err == nil || len(got) != 1 {
			t.Errorf("%s: %v, %v; want Watching and an error", name, got, err)
		}
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	left := make(chan struct{})
	e := serve(t, &wire{answer: func(w http.ResponseWriter, r *http.Request, what string) {
		stream(news(time.Now(), "container", "start", "a"))(w, r, what)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(left)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan runtime.Event), make(chan error, 1)
	go func() { ended <- e.Watch(ctx, events) }()
	<-events // and the second waits
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("watch returned %v, want nil", err)
		}
	case <-time.After(patience):
		t.Fatal("watch does not end")
	}
	<-left
}
