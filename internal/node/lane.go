package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Outputs are told apart in the numbers of their fragments: uplinks count from
// zero, and so do downlinks from here.
const (
	numberDownlinks = 128
	numberStreams   = 254
	numberSessions  = 255
)

// lane is one goroutine of the data plane. On a host of few processors one lane
// serves the TAP and the sockets: while any has work nobody sleeps and nobody is
// woken, which is most of what a frame costs there. Where there are processors
// to spare, each queue of the TAP and each pair of sockets has a lane of its own.
type lane struct {
	ups    []*uplink
	downs  []*downlink
	spin   spin
	waiter *waiter
}

// newLanes makes the lanes of a data plane for the TAP's queues; plain says that
// the TAP takes no offloads.
func newLanes(dp *dataplane, queues []tapQueue, plain bool) ([]*lane, error) {
	var lanes []*lane
	for i, q := range queues {
		up := newUplink(dp, q, dp.sockets[i%len(dp.sockets)], uint8(i))
		lanes = append(lanes, &lane{ups: []*uplink{up}})
	}
	for i, pair := range dp.sockets {
		l := lanes[0]
		if len(lanes) > 1 || len(dp.sockets) > 1 {
			l = &lane{}
			lanes = append(lanes, l)
		}
		out := newOutput(dp, pair, replyArena, uint8(numberDownlinks+i))
		for _, s := range pair {
			if s != nil {
				l.downs = append(l.downs, newDownlink(dp, s, queues, out, plain))
			}
		}
	}
	for _, l := range lanes {
		if err := l.watch(); err != nil {
			return nil, err
		}
	}
	return lanes, nil
}

// watch makes the lane's waiter.
func (l *lane) watch() error {
	var devices []pollable
	for _, u := range l.ups {
		devices = append(devices, u.queue)
	}
	for _, d := range l.downs {
		devices = append(devices, d.recv)
	}
	var err error
	l.waiter, err = newWaiter(devices...)
	return err
}

// run forwards until the lane's context ends or a device fails. Queue and
// sockets must stay open until it has returned.
func (l *lane) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.waiter.wake)
	defer stop()
	for ctx.Err() == nil {
		bytes, err := l.turn()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case bytes > 0:
			l.spin.worked(bytes)
		case l.spin.again(time.Now()):
		default:
			l.waiter.wait()
		}
	}
	return nil
}

// turn gives every device its turn and returns how many bytes were moved.
func (l *lane) turn() (bytes int, err error) {
	for _, d := range l.downs {
		n, err := d.turn()
		if err != nil {
			return 0, err
		}
		bytes += n
	}
	for _, u := range l.ups {
		n, err := u.turn()
		if err != nil {
			return 0, err
		}
		bytes += n
	}
	return bytes, nil
}

// pollable lends its descriptor to poll(2).
type pollable interface {
	Control(f func(fd uintptr)) error
}

// waiter waits until one of several descriptors is readable. They must stay
// open as long as it is used.
type waiter struct {
	event *os.File // an eventfd: wake
	fds   []unix.PollFd
}

func newWaiter(of ...pollable) (*waiter, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &waiter{event: os.NewFile(uintptr(fd), "eventfd")}
	w.add(fd)
	for _, p := range of {
		if err := p.Control(func(fd uintptr) { w.add(int(fd)) }); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *waiter) add(fd int) {
	w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
}

// wait returns when something is readable or has an error, after wake, and now
// and then for no reason.
func (w *waiter) wait() { _, _ = unix.Ppoll(w.fds, nil, nil) }

// wake ends every wait from now on.
func (w *waiter) wake() { _, _ = w.event.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) }
