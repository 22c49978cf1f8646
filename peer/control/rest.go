package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A goroutine that waits for a message takes 8 KB, the stack of all the calls between
// it and the system, and a connection says something twice a minute. So connections
// that are quiet rest: one goroutine waits for all of them (epoll(7)), and starts one
// that reads where something came.
//
//	         nothing left to read
//	reading ──────────────────────► resting
//	   ▲    readable, closing, silent  │
//	   └───────────────────────────────┘

const (
	// lingerData is how long who read a message of a data session stays for the next.
	lingerData = time.Second
	// readyAtOnce connections are taken from the kernel by one call.
	readyAtOnce = 32
)

// resting is the connections that one goroutine waits for.
type resting struct {
	epoll *os.File
	fd    syscall.RawConn // of epoll
}

func newResting() (resting, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return resting{}, fmt.Errorf("control: wait for connections: %w", os.NewSyscallError("epoll_create1", err))
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for the runtime's poller to wait for it
		_ = unix.Close(fd)
		return resting{}, fmt.Errorf("control: wait for connections: %w", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return resting{}, fmt.Errorf("control: wait for connections: %w", err)
	}
	return resting{epoll: f, fd: raw}, nil
}

// watch wakes connections on which something came until ctx ends; it has those that
// said nothing for a while send a heartbeat, and ends those on which nothing came for
// too long. The times are right to an eighth.
func (t *Transport) watch(ctx context.Context) {
	defer t.noRest()
	stop := context.AfterFunc(ctx, func() { _ = t.shared.resting.epoll.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	every := min(t.limits.Idle, t.limits.Heartbeat) / 8
	look := time.Now().Add(every)
	for ctx.Err() == nil {
		_ = t.shared.resting.epoll.SetReadDeadline(look)
		if ctx.Err() != nil { // the deadline that ends us must be the last
			return
		}
		if err := t.shared.resting.wait(t.rouse); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.cfg.Log.Error("cannot wait for all control connections together", "err", err)
			t.noRest()
			for sleep(ctx, every) {
				t.lookAround(time.Now(), every)
			}
			return
		}
		if now := time.Now(); !now.Before(look) {
			t.lookAround(now, every)
			look = now.Add(every)
		}
	}
}

// noRest has each connection read by a goroutine of its own from now on.
func (t *Transport) noRest() {
	_ = t.shared.resting.epoll.Close()
	for _, c := range t.all() {
		t.rouse(c.id)
	}
}

// wait waits for connections that can be read, and names them.
func (r *resting) wait(ready func(id uint64)) error {
	var failed error
	err := r.fd.Read(func(fd uintptr) bool {
		var events [readyAtOnce]unix.EpollEvent
		n, err := unix.EpollWait(int(fd), events[:], 0)
		if errors.Is(err, unix.EINTR) {
			return true
		}
		failed = os.NewSyscallError("epoll_wait", err)
		for _, e := range events[:max(n, 0)] {
			ready(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
		return n != 0
	})
	if err == nil {
		err = failed
	}
	return err
}

// arm has wait name a connection once, as soon as it can be read.
func (r *resting) arm(c *Conn) error {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(c.id), Pad: int32(c.id >> 32)}
		op := unix.EPOLL_CTL_MOD
		if !c.armed {
			op, c.armed = unix.EPOLL_CTL_ADD, true
		}
		failed = r.control(op, int(fd), &e)
	})
	if err == nil {
		err = failed
	}
	return err
}

func (r *resting) control(op, of int, e *unix.EpollEvent) error {
	var failed error
	err := r.fd.Control(func(fd uintptr) { failed = unix.EpollCtl(int(fd), op, of, e) })
	if err == nil {
		err = os.NewSyscallError("epoll_ctl", failed)
	}
	return err
}

// rouse has a resting connection read.
func (t *Transport) rouse(id uint64) {
	if c := t.conn(id); c != nil {
		c.mu.Lock()
		c.wake()
		c.mu.Unlock()
	}
}

// lookAround sees to the times of all connections.
func (t *Transport) lookAround(now time.Time, every time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.state.conns {
		c.remind(now, t.limits.Heartbeat-every)
		c.mu.Lock()
		if c.rests && now.Sub(c.quiet) >= t.limits.Idle {
			c.rests = false
			t.spawn(func() { c.end(errSilent) })
		}
		c.mu.Unlock()
	}
}

// rest leaves the waiting to watch; false if the connection must go on reading.
func (c *Conn) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended {
		return false
	}
	c.rests, c.quiet = true, time.Now()
	if c.tr.shared.resting.arm(c) != nil { // closed, or watch has ended
		c.rests = false
	}
	return c.rests
}

// wake has a connection that rests read again; the caller holds mu.
func (c *Conn) wake() {
	if c.rests {
		c.rests = false
		c.tr.spawn(c.sit)
	}
}
