package enginetest

import (
	"context"
	"time"

	"weave/runtime"
)

// watcher is a Watch that goes on.
type watcher struct {
	*bench
	events chan runtime.Event
	ended  chan error // gets what Watch returned, once
	cancel context.CancelFunc
}

// watch starts to watch and waits for the first event.
func (b *bench) watch() *watcher {
	b.Helper()
	w := b.watching()
	if got := w.next(); got.Change != runtime.Watching || got.ID == "" {
		b.Fatalf("the first event is %+v, want Watching with a version", got)
	}
	return w
}

// watching starts to watch.
func (b *bench) watching() *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{bench: b, events: make(chan runtime.Event), ended: make(chan error, 1), cancel: cancel}
	go func() { w.ended <- b.Watch(ctx, w.events); close(w.ended) }()
	b.Cleanup(cancel)
	return w
}

// next waits for an event.
func (w *watcher) next() runtime.Event {
	w.Helper()
	select {
	case e := <-w.events:
		return e
	case err := <-w.ended:
		w.Fatalf("watch ended: %v", err)
	case <-time.After(patience):
		w.Fatal("no event came")
	}
	return runtime.Event{}
}

// of waits for an event of one container.
func (w *watcher) of(id string) runtime.Change {
	w.Helper()
	for {
		if e := w.next(); e.ID == id {
			return e.Change
		}
	}
}

// expect waits for the next event of one container, which must be this one.
func (w *watcher) expect(id string, want runtime.Change) {
	w.Helper()
	if got := w.of(id); got != want {
		w.Fatalf("event %d of %.12s, want %d", got, id, want)
	}
}

// stop ends the watch, which must not take it for an error.
func (w *watcher) stop() {
	w.Helper()
	w.cancel()
	if err := w.end(); err != nil {
		w.Fatalf("watch returned %v after its context had ended, want nil", err)
	}
}

// end waits until Watch has returned, and takes the events that come before.
func (w *watcher) end() error {
	w.Helper()
	for limit := time.After(patience); ; {
		select {
		case <-w.events:
		case err := <-w.ended:
			return err
		case <-limit:
			w.Fatal("watch does not end")
		}
	}
}

// counts takes events until each of ids has started, and then until a last container has, which is started now: by
// then whatever came twice has come. It returns how often each container has started.
func (w *watcher) counts(ids []string) map[string]int {
	w.Helper()
	started := map[string]int{}
	missing := map[string]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	take := func() string {
		e := w.next()
		if e.Change == runtime.Started {
			started[e.ID]++
			delete(missing, e.ID)
		}
		return e.ID
	}
	for len(missing) > 0 {
		take()
	}
	last := w.sleeper("last")
	for started[last] == 0 {
		take()
	}
	delete(started, last)
	return started
}
