package server

import (
	"context"
	"errors"
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

var errNoUpstream = errors.New("no other name server is known")

// forward answers a query from the cache or from upstream servers, with limit
// bytes at most. It returns nil for what cannot be read.
func (s *Server) forward(ctx context.Context, msg []byte, limit int) []byte {
	var q mdns.Msg
	if q.Unpack(msg) != nil || len(q.Question) != 1 {
		var raw query
		if f, _ := raw.parse(msg); f == fateDrop {
			return nil
		}
		return raw.fail(nil, rcodeFormErr)
	}
	s.counters.forwarded.Add(1)
	key := questionOf(&q)
	reply := s.cache.get(key, time.Now())
	if reply != nil {
		s.counters.cached.Add(1)
	} else {
		var err error
		if reply, err = s.cfg.Upstreams.ask(ctx, &q); err != nil {
			s.cfg.Log.Debug("no answer from other name servers", "name", q.Question[0].Name, "err", err)
			reply = new(mdns.Msg).SetRcode(&q, mdns.RcodeServerFailure)
			reply.RecursionAvailable = true
		} else {
			s.cache.put(key, reply, time.Now())
		}
	}
	return finish(reply, &q, limit)
}

// finish makes an answer the client's: its number, its spelling, and an OPT
// record if it has one.
func finish(reply, q *mdns.Msg, limit int) []byte {
	reply.Id, reply.Question = q.Id, q.Question
	reply.RecursionDesired, reply.RecursionAvailable, reply.Authoritative = q.RecursionDesired, true, false
	extra := reply.Extra[:0:0]
	for _, rr := range reply.Extra {
		if rr.Header().Rrtype != mdns.TypeOPT {
			extra = append(extra, rr)
		}
	}
	reply.Extra = extra
	if o := q.IsEdns0(); o != nil {
		reply.SetEdns0(ownUDP, o.Do())
	}
	reply.Compress = true
	return pack(reply, limit)
}

// ask asks the upstream servers: the first at once, each further one when those
// before have not answered for a while or have failed. The first good answer
// counts, or else the last bad one.
func (u *Upstreams) ask(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
	servers := u.Servers()
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	var asking sync.WaitGroup
	defer asking.Wait() // after cancel, which ends them
	ctx, cancel := context.WithTimeout(ctx, u.timeout())
	defer cancel()
	type result struct {
		msg *mdns.Msg
		err error
	}
	results := make(chan result, len(servers)) // room for all: nobody waits for who is late
	started, failed := 0, 0
	next := func() {
		if started < len(servers) {
			at := servers[started]
			started++
			asking.Go(func() {
				m, err := exchange(ctx, q, at)
				results <- result{m, err}
			})
		}
	}
	next()
	tick := time.NewTicker(stagger)
	defer tick.Stop()
	var bad *mdns.Msg
	var errs error
	for failed < len(servers) {
		select {
		case <-tick.C:
			next()
		case r := <-results:
			if r.err == nil && r.msg.Rcode != mdns.RcodeServerFailure && r.msg.Rcode != mdns.RcodeRefused && r.msg.Rcode != mdns.RcodeNotImplemented {
				return r.msg, nil
			}
			if r.err == nil {
				bad = r.msg
			}
			failed++
			errs = errors.Join(errs, r.err)
			next()
		case <-ctx.Done():
			failed = len(servers)
			errs = errors.Join(errs, ctx.Err())
		}
	}
	if bad != nil {
		return bad, nil
	}
	return nil, errs
}

// exchange asks one server over UDP, and over TCP for what did not fit.
func exchange(ctx context.Context, q *mdns.Msg, at netip.AddrPort) (*mdns.Msg, error) {
	ask := new(mdns.Msg)
	ask.Id = mdns.Id()
	ask.RecursionDesired, ask.CheckingDisabled, ask.AuthenticatedData = true, q.CheckingDisabled, q.AuthenticatedData
	ask.Question = q.Question
	do := false
	if o := q.IsEdns0(); o != nil {
		do = o.Do()
	}
	ask.SetEdns0(ownUDP, do)
	m, err := attempt(ctx, "udp", ask, at)
	if err == nil && m.Rcode == mdns.RcodeFormatError { // a server that does not know EDNS (RFC 6891, 7)
		ask.Extra = nil
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
	var d net.Dialer
	raw, err := d.DialContext(ctx, network, at.String())
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &mdns.Conn{Conn: raw, UDPSize: capUDP}
	if err := c.WriteMsg(ask); err != nil {
		return nil, err
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
