package server

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"weave/dns"
)

// Config says what a Server serves.
type Config struct {
	Index  *dns.Index
	Domain dns.Domain
	TTL    time.Duration // of our names, whole seconds
	// Upstreams are asked for what is not ours; nil: nobody is.
	Upstreams *Upstreams
	Log       *slog.Logger // nil: silent
}

// Limits.
const (
	maxStreams   = 512 // TCP connections
	streamIdle   = 10 * time.Second
	maxAddresses = 4096 // of one name in an answer; a message cannot hold more
	readErrors   = 100 * time.Millisecond
)

// Server answers queries.
type Server struct {
	cfg      Config
	ttl      uint32 // seconds
	cache    cache
	limit    limiter
	waiting  places
	flights  flights
	streams  atomic.Int64
	counters counters
}

type counters struct {
	queries, failed, dropped, limited, foreign, cached, joined, refused atomic.Uint64
}

// Stats counts queries since the start.
type Stats struct {
	Queries   uint64 // that could be read
	Malformed uint64 // answered with an error
	Dropped   uint64 // no queries, or nobody had time for them
	Limited   uint64 // of clients that ask too much
	Foreign   uint64 // of Queries, those for names that are not ours
	Cached    uint64 // of Foreign, answered from the cache
	Joined    uint64 // of Foreign, answered together with the same question of others
	Refused   uint64 // of Foreign; they count as limited or dropped, too
}

// New makes a Server; it does nothing until Run.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, ttl: uint32(cfg.TTL / time.Second)}
}

// Stats returns what was counted. Parts are read before what they are part of,
// so that they are never more.
func (s *Server) Stats() Stats {
	c := &s.counters
	st := Stats{Cached: c.cached.Load(), Joined: c.joined.Load(), Refused: c.refused.Load()}
	st.Foreign = c.foreign.Load()
	st.Queries = c.queries.Load()
	st.Malformed, st.Dropped, st.Limited = c.failed.Load(), c.dropped.Load(), c.limited.Load()
	return st
}

// Run serves the sockets until ctx ends, and closes them.
func (s *Server) Run(ctx context.Context, packets []net.PacketConn, streams []net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	closing := context.AfterFunc(ctx, func() {
		for _, c := range packets {
			_ = c.Close()
		}
		for _, l := range streams {
			_ = l.Close()
		}
	})
	defer closing()
	for _, c := range packets {
		g.Go(func() error { return s.servePackets(ctx, g, c) })
	}
	for _, l := range streams {
		g.Go(func() error { return s.serveStreams(ctx, g, l) })
	}
	g.Go(func() error { <-ctx.Done(); return nil })
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// worker is what one goroutine answers with.
type worker struct {
	s     *Server
	q     query
	out   []byte
	order [maxAddresses]uint16
}

// respond answers one message with limit bytes at most, or as many as the client
// takes over UDP with limit 0. A query for others that the cache has no answer to
// is the caller's to forward.
func (w *worker) respond(msg []byte, limit int) (out []byte, forward bool) {
	f, code := w.q.parse(msg)
	switch f {
	case fateDrop:
		w.s.counters.dropped.Add(1)
		return nil, false
	case fateFail:
		w.s.counters.failed.Add(1)
		w.out = w.q.fail(w.out, code)
		return w.out, false
	case fateAnswer:
	}
	w.s.counters.queries.Add(1)
	if limit == 0 {
		limit = w.q.size
	}
	if w.q.qclass != classINET {
		w.out = w.q.fail(w.out, rcodeRefused)
		return w.out, false
	}
	a := w.s.cfg.Index.Resolve(w.s.cfg.Domain, w.q.name, w.q.qtype)
	switch {
	case a.Verdict == dns.Forward:
		return w.cached(limit)
	case a.Verdict == dns.Unknown:
		w.out = w.q.fail(w.out, rcodeNXDomain)
	case a.Verdict == dns.Nothing:
		w.out = w.q.appendOPT(w.q.replyHead(w.out, 0), 0)
	case len(a.Addrs) > 0:
		w.out = w.q.addresses(w.out, a.Addrs, w.s.ttl, limit, w.shuffle(a.Addrs))
	default:
		w.out = w.s.rare(&w.q, w.out, a, limit)
	}
	return w.out, false
}

// cached answers from the cache, which takes none of the places of those who
// wait for others: what is known is told however slow the others are.
func (w *worker) cached(limit int) (out []byte, forward bool) {
	w.s.counters.foreign.Add(1)
	now := time.Now()
	f := w.s.cache.get(w.q.key(), now)
	if f == nil {
		return nil, true
	}
	w.s.counters.cached.Add(1)
	w.out = f.reply(&w.q, w.out, now, limit)
	return w.out, false
}

// shuffle puts the places of the addresses in a random order: clients mostly
// take the first. Of more than an answer can hold the first ones take part.
func (w *worker) shuffle(addrs []byte) []uint16 {
	n := len(addrs) / 4
	if w.q.qtype == dns.TypeAAAA {
		n = len(addrs) / 16
	}
	n = min(n, maxAddresses)
	for i := range n {
		j := rand.IntN(i + 1)
		w.order[i] = w.order[j]
		w.order[j] = uint16(i)
	}
	return w.order[:n]
}

// servePackets answers on one socket.
func (s *Server) servePackets(ctx context.Context, g *errgroup.Group, c net.PacketConn) error {
	w := &worker{s: s, out: make([]byte, 0, maxMessage)}
	p := newPort(c)
	buf := make([]byte, capUDP)
	for {
		n, from, err := p.read(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			s.cfg.Log.Debug("reading a query failed", "err", err) // an ICMP error of an earlier answer
			if !pause(ctx, readErrors) {
				return nil
			}
			continue
		}
		if !s.limit.local(from.ip()) {
			s.counters.limited.Add(1)
			continue
		}
		out, forward := w.respond(buf[:n], 0)
		if !forward {
			if out != nil {
				p.write(out, from)
			}
			continue
		}
		if !s.admit(from.ip()) {
			p.write(w.q.fail(w.out, rcodeRefused), from)
			continue
		}
		msg, size, back := append([]byte(nil), buf[:n]...), w.q.size, from.keep()
		g.Go(func() error {
			defer s.waiting.give(back.ip())
			if reply := s.forward(ctx, msg, size); reply != nil {
				p.write(reply, back)
			}
			return nil
		})
	}
}

// admit reserves a place among the queries that wait for others; the caller
// gives it back.
func (s *Server) admit(from netip.Addr) bool {
	if !s.limit.upstream(from) {
		s.counters.refused.Add(1)
		s.counters.limited.Add(1)
		return false
	}
	if !s.waiting.take(from) {
		s.counters.refused.Add(1)
		s.counters.dropped.Add(1)
		return false
	}
	return true
}

// pause waits; false if ctx ends meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
