package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"weave/runtime"
)

// slowEngine says of its container that it runs, so many times, and then what it says last.
type slowEngine struct {
	runtime.Engine
	running int
	last    error // nil: it does not run
}

func (e *slowEngine) Inspect(context.Context, string) (runtime.Container, error) {
	if e.running > 0 {
		e.running--
		return runtime.Container{Running: true}, nil
	}
	return runtime.Container{}, e.last
}

// An engine notices a little later than we do that a container has ended. One that goes on saying that it runs is believed,
// after a while; as is one that does not answer; and who waits is not held up.
func TestStopped(t *testing.T) {
	for name, c := range map[string]struct {
		engine slowEngine
		limit  time.Duration
		want   bool
		took   time.Duration
	}{
		"stopped":          {engine: slowEngine{}, want: true},
		"gone":             {engine: slowEngine{running: 3, last: runtime.ErrNoContainer}, want: true, took: 3 * vanishPoll},
		"noticed later":    {engine: slowEngine{running: 5}, want: true, took: 5 * vanishPoll},
		"runs":             {engine: slowEngine{running: 1e9}, want: false, took: vanishFor},
		"does not answer":  {engine: slowEngine{last: errors.New("no answer")}, want: false, took: vanishFor},
		"somebody's event": {engine: slowEngine{running: 1e9}, limit: 5 * vanishPoll / 2, want: true, took: 5 * vanishPoll / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, began := t.Context(), time.Now()
				if c.limit > 0 {
					limited, cancel := context.WithTimeout(ctx, c.limit)
					defer cancel()
					ctx = limited
				}
				if got := stopped(ctx, &c.engine, "id"); got != c.want || time.Since(began) != c.took {
					t.Errorf("%v after %v, want %v after %v", got, time.Since(began), c.want, c.took)
				}
			})
		})
	}
}
