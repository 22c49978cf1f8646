package link

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is the kernel's struct mmsghdr (recvmmsg(2), sendmmsg(2)): a message
// header and the number of bytes moved. Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// slots are the arrays one call works on. Each header points at its iovec and
// its name, so the arrays never move.
type slots struct {
	hdrs     []mmsghdr
	iovs     []unix.Iovec
	names    []sockaddr
	controls []control
}

func newSlots(n int) slots {
	s := slots{
		hdrs: make([]mmsghdr, n), iovs: make([]unix.Iovec, n),
		names: make([]sockaddr, n), controls: make([]control, n),
	}
	for i := range s.hdrs {
		h := &s.hdrs[i].hdr
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	}
	return s
}

// Control messages carry the segment size beside a run (cmsg(3), udp(7)):
//
//	 0                8       12      16
//	+----------------+-------+-------+---------------+
//	| length         | level | type  | size          |   64-bit hosts
//	+----------------+-------+-------+---------------+
//
// level is SOL_UDP; type is UDP_SEGMENT with a 16-bit size when sending,
// UDP_GRO with a C int when receiving. Both are in the host's byte order.
const controlLen = 32 // ≥ CmsgSpace(4) on every platform

type control [controlLen / 8]uint64 // aligned as cmsghdr wants

// putSegment makes c announce segments of size bytes and returns its length.
func (c *control) putSegment(size uint16) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	b := (*[controlLen]byte)(unsafe.Pointer(c))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], size)
	return unix.CmsgSpace(2)
}

// segment finds the segment size the kernel announced in the first n bytes; 0
// if none.
func (c *control) segment(n int) int {
	b := (*[controlLen]byte)(unsafe.Pointer(c))
	return parseSegment(b[:min(n, controlLen)])
}

// parseSegment walks control messages in b.
func parseSegment(b []byte) int {
	head := unix.CmsgLen(0)
	for len(b) >= head {
		h := cmsgHeader(b)
		if h.len < head || h.len > len(b) {
			return 0
		}
		if h.level == unix.IPPROTO_UDP && h.kind == unix.UDP_GRO && h.len >= unix.CmsgLen(4) {
			return int(int32(binary.NativeEndian.Uint32(b[head:])))
		}
		b = b[min(unix.CmsgSpace(h.len-head), len(b)):]
	}
	return 0
}

type cmsg struct{ len, level, kind int }

// cmsgHeader reads a header without assuming alignment.
func cmsgHeader(b []byte) cmsg {
	var h unix.Cmsghdr
	copy((*[unsafe.Sizeof(h)]byte)(unsafe.Pointer(&h))[:], b)
	return cmsg{int(h.Len), int(h.Level), int(h.Type)}
}

// mmsg makes one system call on hdrs: trap is SYS_RECVMMSG or SYS_SENDMMSG. It
// never blocks and is not interrupted by signals. So Go's scheduler is not told of
// it: it would take the processor away from a goroutine that is in the kernel for
// some tens of microseconds, and its monitor would wake thousands of times a second.
func mmsg(trap, fd uintptr, hdrs []mmsghdr) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(hdrs))),
			uintptr(len(hdrs)), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}
