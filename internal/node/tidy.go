package node

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	tidyInterval = 30 * time.Second
	tidyGarbage  = 2 << 20 // bytes allocated since that are worth it
)

// tidy gives memory back to the system after a time of many allocations: a join,
// a partition. The data plane makes no garbage, so that by itself the collector
// might not run for hours.
func tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var last uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		runtimemetrics.Read(sample)
		if now := sample[0].Value.Uint64(); now-last > tidyGarbage {
			last = now
			debug.FreeOSMemory()
		}
	}
}
