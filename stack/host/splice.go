package host

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// spliceBuffer is what one direction of a spliced connection holds, in bytes: about a super-frame.
const spliceBuffer = 64 << 10

// stream is a connection whose ends close one by one: *Conn, *net.TCPConn.
type stream interface {
	net.Conn
	CloseWrite() error
}

// splice carries bytes between two connections until both directions have ended, and closes both. One direction that ends
// ends on the other side too, and only that; a failure, or ctx, resets both.
func splice(ctx context.Context, a, b stream) {
	stop := context.AfterFunc(ctx, func() { abort(a); abort(b) })
	var wg sync.WaitGroup
	wg.Go(func() { spliceHalf(a, b) })
	spliceHalf(b, a)
	wg.Wait()
	stop()
	a.Close()
	b.Close()
}

func spliceHalf(to, from stream) {
	// The wrappers hide methods by which io.Copy would go other ways.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, spliceBuffer))
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		abort(to)
		abort(from)
	}
}

// abort resets a connection where that is known, so that the other end does not take what it has for all there was.
func abort(c net.Conn) {
	switch c := c.(type) {
	case *Conn:
		c.Abort()
	case *buffered:
		abort(c.stream)
	case *net.TCPConn:
		_ = c.SetLinger(0)
		_ = c.Close()
	default:
		_ = c.Close()
	}
}

// maxDatagram is the size of buffers for datagrams.
const maxDatagram = 65535

// exchangeDatagrams carries datagrams between two connections until neither has carried one for the idle time, one fails, or ctx
// ends, and closes both.
func exchangeDatagrams(ctx context.Context, a, b net.Conn, idle time.Duration) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	var wg sync.WaitGroup
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	half := func(to, from net.Conn) {
		receiveUntilIdle(from, idle, &last, func(b []byte) { _, _ = to.Write(b) })
		a.Close()
		b.Close()
	}
	wg.Go(func() { half(a, b) })
	half(b, a)
	wg.Wait()
	stop()
}

// receiveUntilIdle hands datagrams to f until last, which they and others move, is the idle time ago, or c fails.
func receiveUntilIdle(c net.Conn, idle time.Duration, last *atomic.Int64, f func([]byte)) {
	buf := make([]byte, maxDatagram)
	for {
		_ = c.SetReadDeadline(time.Unix(0, last.Load()).Add(idle))
		n, err := c.Read(buf)
		switch {
		case err == nil:
			last.Store(time.Now().UnixNano())
			f(buf[:n])
		case !timedOut(err) || time.Since(time.Unix(0, last.Load())) >= idle:
			return
		}
	}
}

// timedOut reports whether an error is that of a deadline, of sockets' or netstack's.
func timedOut(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
