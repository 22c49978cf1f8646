package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// serveStreams answers over TCP (RFC 7766).
func (s *Server) serveStreams(ctx context.Context, g *errgroup.Group, l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			s.cfg.Log.Debug("accepting a connection failed", "err", err)
			if !pause(ctx, readErrors) {
				return nil
			}
			continue
		}
		if s.streams.Add(1) > maxStreams {
			s.streams.Add(-1)
			s.counters.dropped.Add(1)
			_ = c.Close()
			continue
		}
		g.Go(func() error {
			defer s.streams.Add(-1)
			s.serveStream(ctx, c)
			return nil
		})
	}
}

// serveStream answers on one connection, also out of order, until it is idle.
func (s *Server) serveStream(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	var waiting sync.WaitGroup
	defer c.Close()
	defer waiting.Wait()
	from := addrOf(c.RemoteAddr())
	w := &worker{s: s, out: make([]byte, 0, 4096)}
	var mu sync.Mutex
	send := func(msg []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(streamIdle))
		_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
		return err == nil
	}
	for {
		msg, err := readFrame(c)
		if err != nil {
			return
		}
		if !s.limit.local(from) {
			s.counters.limited.Add(1)
			return
		}
		out, forward := w.respond(msg, maxMessage)
		if out == nil && !forward {
			return
		}
		if !forward {
			if !send(out) {
				return
			}
			continue
		}
		if !s.admit(from) {
			send(w.q.fail(w.out, rcodeRefused))
			continue
		}
		waiting.Go(func() {
			defer s.waiting.give(from)
			if reply := s.forward(ctx, msg, maxMessage); reply != nil {
				send(reply)
			}
		})
	}
}

func readFrame(c net.Conn) ([]byte, error) {
	_ = c.SetReadDeadline(time.Now().Add(streamIdle))
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, msg)
	return msg, err
}

func addrOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
