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
	read  func(fd uintptr) // made once, so that TryReceive does not allocate
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

// TryReceive takes what is there and returns how many runs that is; 0 and no
// error mean none. What Message gave before is overwritten. After Close the
// error wraps net.ErrClosed.
func (r *Receiver) TryReceive() (int, error) {
	for {
		if err := r.sock.Control(r.read); err != nil {
			return 0, fmt.Errorf("receive: %w", err)
		}
		switch {
		case r.errno == unix.EAGAIN:
			return 0, nil
		case soft(r.errno): // what an ICMP message left on the socket is gone once read
			r.sock.count.receiveErrors.Add(1)
			continue
		case r.errno != 0:
			r.sock.count.receiveErrors.Add(1)
			return 0, fmt.Errorf("receive: recvmmsg: %w", r.errno)
		}
		r.collect()
		if len(r.runs) > 0 {
			return len(r.runs), nil
		}
	}
}

// Control lends the socket's descriptor, see Socket.Control.
func (r *Receiver) Control(f func(fd uintptr)) error { return r.sock.Control(f) }

// Message gives run i of the last TryReceive. data points into the Receiver and
// may be changed in place until the next TryReceive; its capacity is its length.
// It holds datagrams of segment bytes each, the last may be shorter.
func (r *Receiver) Message(i int) (from netip.AddrPort, data []byte, segment int) {
	m := &r.runs[i]
	start := m.slot * slotLen
	return m.from, r.data[start : start+m.len : start+m.len], m.segment
}

// readFD makes one recvmmsg.
func (r *Receiver) readFD(fd uintptr) {
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
