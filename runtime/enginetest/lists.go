package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"weave/runtime"
)

// What runs, and how calls end that the engine does not answer.

func list(b *bench) {
	if all, err := b.List(b.context()); err != nil || len(all) > 0 {
		b.Fatalf("list of nothing: %+v, %v", all, err)
	}
	b.created("created")
	b.sleeper("ended")
	b.run("kill", "ended")
	b.sleeper("paused")
	b.run("pause", "paused")
	b.sleeper("runs", "-l", "weave=true")
	var names []string
	b.until("ended is off the list", func() bool {
		all, err := b.List(b.context())
		if err != nil {
			b.Fatal(err)
		}
		names = names[:0]
		for _, c := range all {
			if names = append(names, c.Name); c.PID == 0 || !c.Running {
				b.Errorf("listed as running: %+v", c)
			}
			if want := b.inspect(c.ID); fmt.Sprint(c) != fmt.Sprint(want) {
				b.Errorf("list says %+v, inspect %+v", c, want)
			}
		}
		return !slices.Contains(names, "ended")
	})
	if slices.Sort(names); !slices.Equal(names, []string{"paused", "runs"}) {
		b.Errorf("list: %q, want paused, runs", names)
	}
	b.run("unpause", "paused")
}

func kill(b *bench) {
	id := b.sleeper("victim")
	w := b.watch()
	if err := b.Kill(b.context(), id); err != nil {
		b.Fatal(err)
	}
	w.expect(id, runtime.Died)
	b.until("victim is told to have ended", func() bool { return !b.inspect(id).Running })
	if err := b.Kill(b.context(), id); err != nil {
		b.Errorf("kill of what does not run: %v, want nil", err)
	}
	b.run("start", "victim")
	w.expect(id, runtime.Started)
	w.stop()
}

// cancelled tests that nothing is asked when nobody waits for the answer, and that no call outlives its context.
func cancelled(b *bench) {
	id := b.sleeper("there")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.fails("cancelled", time.Now(), func() error { _, err := b.Inspect(ctx, id); return err }, context.Canceled)
	b.fails("cancelled", time.Now(), func() error { _, err := b.List(ctx); return err }, context.Canceled)
	b.fails("cancelled", time.Now(), func() error { return b.Kill(ctx, id) }, context.Canceled)
	if err := b.Watch(ctx, nil); err != nil {
		b.Errorf("watch with a cancelled context: %v, want nil", err)
	}
	if !b.inspect(id).Running {
		b.Error("killed by a call that had been cancelled")
	}
}

// fails tests that a call returns that error, soon after a moment.
func (b *bench) fails(what string, after time.Time, call func() error, want error) {
	b.Helper()
	err := call()
	if took := time.Since(after); took > patience/4 {
		b.Errorf("%s: the call returned after %v", what, took)
	}
	if !errors.Is(err, want) || errors.Is(err, runtime.ErrNoContainer) {
		b.Errorf("%s: %v, want %v", what, err, want)
	}
}

// hung tests a service that takes connections and says nothing.
func hung(b *bench) {
	id := b.sleeper("there")
	w := b.watch()
	b.do("pause the service", func() error { return b.Pause(true) })
	defer func() { _ = b.Pause(false) }()
	for _, call := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := b.Inspect(ctx, id); return err },
		func(ctx context.Context) error { _, err := b.List(ctx); return err },
		func(ctx context.Context) error { return b.Kill(ctx, "nosuch") },
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		b.fails("hung", time.Now(), func() error { return call(ctx) }, context.DeadlineExceeded)
		cancel()
	}
	second := b.watching()
	second.stop()
	b.do("let the service go on", func() error { return b.Pause(false) })
	b.run("kill", "there")
	w.expect(id, runtime.Died) // the watch has lived through it
	w.stop()
}

func (b *bench) do(what string, f func() error) {
	b.Helper()
	if err := f(); err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// comesBack tests that a Watch ends when the service does, and that the same Engine works with the next one.
func comesBack(b *bench, end func() error) {
	b.sleeper("before")
	w := b.watch()
	b.do("end the service", end)
	if err := w.end(); err == nil || !strings.Contains(err.Error(), b.Command) {
		b.Errorf("watch returned %v when the service had ended, want an error with the engine's name", err)
	}
	b.unreachable(b.Engine)
	b.do("start the service", b.Start)
	w = b.watch()
	id := b.sleeper("after")
	w.expect(id, runtime.Started)
	if !b.inspect("after").Running {
		b.Error("a container of the new service does not run")
	}
	if _, err := b.List(b.context()); err != nil {
		b.Error(err)
	}
	if err := b.Kill(b.context(), id); err != nil {
		b.Error(err)
	}
	w.expect(id, runtime.Died)
	w.stop()
}

// unreachable tests that every method says why it fails: not that there is no such container.
func (b *bench) unreachable(e runtime.Engine) {
	b.Helper()
	_, inspected := e.Inspect(b.context(), "before")
	_, listed := e.List(b.context())
	for what, err := range map[string]error{
		"inspect": inspected, "list": listed, "kill": e.Kill(b.context(), "before"), "watch": e.Watch(b.context(), nil),
	} {
		if err == nil || errors.Is(err, runtime.ErrNoContainer) || !strings.Contains(err.Error(), b.Command) {
			b.Errorf("%s of an absent service: %v", what, err)
		}
	}
}

func absent(b *bench) {
	b.do("stop the service", b.Stop)
	e, err := b.Open()
	if err != nil {
		b.Fatalf("open of an absent service: %v", err)
	}
	defer b.Close(e)
	b.unreachable(e)
	b.do("start the service", b.Start)
	b.sleeper("late")
	if c, err := e.Inspect(b.context(), "late"); err != nil || !c.Running {
		b.Errorf("inspect after the service has come: %+v, %v", c, err)
	}
}
