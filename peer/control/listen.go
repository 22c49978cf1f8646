package control

import (
	"context"
	"errors"
	"net"
	"time"
)

// acceptFrom takes connections in, at a bounded rate, until l is closed.
func (t *Transport) acceptFrom(ctx context.Context, l *net.TCPListener) {
	for {
		tcp, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		wait := t.accept.take(time.Now())
		if err != nil { // out of descriptors, most likely: others may be closed meanwhile
			t.count.acceptErrors.Add(1)
			wait = max(wait, t.limits.Interval)
		}
		if !sleep(ctx, wait) {
			if err == nil {
				_ = tcp.Close()
			}
			return
		}
		if err == nil {
			t.count.accepted.Add(1)
			t.spawn(func() { t.incoming(ctx, tcp) })
		}
	}
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// incoming shakes hands with whoever dialled us, and serves the connection.
func (t *Transport) incoming(ctx context.Context, tcp *net.TCPConn) {
	if old := t.half.add(tcp); old != nil {
		t.count.evicted.Add(1)
		_ = old.Close()
	}
	remote := remoteOf(tcp)
	s, err := t.shake(ctx, tcp, *t.psks.Load(), false)
	t.half.remove(tcp)
	if err == nil {
		t.serve(tcp, "", s)
		return
	}
	t.cfg.Log.Debug("incoming connection refused", "remote", remote, "reason", err)
	if isPeer(err) {
		t.count.refused.Add(1)
		t.emit(Refused{Remote: remote, Err: err})
		t.closeGently(tcp)
		return
	}
	t.count.garbage.Add(1)
	_ = tcp.Close()
}

// isPeer says whether a failed handshake was with one of our kind.
func isPeer(err error) bool {
	var op *net.OpError // includes time-outs and resets
	var foreign *ForeignError
	return !errors.As(err, &foreign) && !errors.As(err, &op) && !errors.Is(err, net.ErrClosed)
}
