package host

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Bounds of what waits to be read from the port. A full queue drops, as a TAP's does, and TCP slows down.
const (
	queuePackets = 1024
	queueBytes   = 16 << 20
)

// queue holds what the stacks send until the port's reader takes it. Its descriptor is readable while there is something; it is
// written and read only when the queue stops or starts being empty for the reader, not for every packet.
type queue struct {
	event *os.File // an eventfd, see eventfd(2)
	raw   syscall.RawConn

	mu     sync.Mutex // guards what follows
	ring   [queuePackets]*stack.PacketBuffer
	head   int
	count  int
	bytes  int
	told   bool // event is readable
	closed bool
}

func newQueue() (*queue, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	q := &queue{event: os.NewFile(uintptr(fd), "eventfd")}
	if q.raw, err = q.event.SyscallConn(); err != nil {
		q.event.Close()
		return nil, err
	}
	return q, nil
}

// push takes a reference to pkt if there is room, and reports whether.
func (q *queue) push(pkt *stack.PacketBuffer) bool {
	size := pkt.Size()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.count == queuePackets || q.bytes+size > queueBytes {
		return false
	}
	q.ring[(q.head+q.count)%queuePackets] = pkt.IncRef()
	q.count++
	q.bytes += size
	if !q.told {
		q.told = true
		q.tell()
	}
	return true
}

// pop takes the next packet, whose reference is the caller's; nil and true mean that there is none, false that the queue is
// closed.
func (q *queue) pop() (*stack.PacketBuffer, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, false
	}
	if q.count == 0 {
		if q.told {
			q.told = false
			var b [8]byte
			_, _ = q.event.Read(b[:])
		}
		return nil, true
	}
	pkt := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) % queuePackets
	q.count--
	q.bytes -= pkt.Size()
	return pkt, true
}

// close drops what is left and wakes who polls. The descriptor stays readable, and open until release.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	for ; q.count > 0; q.count-- {
		q.ring[q.head].DecRef()
		q.ring[q.head] = nil
		q.head = (q.head + 1) % queuePackets
	}
	if !q.told {
		q.tell()
	}
}

// tell makes the descriptor readable. q.mu is held.
func (q *queue) tell() { _, _ = q.event.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// control lends the descriptor, for poll(2).
func (q *queue) control(f func(fd uintptr)) error {
	if q.raw.Control(f) != nil {
		return os.ErrClosed
	}
	return nil
}
