package enginelist

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"weave/runtime"
)

func TestRunning(t *testing.T) {
	var ids []string
	for i := range 100 {
		ids = append(ids, fmt.Sprint(i))
	}
	var now, most atomic.Int32
	got, err := Running(t.Context(), ids, 3, func(_ context.Context, id string) (runtime.Container, error) {
		defer now.Add(-1)
		if n := now.Add(1); n > 3 {
			most.Store(n)
		}
		switch id {
		case "7":
			return runtime.Container{}, fmt.Errorf("inspect: %w", runtime.ErrNoContainer)
		case "8":
			return runtime.Container{ID: id}, nil
		}
		return runtime.Container{ID: id, Running: true}, nil
	})
	want := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == "7" || id == "8" })
	if err != nil || !slices.EqualFunc(got, want, func(c runtime.Container, id string) bool { return c.ID == id }) {
		t.Errorf("%v, %v", got, err)
	}
	if n := most.Load(); n > 0 {
		t.Errorf("%d asked about at once, want 3 at most", n)
	}
	broken := errors.New("broken")
	if got, err := Running(t.Context(), ids, 3, func(context.Context, string) (runtime.Container, error) { return runtime.Container{}, broken }); !errors.Is(err, broken) || got != nil {
		t.Errorf("%v, %v; want the error and nothing else", got, err)
	}
}
