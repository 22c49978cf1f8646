package control

import (
	"net"
	"slices"
	"sync"
	"time"
)

// limiter is a token bucket: burst at once, then one per interval.
type limiter struct {
	mu       sync.Mutex
	burst    int
	interval time.Duration
	next     time.Time // when the bucket would be full, less burst intervals
}

// take takes a token and returns how long to wait before using it.
func (l *limiter) take(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	earliest := now.Add(-time.Duration(l.burst) * l.interval)
	if l.next.Before(earliest) {
		l.next = earliest
	}
	l.next = l.next.Add(l.interval)
	return max(l.next.Sub(now), 0)
}

// halfOpen holds the incoming connections whose handshake is not complete. When
// there are too many the oldest goes: an honest handshake takes a few round
// trips and is young, one that only occupies a place grows old.
type halfOpen struct {
	mu    sync.Mutex
	limit int
	conns []net.Conn // oldest first
}

// add takes c in and returns the connection to close for it, if any.
func (h *halfOpen) add(c net.Conn) net.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns, c)
	if len(h.conns) <= h.limit {
		return nil
	}
	oldest := h.conns[0]
	h.conns = slices.Delete(h.conns, 0, 1)
	return oldest
}

func (h *halfOpen) remove(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.conns, c); i >= 0 {
		h.conns = slices.Delete(h.conns, i, i+1)
	}
}
