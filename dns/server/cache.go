package server

import (
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// Bounds of the cache.
const (
	maxCacheBytes = 16 << 20
	maxPositive   = time.Hour
	maxNegative   = 5 * time.Minute // RFC 2308, 5 allows up to three hours
	entryBytes    = 512             // of an answer's key and the tables, at most
)

// cache keeps answers of other servers for as long as they allow. What was asked
// for least recently goes when the bytes are used up.
type cache struct {
	mu    sync.Mutex
	kept  recent[question, *foreign]
	bytes int
}

func (c *cache) get(k question, now time.Time) *foreign {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.kept.get(k)
	if ok && !now.Before(f.ends) {
		c.forget(k)
		return nil
	}
	return f
}

// put keeps an answer unless it does not allow that.
func (c *cache) put(k question, f *foreign) {
	if !f.ends.After(f.at) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(k)
	c.kept.put(k, f)
	c.bytes += f.weight()
	for c.bytes > maxCacheBytes {
		old, _ := c.kept.evict()
		c.bytes -= old.weight()
	}
}

func (c *cache) forget(k question) {
	if f, ok := c.kept.remove(k); ok {
		c.bytes -= f.weight()
	}
}

// weight is how many bytes an answer takes, with its key, which is not longer
// than a name may be.
func (f *foreign) weight() int { return entryBytes + cap(f.wire) + 2*cap(f.ttls) }

// lifetime is how long an answer may be kept: as long as its shortest record, or
// where there is none of the type, as long as the zone says (RFC 2308, 5); not at
// all where it does not say.
func lifetime(m *mdns.Msg) time.Duration {
	if m.Truncated || (m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError) {
		return 0
	}
	shortest, positive := uint32(maxPositive/time.Second), false
	for _, rr := range m.Answer {
		shortest = min(shortest, rr.Header().Ttl)
		positive = positive || rr.Header().Rrtype == m.Question[0].Qtype || m.Question[0].Qtype == mdns.TypeANY
	}
	if positive && m.Rcode == mdns.RcodeSuccess {
		return time.Duration(shortest) * time.Second
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*mdns.SOA); ok {
			ttl := min(shortest, soa.Hdr.Ttl, soa.Minttl, uint32(maxNegative/time.Second))
			return time.Duration(ttl) * time.Second
		}
	}
	return 0
}
