package server

import (
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// Bounds of the cache.
const (
	maxCached   = 10_000 // answers
	maxPositive = time.Hour
	maxNegative = 5 * time.Minute // RFC 2308, 5 allows up to three hours
)

// question is what answers are kept under.
type question struct {
	name          string
	qtype, qclass uint16
	do, cd        bool
}

func questionOf(m *mdns.Msg) question {
	q := m.Question[0]
	k := question{name: strings.ToLower(q.Name), qtype: q.Qtype, qclass: q.Qclass, cd: m.CheckingDisabled}
	if o := m.IsEdns0(); o != nil {
		k.do = o.Do()
	}
	return k
}

// cache keeps answers of other servers for as long as they allow.
type cache struct {
	mu   sync.Mutex
	kept map[question]kept
}

type kept struct {
	msg  *mdns.Msg // never changed
	at   time.Time
	ends time.Time
}

func newCache() *cache { return &cache{kept: map[question]kept{}} }

// get is a copy of what is kept, with the time that passed taken off.
func (c *cache) get(k question, now time.Time) *mdns.Msg {
	c.mu.Lock()
	e, ok := c.kept[k]
	if ok && !now.Before(e.ends) {
		delete(c.kept, k)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	m := e.msg.Copy()
	age := uint32(now.Sub(e.at) / time.Second)
	for _, section := range [][]mdns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != mdns.TypeOPT {
				h.Ttl -= min(age, h.Ttl)
			}
		}
	}
	return m
}

func (c *cache) put(k question, m *mdns.Msg, now time.Time) {
	d := lifetime(m)
	if d <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.kept[k]; !there && len(c.kept) >= maxCached {
		for old := range c.kept { // any: the order of a map is random
			delete(c.kept, old)
			break
		}
	}
	c.kept[k] = kept{msg: m.Copy(), at: now, ends: now.Add(d)}
}

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
