package link

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slotLen is the room of one received run, in bytes: no run is longer than an
// IP packet.
const slotLen = 1 << 16

// A Receiver reads batches of runs. It owns its buffers and belongs to one
// goroutine.
type Receiver struct {
	sock  *Socket
	data  []byte // slots × slotLen
	slots slots
	runs  []run
	used  int // slots the last call filled
	zones zones
	read  func(fd uintptr) bool // made once, so that Receive does not allocate
	errno unix.Errno
}

// run is one received run: the first len bytes of slot.
type run struct {
	from               netip.AddrPort
	slot, len, segment int
}

// NewReceiver makes a Receiver of slots buffers of 64 KiB each; slots < 1 is
// taken as 1.
func (s *Socket) NewReceiver(slots int) *Receiver {
	n := max(slots, 1)
	r := &Receiver{sock: s, data: make([]byte, n*slotLen), slots: newSlots(n), runs: make([]run, 0, n), used: n}
	for i := range n {
		r.slots.iovs[i].Base = &r.data[i*slotLen]
		r.slots.iovs[i].SetLen(slotLen)
		r.slots.hdrs[i].hdr.Control = (*byte)(unsafe.Pointer(&r.slots.controls[i]))
	}
	r.read = r.readFD
	return r
}

// Receive waits for at least one run and returns how many there are. What
// Message gave before is overwritten. After Close the error wraps
// net.ErrClosed.
func (r *Receiver) Receive() (int, error) {
	for {
		if err := r.sock.raw.Read(r.read); err != nil {
			return 0, fmt.Errorf("receive: %w", err)
		}
		if r.errno != 0 {
			// What an ICMP message left on the socket is gone once read.
			r.sock.count.receiveErrors.Add(1)
			if !soft(r.errno) {
				return 0, fmt.Errorf("receive: recvmmsg: %w", r.errno)
			}
			continue
		}
		r.collect()
		if len(r.runs) > 0 {
			return len(r.runs), nil
		}
	}
}

// Message gives run i of the last Receive. data points into the Receiver and
// may be changed in place until the next Receive; its capacity is its length.
// It holds datagrams of segment bytes each, the last may be shorter.
func (r *Receiver) Message(i int) (from netip.AddrPort, data []byte, segment int) {
	m := &r.runs[i]
	start := m.slot * slotLen
	return m.from, r.data[start : start+m.len : start+m.len], m.segment
}

// readFD makes one recvmmsg; false tells the poller to wait.
func (r *Receiver) readFD(fd uintptr) bool {
	for i := range r.used {
		h := &r.slots.hdrs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlLen)
		h.Flags = 0
	}
	r.used, r.errno = mmsg(unix.SYS_RECVMMSG, fd, r.slots.hdrs)
	if r.errno != 0 {
		r.used = 1 // the kernel may have touched the first header
	}
	return r.errno != unix.EAGAIN
}

// collect turns the filled slots into runs and counts them.
func (r *Receiver) collect() {
	r.runs = r.runs[:0]
	var datagrams, bytes, bad uint64
	for i := range r.used {
		h := &r.slots.hdrs[i]
		m := run{from: r.slots.names[i].addrPort(&r.zones), slot: i, len: int(h.len)}
		m.segment = m.len
		if r.sock.granted.GRO {
			if seg := r.slots.controls[i].segment(int(h.hdr.Controllen)); seg > 0 && seg < m.len {
				m.segment = seg
			}
		}
		if h.hdr.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || !m.from.IsValid() {
			bad++
			continue
		}
		r.runs = append(r.runs, m)
		bytes += uint64(m.len)
		datagrams++
		if m.segment > 0 && m.segment < m.len {
			datagrams += uint64((m.len - 1) / m.segment)
		}
	}
	c := &r.sock.count
	c.receiveCalls.Add(1)
	c.received.Add(datagrams)
	c.receivedBytes.Add(bytes)
	if bad > 0 {
		c.truncated.Add(bad)
	}
}

// soft says that an error is about some datagram or moment, not the socket.
func soft(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.ECONNRESET, unix.EHOSTUNREACH, unix.EHOSTDOWN, unix.ENETUNREACH,
		unix.ENETDOWN, unix.ENOPROTOOPT, unix.EPROTO, unix.EOPNOTSUPP, unix.EMSGSIZE,
		unix.EACCES, unix.EPERM, unix.ENOMEM, unix.ENOBUFS:
		return true
	}
	return false
}
