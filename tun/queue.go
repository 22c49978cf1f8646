package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxParts is how many slices one writev takes: UIO_MAXIOV of the kernel.
const maxParts = 1024

// Queue is one descriptor of a TAP: an independent stream of packets in both directions. See the package comment for who
// may call what.
//
// The descriptor is kept out of the poller of Go's runtime, which would wake a thread at every packet only to find that
// nobody waits there: callers wait with poll(2) themselves.
type Queue struct {
	file  *os.File
	raw   syscall.RawConn
	plain bool // frames come and go without a header: the Water backend
	count counters

	// Holding the descriptor takes functions. They are made once, and their arguments lie here, so that no call allocates.
	try struct {
		fn  func(fd uintptr)
		buf []byte
		n   int
		err error
	}
	mu    sync.Mutex // guards write
	write struct {
		fn    func(fd uintptr)
		iov   []unix.Iovec
		n     int
		errno syscall.Errno
		seg   *segmenter // plain only
	}
}

func newQueue(f *os.File, plain bool) (*Queue, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	q := &Queue{file: f, raw: raw, plain: plain}
	q.try.fn = q.tryRead
	q.write.fn = q.writev
	q.write.iov = make([]unix.Iovec, 0, 80)
	if plain {
		q.write.seg = newSegmenter()
	}
	return q, nil
}

// lead is how many bytes of a packet the descriptor does not carry.
func (q *Queue) lead() int {
	if q.plain {
		return HeaderLen
	}
	return 0
}

// Control runs f on the descriptor, which stays open meanwhile. It is for poll(2). After Close it returns os.ErrClosed.
func (q *Queue) Control(f func(fd uintptr)) error {
	if q.raw.Control(f) != nil {
		return os.ErrClosed
	}
	return nil
}

// TryRead takes a packet if there is one, writes header and frame to buf and returns their length; 0 and no error mean
// that nothing is there. What does not fit in buf is lost: give it MaxPacket bytes. After Close it returns an error that is
// os.ErrClosed; when the interface or its namespace has gone away it returns another one. Every error is final.
func (q *Queue) TryRead(buf []byte) (int, error) {
	lead := q.lead()
	if len(buf) <= lead {
		return 0, fmt.Errorf("read tap: buffer of %d bytes is too small", len(buf))
	}
	q.try.buf = buf[lead:]
	if err := q.Control(q.try.fn); err != nil {
		return 0, fmt.Errorf("read tap: %w", err)
	}
	q.try.buf = nil
	if q.try.err != nil {
		if errors.Is(q.try.err, unix.EAGAIN) {
			return 0, nil
		}
		return 0, fmt.Errorf("read tap: %w", q.try.err)
	}
	return q.received(buf, q.try.n), nil
}

// tryRead does not wait, and neither does writev, so that Go's scheduler need not know of these system calls: see mmsg in peer/link.
func (q *Queue) tryRead(fd uintptr) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&q.try.buf[0])), uintptr(len(q.try.buf)))
		q.try.n, q.try.err = int(n), nil
		if errno != 0 {
			q.try.err = errno
		}
		if errno != unix.EINTR {
			return
		}
	}
}

// received counts a packet of which n bytes were read and completes its header.
func (q *Queue) received(buf []byte, n int) int {
	if q.plain {
		clear(buf[:HeaderLen])
		n += HeaderLen
	}
	q.count.readPackets.Add(1)
	q.count.readBytes.Add(uint64(n - HeaderLen))
	return n
}

// WriteV sends the concatenation of parts as one packet. The first part holds at least the header. The parts are not kept
// and not changed. A packet that the kernel does not take is a counted drop (Stats), not an error; an error (os.ErrClosed
// after Close, another when the interface has gone) is final.
func (q *Queue) WriteV(parts [][]byte) error {
	if len(parts) == 0 || len(parts[0]) < HeaderLen || len(parts) > maxParts {
		q.count.droppedRefused.Add(1)
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.plain {
		return q.send(parts)
	}
	if header(parts[0]).plain() {
		return q.sendFrame(parts)
	}
	if !q.write.seg.load(parts) {
		q.count.droppedRefused.Add(1)
		return nil
	}
	for frame := q.write.seg.next(); frame != nil; frame = q.write.seg.next() {
		if err := q.send(frame); err != nil {
			return err
		}
	}
	return nil
}

// sendFrame sends a packet without its header.
func (q *Queue) sendFrame(parts [][]byte) error {
	first := parts[0]
	parts[0] = first[HeaderLen:]
	err := q.send(parts)
	parts[0] = first
	return err
}

// send is one writev. q.mu is held.
func (q *Queue) send(parts [][]byte) error {
	iov := q.write.iov[:0]
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		v := unix.Iovec{Base: &p[0]}
		v.SetLen(len(p))
		iov = append(iov, v)
	}
	if len(iov) == 0 {
		q.count.droppedRefused.Add(1)
		return nil
	}
	q.write.iov = iov
	err := q.Control(q.write.fn)
	clear(iov) // do not hold the caller's memory
	if err != nil {
		return fmt.Errorf("write tap: %w", err)
	}
	return q.sent(q.write.n, q.write.errno)
}

func (q *Queue) writev(fd uintptr) {
	iov := q.write.iov
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
		if errno != unix.EINTR {
			q.write.n, q.write.errno = int(n), errno
			return // never wait for room: a full queue drops
		}
	}
}

// sent sorts the outcome of a write into counts and the errors that are final.
func (q *Queue) sent(n int, errno syscall.Errno) error {
	switch errno {
	case 0:
		if !q.plain {
			n -= HeaderLen
		}
		q.count.writtenPackets.Add(1)
		q.count.writtenBytes.Add(uint64(n))
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		q.count.droppedFull.Add(1)
	case unix.EIO, unix.ENETDOWN:
		q.count.droppedDown.Add(1)
	case unix.EBADF, unix.EBADFD, unix.ENODEV:
		return fmt.Errorf("write tap: interface is gone: %w", errno)
	default:
		q.count.droppedRefused.Add(1)
	}
	return nil
}

// Stats returns the queue's counts.
func (q *Queue) Stats() Stats {
	c := &q.count
	return Stats{
		ReadPackets: c.readPackets.Load(), ReadBytes: c.readBytes.Load(),
		WrittenPackets: c.writtenPackets.Load(), WrittenBytes: c.writtenBytes.Load(),
		DroppedFull: c.droppedFull.Load(), DroppedDown: c.droppedDown.Load(), DroppedRefused: c.droppedRefused.Load(),
	}
}
