// Package tuntest provides a TAP made of channels, for tests of rooms that read and write packets without a kernel.
//
// A Pipe is two ends. A packet (virtio-net header and Ethernet frame, as in package tun) written to one end is read at the
// other. Unlike a real TAP it waits for room up to its depth and drops, counted, beyond. All methods of an End may be
// called concurrently; as with a real queue, packets read by several goroutines come in no order.
package tuntest

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// HeaderLen is tun.HeaderLen, repeated so that a pure room's test need not import an edge.
const HeaderLen = 10

// End is one end of a Pipe. It has the methods of tun.Queue, and Read.
type End struct {
	in, out chan []byte
	closed  chan struct{}
	once    *sync.Once
	dropped atomic.Uint64
	full    *os.File // an eventfd that counts the packets in in
	far     *os.File // that of the other end
}

// Pipe returns two joined ends, each holding up to depth packets that the other side wrote. Closing either closes both.
func Pipe(depth int) (a, b *End) {
	there, back := make(chan []byte, depth), make(chan []byte, depth)
	closed, once := make(chan struct{}), new(sync.Once)
	fullA, fullB := event(), event()
	a = &End{in: back, out: there, closed: closed, once: once, full: fullA, far: fullB}
	b = &End{in: there, out: back, closed: closed, once: once, full: fullB, far: fullA}
	return a, b
}

// event makes an eventfd (eventfd(2)) from which every read takes one.
func event() *os.File {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_SEMAPHORE)
	if err != nil {
		panic(err) // a process without room for a descriptor: no test goes on
	}
	return os.NewFile(uintptr(fd), "eventfd")
}

// Control lends a descriptor that is readable while there are packets, for poll(2).
func (e *End) Control(f func(fd uintptr)) error {
	raw, err := e.full.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(f)
}

// took says that a packet was taken.
func (e *End) took() { _, _ = e.full.Read(make([]byte, 8)) }

// Read waits for a packet and copies it to buf, cutting off what does not fit. After Close it returns os.ErrClosed.
func (e *End) Read(buf []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, os.ErrClosed
	default:
	}
	select {
	case p := <-e.in:
		e.took()
		return copy(buf, p), nil
	case <-e.closed:
		return 0, os.ErrClosed
	}
}

// TryRead is Read that does not wait: 0 and no error mean that nothing is there.
func (e *End) TryRead(buf []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, os.ErrClosed
	default:
	}
	select {
	case p := <-e.in:
		e.took()
		return copy(buf, p), nil
	default:
		return 0, nil
	}
}

// WriteV sends the concatenation of parts as one packet, or drops it when the other side's queue is full.
func (e *End) WriteV(parts [][]byte) error {
	var p []byte
	for _, part := range parts {
		p = append(p, part...)
	}
	select {
	case <-e.closed:
		return os.ErrClosed
	default:
	}
	select {
	case e.out <- p:
		_, _ = e.far.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	default:
		e.dropped.Add(1)
	}
	return nil
}

// WriteFrame sends frame behind a zero header: a plain frame, complete as it is.
func (e *End) WriteFrame(frame []byte) error {
	return e.WriteV([][]byte{make([]byte, HeaderLen), frame})
}

// Dropped is how many packets written here found the other side's queue full.
func (e *End) Dropped() uint64 { return e.dropped.Load() }

// Close closes both ends and unblocks their readers. Closing again returns os.ErrClosed.
func (e *End) Close() error {
	err := os.ErrClosed
	e.once.Do(func() {
		close(e.closed)
		err = nil
	})
	return err
}
