package host

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pending is how many datagrams of a client wait while its session connects.
const pending = 8

// sessions are the UDP clients of one Forward. Each has a connection of its own to the target, so that the target's answers find
// their client.
type sessions struct {
	f   *Forward
	ctx context.Context
	in  net.PacketConn
	wg  sync.WaitGroup

	mu sync.Mutex
	of map[netip.AddrPort]*session
}

// session is one client.
//
//	connecting ──► connected ──► gone: idle, failed, or displaced by a newer client
//	 first fills    conn is set
type session struct {
	client net.Addr
	last   atomic.Int64 // when a datagram went either way, in nanoseconds
	cancel context.CancelFunc
	first  chan []byte // until conn is there
	conn   atomic.Pointer[net.Conn]
}

// serveUDP carries datagrams between clients of pc and the target until ctx ends.
func (f *Forward) serveUDP(ctx context.Context, pc net.PacketConn) {
	s := &sessions{f: f, ctx: ctx, in: pc, of: map[netip.AddrPort]*session{}}
	stop := context.AfterFunc(ctx, func() { _ = pc.Close() })
	defer stop()
	defer pc.Close()
	defer s.wg.Wait()
	buf := make([]byte, maxDatagram)
	for ctx.Err() == nil {
		n, from, err := pc.ReadFrom(buf)
		if err != nil { // the socket's own end comes with ctx; others, such as a port unreachable, pass
			pause(ctx, 5*time.Millisecond)
			continue
		}
		s.forward(from, buf[:n])
	}
}

// forward sends a client's datagram to the target.
func (s *sessions) forward(from net.Addr, data []byte) {
	one := s.session(from)
	one.last.Store(time.Now().UnixNano())
	if c := one.conn.Load(); c != nil {
		_, _ = (*c).Write(data)
		return
	}
	select {
	case one.first <- slices.Clone(data):
	default: // as on a wire
	}
	if c := one.conn.Load(); c != nil {
		one.drain(*c) // it has connected meanwhile, and may have looked before
	}
}

// session finds a client's session, or makes it.
func (s *sessions) session(from net.Addr) *session {
	key := addrPort(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.of[key]; one != nil {
		return one
	}
	if len(s.of) >= s.f.h.limits.Sessions {
		s.evict()
	}
	ctx, cancel := context.WithCancel(s.ctx)
	one := &session{client: from, cancel: cancel, first: make(chan []byte, pending)}
	one.last.Store(time.Now().UnixNano())
	s.of[key] = one
	s.f.h.count.sessions.Add(1)
	s.wg.Go(func() {
		defer cancel()
		s.run(ctx, key, one)
	})
	return one
}

// forget makes the client's next datagram start a new session.
func (s *sessions) forget(key netip.AddrPort, one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[key] == one {
		delete(s.of, key)
	}
}

// evict ends the session that has been silent the longest. s.mu is held.
func (s *sessions) evict() {
	var oldest netip.AddrPort
	var at int64
	for key, one := range s.of {
		if last := one.last.Load(); !oldest.IsValid() || last < at {
			oldest, at = key, last
		}
	}
	s.of[oldest].cancel()
	delete(s.of, oldest)
	s.f.h.count.sessionsEvicted.Add(1)
}

// run connects a session and carries answers until it is idle.
func (s *sessions) run(ctx context.Context, key netip.AddrPort, one *session) {
	defer s.forget(key, one)
	c, err := s.f.connect(ctx)
	if err != nil {
		s.f.h.count.connsFailed.Add(1)
		return
	}
	defer c.Close()
	defer s.forget(key, one) // before the connection closes
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	one.drain(c)
	one.conn.Store(&c)
	one.drain(c) // what came in between
	receiveUntilIdle(c, s.f.h.limits.UDPIdle, &one.last, func(b []byte) { _, _ = s.in.WriteTo(b, one.client) })
}

func (o *session) drain(c net.Conn) {
	for {
		select {
		case b := <-o.first:
			_, _ = c.Write(b)
		default:
			return
		}
	}
}
