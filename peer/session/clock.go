package session

import (
	"sync/atomic"
	"time"
)

// stamp is a moment as nanoseconds since shortly before the Clock's start; 0 means never.
type stamp = int64

// Clock is the coarse time the hot path reads: one atomic load instead of a call into the kernel per message. The
// driver advances it before each batch (or every 100 ms or so) and every Step advances it; it never goes back.
// Safe for concurrent use.
type Clock struct {
	start time.Time
	now   atomic.Int64
}

// NewClock starts a clock at a moment. Give it time.Now(), whose monotonic reading makes it deaf to changes of the
// wall clock.
func NewClock(start time.Time) *Clock {
	c := &Clock{start: start.Add(-1)}
	c.now.Store(1)
	return c
}

// Advance moves the clock forward to now; an earlier moment changes nothing.
func (c *Clock) Advance(now time.Time) {
	next := int64(now.Sub(c.start))
	for {
		old := c.now.Load()
		if next <= old || c.now.CompareAndSwap(old, next) {
			return
		}
	}
}

func (c *Clock) stamp() stamp { return c.now.Load() }

func (c *Clock) time(at stamp) time.Time { return c.start.Add(time.Duration(at)) }
