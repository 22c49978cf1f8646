package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// stagger is how long one upstream server is given before the next is asked as
// well.
const stagger = 300 * time.Millisecond

// resends are when a query that is not answered goes out again over UDP: it, or
// its answer, may have got lost.
var resends = [...]time.Duration{time.Second, 3 * time.Second}

var errNoUpstream = errors.New("no other name server is known")

// forward answers a query from upstream servers, with limit bytes at most. It
// returns nil for what cannot be read.
func (s *Server) forward(ctx context.Context, msg []byte, limit int) []byte {
	var q query
	if f, _ := q.parse(msg); f != fateAnswer {
		return nil // the caller has parsed it, and did not ask us
	}
	if a := s.inquire(ctx, &q); a != nil {
		return a.reply(&q, nil, time.Now(), limit)
	}
	return q.fail(nil, rcodeServFail)
}

// inquire gets the answer to a question, together with others who ask the same
// meanwhile; nil if nobody has a good one.
func (s *Server) inquire(ctx context.Context, q *query) (a *foreign) {
	k := q.key()
	fl, lead := s.flights.join(k)
	switch {
	case fl == nil:
		s.counters.dropped.Add(1)
		return nil
	case !lead:
		s.counters.joined.Add(1)
		return fl.wait(ctx)
	}
	defer func() { s.flights.land(k, fl, a) }()
	if a = s.cache.get(k, time.Now()); a != nil { // of a flight that has just landed
		return a
	}
	a, err := s.cfg.Upstreams.answer(ctx, q)
	if err != nil {
		s.cfg.Log.Debug("no answer from other name servers", "name", string(q.name), "err", err)
		return nil
	}
	s.cache.put(k, a)
	return a
}

func (u *Upstreams) answer(ctx context.Context, q *query) (*foreign, error) {
	ask, err := q.message()
	if err != nil {
		return nil, err
	}
	m, err := u.ask(ctx, ask)
	if err != nil {
		return nil, err
	}
	return newForeign(m, ask.Question, time.Now())
}

// ask asks the upstream servers: the first at once, each further one when those
// before have not answered for a while or have failed. The first good answer
// counts: that there is something, or that there is nothing. A server that
// cannot or does not want to answer says nothing about the name. An answer of
// which only a part came is better than none.
func (u *Upstreams) ask(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
	servers := u.Servers()
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	var asking sync.WaitGroup
	defer asking.Wait() // after cancel, which ends them
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		msg *mdns.Msg
		err error
	}
	results := make(chan result, len(servers)) // room for all: nobody waits for who is late
	started := 0
	next := func() {
		if started < len(servers) {
			at := servers[started]
			started++
			asking.Go(func() {
				m, err := u.try(ctx, q, at)
				results <- result{m, err}
			})
		}
	}
	next()
	tick := time.NewTicker(stagger)
	defer tick.Stop()
	var part *mdns.Msg
	var errs error
	for failed := 0; failed < len(servers); {
		select {
		case <-tick.C:
			next()
		case r := <-results:
			if r.err == nil && !r.msg.Truncated {
				return r.msg, nil
			}
			if r.err == nil {
				part = r.msg
			}
			failed++
			errs = errors.Join(errs, r.err)
			next()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if part != nil {
		return part, nil
	}
	return nil, errs
}

// try asks one server and returns its answer if it is a good one.
func (u *Upstreams) try(ctx context.Context, q *mdns.Msg, at netip.AddrPort) (*mdns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, u.timeout())
	defer cancel()
	m, err := exchange(ctx, q, at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError {
		return nil, fmt.Errorf("%s: answers %s", at, mdns.RcodeToString[m.Rcode])
	}
	return m, nil
}

// exchange asks one server over UDP, and over TCP for what did not fit.
func exchange(ctx context.Context, q *mdns.Msg, at netip.AddrPort) (*mdns.Msg, error) {
	ask := q.Copy() // packing writes to records
	ask.Id = mdns.Id()
	m, err := attempt(ctx, "udp", ask, at)
	if err == nil && (m.Rcode == mdns.RcodeFormatError || m.Rcode == mdns.RcodeNotImplemented) {
		ask.Extra = nil // perhaps it does not know EDNS (RFC 6891, 7)
		m, err = attempt(ctx, "udp", ask, at)
	}
	if err == nil && m.Truncated {
		if whole, err := attempt(ctx, "tcp", ask, at); err == nil {
			return whole, nil
		}
	}
	return m, err
}

// attempt sends a query from a port of its own and takes the answer that fits
// it; others may be forged, and are ignored.
func attempt(ctx context.Context, network string, ask *mdns.Msg, at netip.AddrPort) (*mdns.Msg, error) {
	packed, err := ask.Pack()
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, network, at.String())
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &mdns.Conn{Conn: raw, UDPSize: capUDP}
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	if network == "udp" {
		for _, after := range resends {
			again := time.AfterFunc(after, func() { _, _ = raw.Write(packed) })
			defer again.Stop()
		}
	}
	for {
		m, err := c.ReadMsg()
		if err != nil && (m == nil || network == "tcp" || ctx.Err() != nil) {
			return nil, err
		}
		if err == nil && m.Id == ask.Id && m.Response && len(m.Question) == 1 && m.Question[0].Qtype == ask.Question[0].Qtype &&
			strings.EqualFold(m.Question[0].Name, ask.Question[0].Name) {
			return m, nil
		}
	}
}
