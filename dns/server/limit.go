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

// limiter counts what clients ask. Each address is a client of its own: the
// containers of a network share a /64.
type limiter struct {
	mu      sync.Mutex
	clients recent[netip.Addr, *client]
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

// find forgets who was silent for longest when there are too many.
func (l *limiter) find(a netip.Addr) *client {
	c, ok := l.clients.get(a)
	if ok {
		return c
	}
	if l.clients.len() >= maxClients {
		l.clients.evict()
	}
	c = &client{}
	l.clients.put(a, c)
	return c
}

// local reports whether a client may ask one more query.
func (l *limiter) local(a netip.Addr) bool { return ownHost(a) || l.localAt(a, time.Now()) }

func (l *limiter) localAt(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(a).locals.take(now, localRate, localBurst)
}

// upstream reports whether one more may be forwarded.
func (l *limiter) upstream(a netip.Addr) bool { return ownHost(a) || l.upstreamAt(a, time.Now()) }

func (l *limiter) upstreamAt(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(a).upstreams.take(now, upstreamRate, upstreamBurst)
}

func ownHost(a netip.Addr) bool { return a.IsLoopback() || !a.IsValid() }

// How many queries may wait for other servers.
const (
	maxWaiting       = 4096
	maxWaitingClient = 256 // of one client, unless it is on the host itself
)

// places counts queries that wait for other servers, so that one client with
// names that nobody answers for does not keep the others from being served.
type places struct {
	mu    sync.Mutex
	total int
	held  map[netip.Addr]int
}

// take reserves a place, which give gives back.
func (p *places) take(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total >= maxWaiting || (p.held[a] >= maxWaitingClient && !ownHost(a)) {
		return false
	}
	if p.held == nil {
		p.held = map[netip.Addr]int{}
	}
	p.total++
	p.held[a]++
	return true
}

func (p *places) give(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total--
	if p.held[a]--; p.held[a] == 0 {
		delete(p.held, a)
	}
}
