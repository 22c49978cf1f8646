package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

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
// serves the local ports and the sockets: while any has work nobody sleeps and
// nobody is woken, which is most of what a frame costs there. Where there are
// processors to spare, each queue of the TAP and each pair of sockets has a lane
// of its own.
type lane struct {
	dp     *dataplane
	up     *uplink // nil: the lane serves sockets only
	downs  []*downlink
	spin   spin
	waiter *waiter
	keeper *keeper // nil: there are other lanes

	index, of int // which queues it serves, see serve
	seen      *localPorts
	inlets    []inlet
	turns     uint // since it slept
}

// inlet is a queue of a local port that a lane reads.
type inlet struct {
	port  *localPort
	queue tapQueue
	quiet quiet
}

// newLanes makes the lanes of a data plane: as many as read queues, and more for
// the sockets if there is not just one of each. plain says that TAPs take no
// offloads.
func newLanes(dp *dataplane, readers int, plain bool) ([]*lane, error) {
	var lanes []*lane
	for i := range readers {
		up := newUplink(dp, dp.sockets[i%len(dp.sockets)], uint8(i))
		lanes = append(lanes, &lane{dp: dp, up: up, index: i, of: readers})
	}
	for i, pair := range dp.sockets {
		l := lanes[0]
		if len(lanes) > 1 || len(dp.sockets) > 1 {
			l = &lane{dp: dp}
			lanes = append(lanes, l)
		}
		out := newOutput(dp, pair, replyArena, uint8(numberDownlinks+i))
		for _, s := range pair {
			if s != nil {
				l.downs = append(l.downs, newDownlink(dp, s, out, plain))
			}
		}
	}
	if len(lanes) == 1 {
		lanes[0].keeper = newKeeper()
	}
	for _, l := range lanes {
		var err error
		if l.waiter, err = newWaiter(); err != nil {
			return nil, err
		}
		dp.attend(l.waiter)
		if err := l.serve(dp.locals.Load()); err != nil {
			return nil, err
		}
	}
	return lanes, nil
}

// makeRoom has Go run one goroutine more than there are lanes. What a lane does in the kernel is no system call to Go's
// scheduler, see peer/link, so that nobody else would have a turn for ten milliseconds while all lanes are busy.
func makeRoom(lanes int) {
	if runtime.GOMAXPROCS(0) <= lanes {
		runtime.GOMAXPROCS(lanes + 1)
	}
}

// serve makes the lane read its share of the local ports' queues.
func (l *lane) serve(ports *localPorts) error {
	l.seen, l.inlets = ports, l.inlets[:0]
	if l.up != nil {
		for _, p := range *ports {
			if p == nil {
				continue
			}
			for j, q := range p.queues {
				if (int(p.port-tapPort)+j)%l.of == l.index {
					l.inlets = append(l.inlets, inlet{port: p, queue: q})
				}
			}
		}
	}
	return l.watch()
}

// watch makes the waiter wait for what the lane serves. A queue that is closed
// already is about to be taken away.
func (l *lane) watch() error {
	l.waiter.clear()
	for _, in := range l.inlets {
		_ = l.waiter.add(in.queue)
	}
	for _, d := range l.downs {
		if err := l.waiter.add(d.recv); err != nil {
			return err
		}
	}
	return nil
}

// run forwards until the lane's context ends or a device fails. Queue and
// sockets must stay open until it has returned.
func (l *lane) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.waiter.wake)
	defer stop()
	if l.keeper != nil {
		defer l.keeper.leave()
	}
	for turns := 0; ctx.Err() == nil; turns++ {
		if turns%keepTurns == 0 {
			l.keep()
		}
		bytes, err := l.turn()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if bytes > 0 {
			l.spin.worked(bytes)
			continue
		}
		switch now := time.Now(); {
		case !l.spin.again(now):
			if !l.dozes() || !l.waiter.doze() {
				l.sleep()
			}
			l.turns = 0 // a quiet device may have woken it
		case l.spin.yields(now):
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // it cannot fail
			l.spin.yielded(now, time.Now())
		}
	}
	return nil
}

// keep has the lane stay on a processor or not, see keeper.
func (l *lane) keep() {
	if l.keeper == nil {
		return
	}
	if now := time.Now(); l.keeper.due(now) {
		l.keeper.look(now, l.carried())
	}
}

// carried is what the lane has moved.
func (l *lane) carried() (c carried) {
	if l.up != nil {
		c.sent = l.up.streamed
	}
	for _, d := range l.downs {
		c.received += d.streamed
	}
	return c
}

// dozes says whether the lane dozes before it sleeps. Where a TCP/IP stack of this
// process may be who sends the next frame, it does so in streams only: else
// published ports were slower in some runs, why was not found.
func (l *lane) dozes() bool { return l.spin.loaded || !l.dp.ownStack }

// sleep waits until there is something to do. A stream that pauses for longer
// than keepEvery has ended.
func (l *lane) sleep() {
	if l.keeper == nil || !l.keeper.kept {
		l.waiter.wait(0)
	} else if !l.waiter.wait(keepEvery) {
		l.keeper.leave()
	}
}

// turn gives every device its turn, but for quiet ones in most turns, and returns
// how many bytes were moved.
func (l *lane) turn() (bytes int, err error) {
	if ports := l.dp.locals.Load(); ports != l.seen {
		if err := l.serve(ports); err != nil {
			return 0, err
		}
	}
	all := l.turns%quietEvery == 0
	l.turns++
	for _, d := range l.downs {
		if d.quiet.is() && !all {
			continue
		}
		n, err := d.turn()
		if err != nil {
			return 0, err
		}
		d.quiet.found(n)
		bytes += n
	}
	n, err := l.takeIn(all)
	return bytes + n, err
}

// takeIn is turn's part of the local ports.
func (l *lane) takeIn(all bool) (bytes int, err error) {
	emptied := true
	for i := 0; i < len(l.inlets); i++ {
		in := &l.inlets[i]
		if in.quiet.is() && !all {
			emptied = false // not known
			continue
		}
		n, err := l.up.turn(in)
		if err == nil {
			in.quiet.found(n)
			bytes, emptied = bytes+n, emptied && n < burstBytes
			continue
		}
		if in.port.vital {
			return 0, err
		}
		offer(l.dp.gone, in.port.port)
		l.inlets = slices.Delete(l.inlets, i, i+1)
		i--
		if err := l.watch(); err != nil {
			return 0, err
		}
	}
	if emptied {
		l.waiter.emptied.Add(1)
	}
	return bytes, nil
}

// pollable lends its descriptor to poll(2).
type pollable interface {
	Control(f func(fd uintptr)) error
}

// waiter waits until one of several descriptors is readable. It belongs to one
// goroutine, but for wake.
type waiter struct {
	event *os.File // an eventfd: wake
	fds   []unix.PollFd

	emptied atomic.Uint64 // turns of its lane after which no local port had more
}

func newWaiter() (*waiter, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &waiter{event: os.NewFile(uintptr(fd), "eventfd"), fds: []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}, nil
}

// clear forgets what was added.
func (w *waiter) clear() { w.fds = w.fds[:1] }

// add has the waiter wait for p too, which must stay open, or be taken away by a
// clear soon after it was closed.
func (w *waiter) add(p pollable) error {
	return p.Control(func(fd uintptr) { w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}) })
}

// wait returns when something is readable or has an error, after wake, and now
// and then for no reason; or after a limit, unless that is 0, and then false.
func (w *waiter) wait(limit time.Duration) bool {
	var end *unix.Timespec
	if limit > 0 {
		ts := unix.NsecToTimespec(int64(limit))
		end = &ts
	}
	n, err := unix.Ppoll(w.fds, end, nil)
	w.woken(n)
	return n > 0 || err != nil
}

// doze is wait for dozeLimit, after which it returns false. In a stream, and while
// small frames go back and forth, a lane sleeps for less than a tenth of a
// millisecond, thousands of times a second. Were Go's scheduler told of it, it would
// give the lane's place away and take it back each time, and its monitor thread would
// wake as often, on the processor that somebody of the exchange waits for. So it is
// not told. A signal, as when memory is to be collected, ends a doze like any poll(2).
func (w *waiter) doze() bool {
	limit := unix.NsecToTimespec(int64(dozeLimit))
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fds[0])), uintptr(len(w.fds)),
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		return errno == unix.EINTR
	}
	w.woken(int(n))
	return n > 0
}

// woken takes back what wake did, if that is among the n that are readable.
func (w *waiter) woken(n int) {
	if n > 0 && w.fds[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(int(w.fds[0].Fd), count[:])
	}
}

// wake ends the wait that is on, or the next.
func (w *waiter) wake() { _, _ = w.event.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) }
