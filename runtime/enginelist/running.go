package enginelist

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"weave/runtime"
)

// Running asks about the containers with these ids, at most atOnce at a time, and returns those that run, in the
// order of ids. One that has gone since (runtime.ErrNoContainer) is left out; the first other error ends it all. inspect is called
// from several goroutines, none of which is left when Running returns.
func Running(ctx context.Context, ids []string, atOnce int,
	inspect func(ctx context.Context, id string) (runtime.Container, error),
) ([]runtime.Container, error) {
	all := make([]runtime.Container, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, id := range ids {
		group.Go(func() error {
			c, err := inspect(ctx, id)
			if errors.Is(err, runtime.ErrNoContainer) {
				return nil
			}
			all[i] = c
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	running := all[:0]
	for _, c := range all {
		if c.Running {
			running = append(running, c)
		}
	}
	return running, nil
}
