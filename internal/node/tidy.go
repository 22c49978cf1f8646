package node

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	tidyInterval = 2 * time.Second
	tidyAtLatest = 30 * time.Second
	tidyGarbage  = 512 << 10 // bytes allocated since that are worth it
	tidyQuiet    = 256 << 10 // bytes allocated in an interval that say a burst is over

	// gcPercent is how much garbage there may be for each byte in use. Nearly all
	// of these bytes are buffers of the data plane, which make no garbage and cost
	// the collector nothing: by Go's default of 100 as many again would be touched
	// before it ran.
	gcPercent = 15
)

// tidy gives memory back to the system after a time of many allocations: a join,
// a partition, a status. The data plane makes no garbage, so that by itself the
// collector might not run for hours.
func tidy(ctx context.Context) error {
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var tidied, seen uint64 // bytes ever allocated, then
	waited := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		runtimemetrics.Read(sample)
		now := sample[0].Value.Uint64()
		waited += tidyInterval
		due := now-seen < tidyQuiet || waited >= tidyAtLatest
		if seen = now; due && now-tidied > tidyGarbage {
			tidied, waited = now, 0
			debug.FreeOSMemory()
			unmapProgram()
		}
	}
}
