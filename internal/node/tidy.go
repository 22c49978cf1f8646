package node

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	tidyInterval = 2 * time.Second
	// Bytes allocated since the last time that are worth it: when a burst is over, which is when no more than tidyQuiet were in
	// an interval, and at the latest.
	tidyBurst    = 128 << 10
	tidyQuiet    = 256 << 10
	tidyGarbage  = 64 << 10
	tidyAtLatest = 10 * time.Second

	// gcPercent is how much garbage there may be for each byte in use. Nearly all
	// of these bytes are buffers of the data plane, which make no garbage and cost
	// the collector nothing: by Go's default of 100 as many again would be touched
	// before it ran. With fewer than 1 MB of garbage it never runs by itself.
	gcPercent = 15
)

// tidy gives memory back to the system after a time of many allocations: a join,
// a partition, a status. The data plane makes no garbage, so that by itself the
// collector might not run for hours.
func tidy(ctx context.Context) error {
	t := tidier{sample: []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}}
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.look()
		}
	}
}

// tidier remembers for tidy.
type tidier struct {
	sample       []runtimemetrics.Sample
	seen, tidied uint64 // bytes ever allocated, at the last look and when it last did something
	waited       time.Duration
}

func (t *tidier) look() {
	runtimemetrics.Read(t.sample)
	now := t.sample[0].Value.Uint64()
	t.waited += tidyInterval
	quiet := now-t.seen < tidyQuiet
	t.seen = now
	if garbage := now - t.tidied; !(quiet && garbage > tidyBurst || t.waited >= tidyAtLatest && garbage > tidyGarbage) {
		return
	}
	t.tidied, t.waited = now, 0
	giveBack()
}

// giveBack gives to the system what was needed once: garbage, and pages of the program.
func giveBack() {
	debug.FreeOSMemory()
	unmapProgram()
}
