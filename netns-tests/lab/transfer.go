package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Transferred is the outcome of a bulk transfer.
type Transferred struct {
	Bytes int64
	Took  time.Duration
}

// Gbps is the rate in gigabits per second.
func (t Transferred) Gbps() float64 { return float64(t.Bytes) * 8 / t.Took.Seconds() / 1e9 }

// Transfer sends `size` random bytes over one TCP connection to a server it
// starts in `to` on addr, and checks by SHA-256 that they arrived whole.
func Transfer(from, to *NS, addr string, size int64, limit time.Duration) (Transferred, error) {
	ctx, cancel := context.WithTimeout(noContext(), limit)
	defer cancel()
	var l net.Listener
	err := to.Do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return Transferred{}, err
	}
	defer l.Close()
	type outcome struct {
		sum  [sha256.Size]byte
		size int64
		err  error
	}
	arrived := make(chan outcome, 1)
	go func() {
		var o outcome
		o.sum, o.size, o.err = drain(ctx, l)
		arrived <- o
	}()
	began := time.Now()
	sent, err := from.pour(ctx, addr, size)
	if err != nil {
		return Transferred{}, fmt.Errorf("transfer to %s: %w", addr, err)
	}
	got := <-arrived
	done := Transferred{Bytes: got.size, Took: time.Since(began)}
	switch {
	case got.err != nil:
		return done, fmt.Errorf("transfer to %s after %d bytes: %w", addr, got.size, got.err)
	case got.size != size || got.sum != sent:
		return done, fmt.Errorf("transfer to %s: %d of %d bytes arrived, same content: %v", addr, got.size, size, got.sum == sent)
	}
	return done, nil
}

// drain accepts one connection and reads it to its end.
func drain(ctx context.Context, l net.Listener) (sum [sha256.Size]byte, size int64, err error) {
	deadline, _ := ctx.Deadline()
	_ = l.(*net.TCPListener).SetDeadline(deadline)
	c, err := l.Accept()
	if err != nil {
		return sum, 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(deadline)
	hash := sha256.New()
	size, err = io.CopyBuffer(hash, struct{ io.Reader }{c}, make([]byte, 1<<20))
	return [sha256.Size]byte(hash.Sum(nil)), size, err
}

// pour connects to addr and writes size random bytes.
func (n *NS) pour(ctx context.Context, addr string, size int64) (sum [sha256.Size]byte, err error) {
	var c net.Conn
	err = n.Do(func() (err error) {
		d := net.Dialer{Control: cubic}
		c, err = d.DialContext(ctx, "tcp", addr)
		return err
	})
	if err != nil {
		return sum, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	hash := sha256.New()
	noise := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
	_, err = io.CopyBuffer(struct{ io.Writer }{c}, io.TeeReader(noise, hash), make([]byte, 1<<20))
	return [sha256.Size]byte(hash.Sum(nil)), err
}

// cubic asks for the congestion control most machines use, so that results
// compare; a kernel without it keeps its own.
func cubic(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
	})
}
