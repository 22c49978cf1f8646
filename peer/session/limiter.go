package session

import (
	"net/netip"
	"time"
)

// limiter is a token bucket per source address: 20 handshake messages a second, 5 at once, as wireguard's ratelimiter
// has it. That package reads the wall clock and starts a goroutine, which a pure core must not; hence this one. It is
// asked only under load and only about sources that have shown a cookie.
type limiter struct {
	buckets map[netip.Addr]bucket
}

type bucket struct {
	tokens int64 // nanoseconds of credit
	at     stamp
}

const (
	limiterCost  = int64(time.Second) / 20
	limiterFull  = 5 * limiterCost
	limiterBound = 4096 // sources remembered; beyond it new ones are refused until old ones are forgotten
	hostBitsIPv6 = 64   // one IPv6 customer can use a whole /64
)

func (l *limiter) allow(a netip.Addr, now stamp) bool {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(128 - hostBitsIPv6); err == nil {
			a = p.Addr()
		}
	}
	b, ok := l.buckets[a]
	if !ok {
		if len(l.buckets) >= limiterBound && !l.sweep(now) {
			return false
		}
		b = bucket{tokens: limiterFull, at: now}
	}
	b.tokens = min(limiterFull, b.tokens+now-b.at)
	b.at = now
	allowed := b.tokens >= limiterCost
	if allowed {
		b.tokens -= limiterCost
	}
	if l.buckets == nil {
		l.buckets = make(map[netip.Addr]bucket)
	}
	l.buckets[a] = b
	return allowed
}

// sweep forgets sources whose bucket is full again, and reports whether that made room.
func (l *limiter) sweep(now stamp) bool {
	for a, b := range l.buckets {
		if b.tokens+now-b.at >= limiterFull {
			delete(l.buckets, a)
		}
	}
	return len(l.buckets) < limiterBound
}
