package server

import (
	"net/netip"
	"sync"
	"time"
)

// What one client may ask, per second, and at once. Clients on the host itself
// may ask as much as they like.
const (
	localRate     = 50_000
	localBurst    = 50_000
	upstreamRate  = 500
	upstreamBurst = 1000
	maxClients    = 8192 // remembered
)

// limiter counts what clients ask. IPv6 clients are told apart by their /64.
type limiter struct {
	mu      sync.Mutex
	clients map[netip.Addr]*client
}

type client struct {
	locals, upstreams bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func newLimiter() *limiter { return &limiter{clients: map[netip.Addr]*client{}} }

// find forgets everybody when there are too many: who asks too much is soon
// known again.
func (l *limiter) find(a netip.Addr) *client {
	if a.Is6() {
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	c := l.clients[a]
	if c == nil {
		if len(l.clients) >= maxClients {
			clear(l.clients)
		}
		c = &client{}
		l.clients[a] = c
	}
	return c
}

// local reports whether a client may ask one more query.
func (l *limiter) local(a netip.Addr) bool {
	if a.IsLoopback() || !a.IsValid() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(a).locals.take(time.Now(), localRate, localBurst)
}

// upstream reports whether one more may be forwarded.
func (l *limiter) upstream(a netip.Addr) bool {
	if a.IsLoopback() || !a.IsValid() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(a).upstreams.take(time.Now(), upstreamRate, upstreamBurst)
}
