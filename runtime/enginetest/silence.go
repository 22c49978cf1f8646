package enginetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"weave/runtime"
)

// Collect returns what a Watch tells until it returns.
func Collect(ctx context.Context, t *testing.T, e runtime.Engine) ([]runtime.Event, error) {
	t.Helper()
	events, ended := make(chan runtime.Event), make(chan error, 1)
	go func() { ended <- e.Watch(ctx, events) }()
	var all []runtime.Event
	for limit := time.After(20 * time.Second); ; {
		select {
		case ev := <-events:
			all = append(all, ev)
		case err := <-ended:
			return all, err
		case <-limit:
			t.Fatal("watch does not end")
		}
	}
}

// Silence tests that the calls of an engine whose service never answers end with their contexts. left gets something each
// time the service sees its caller hang up.
func Silence(t *testing.T, e runtime.Engine, left <-chan struct{}) {
	t.Helper()
	for name, call := range map[string]func(context.Context) error{
		"inspect": func(ctx context.Context) error { _, err := e.Inspect(ctx, "x"); return err },
		"list":    func(ctx context.Context) error { _, err := e.List(ctx); return err },
		"kill":    func(ctx context.Context) error { return e.Kill(ctx, "x") },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want the deadline", name, err)
		}
		cancel()
		<-left
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if all, err := Collect(ctx, t, e); err != nil || len(all) > 0 {
		t.Errorf("watch: %v, %v; want nothing", all, err)
	}
	<-left
}
