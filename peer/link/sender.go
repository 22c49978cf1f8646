package link

import (
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxSegments is the most datagrams one call may carry: UDP_MAX_SEGMENTS
	// of Linux before 6.9 (include/linux/udp.h); later kernels allow 128.
	maxSegments = 64
	// maxRun4 and maxRun6 are the most payload bytes of a run: an IP packet
	// less the IP and UDP headers.
	maxRun4 = 65535 - 20 - 8
	maxRun6 = 65535 - 40 - 8

	stallLimit  = 20 * time.Millisecond // longest wait for room in the send buffer
	gsoRetry    = time.Minute           // how long a destination goes without GSO once refused
	maxRefusers = 1024                  // remembered destinations that refuse GSO
	maxTooBig   = 64                    // reported per Flush
)

// A Sender collects runs and sends them in batches. It belongs to one
// goroutine.
type Sender struct {
	sock    *Socket
	slots   slots
	notes   []note
	n, head int // runs added, runs done
	result  Result
	refused map[netip.AddrPort]time.Time // destinations without GSO, until when
	plain   *Sender                      // sends what GSO was refused for
	gso     bool
	zones   zones
	try     func(fd uintptr) // made once, so that Flush does not allocate; so is room
	room    func(fd uintptr)
	errno   unix.Errno

	patience time.Duration // of the wait in progress
}

// note is what the kernel's arrays do not keep about a run.
type note struct {
	to      netip.AddrPort
	data    []byte
	segment int // bytes per datagram
	count   int // datagrams
}

// Result says what became of the datagrams added since the last Flush.
type Result struct {
	Sent       int        // datagrams handed to the kernel
	Errors     int        // datagrams given up: all that follow, and TooBig
	Stalled    int        // of these: the send buffer stayed full
	GSORefused int        // runs the kernel would not cut; they were sent one by one
	TooBig     []TooBig   // one per destination; valid until the next Add
	LastError  unix.Errno // of the datagrams given up; 0: none
}

// TooBig is a destination that did not take a datagram for its size.
type TooBig struct {
	To   netip.AddrPort
	Size int // UDP payload bytes of the datagram
	MTU  int // IP-level MTU in bytes as the kernel knows it; 0: unknown
}

// NewSender makes a Sender that hands up to slots runs to one system call;
// slots < 1 is taken as 1.
func (s *Socket) NewSender(slots int) *Sender { return s.newSender(max(slots, 1), s.granted.GSO) }

func (s *Socket) newSender(n int, gso bool) *Sender {
	x := &Sender{sock: s, gso: gso, slots: newSlots(n), notes: make([]note, n)}
	x.try = x.tryFD
	x.room = func(fd uintptr) { poll(int(fd), unix.POLLOUT, x.patience) }
	return x
}

// Add queues data for to, cut into datagrams of segment bytes, the last of
// which may be shorter; segment 0 or ≥ len(data) makes one datagram. data is
// not copied and must stay as it is until Flush. Runs longer than the kernel
// takes are split. When all slots are full they are sent at once; the outcome
// is part of the next Flush.
func (x *Sender) Add(to netip.AddrPort, data []byte, segment int) {
	if segment <= 0 || segment >= len(data) {
		x.add(to, data, len(data), 1)
		return
	}
	perRun := 1
	if x.gso && !x.refuses(to) {
		limit := maxRun4
		if x.sock.v6 {
			limit = maxRun6
		}
		perRun = max(min(limit/segment, maxSegments), 1)
	}
	for len(data) > 0 {
		n := min(perRun*segment, len(data))
		x.add(to, data[:n], min(segment, n), (n+segment-1)/segment)
		data = data[n:]
	}
}

func (x *Sender) add(to netip.AddrPort, data []byte, segment, count int) {
	if x.n == len(x.slots.hdrs) {
		x.drain()
	}
	i := x.n
	namelen := x.slots.names[i].put(to, x.sock.v6, &x.zones)
	if namelen == 0 {
		x.fail(count, unix.EAFNOSUPPORT)
		return
	}
	x.notes[i] = note{to: to, data: data, segment: segment, count: count}
	x.slots.iovs[i].Base = unsafe.SliceData(data)
	x.slots.iovs[i].SetLen(len(data))
	h := &x.slots.hdrs[i].hdr
	h.Namelen = namelen
	h.Control = nil
	h.SetControllen(0)
	if count > 1 {
		h.Control = (*byte)(unsafe.Pointer(&x.slots.controls[i]))
		h.SetControllen(x.slots.controls[i].putSegment(uint16(segment)))
	}
	x.n++
}

// Flush sends what was added. A destination's error does not keep the others
// from being sent. If the send buffer is full it waits for room, but not longer
// than a few tens of milliseconds, and gives up the rest.
func (x *Sender) Flush() Result {
	x.drain()
	r := x.result
	x.result = Result{TooBig: x.result.TooBig[:0]}
	return r
}

// drain sends all queued runs and forgets them.
func (x *Sender) drain() {
	var until time.Time // end of patience, set when the buffer is found full
	for x.head < x.n {
		switch err := x.sock.Control(x.try); {
		case err != nil: // closed
			x.abandon(unix.EBADF)
		case x.errno == unix.EAGAIN:
			if until.IsZero() {
				until = time.Now().Add(stallLimit)
			}
			x.await(until)
		case x.errno != 0:
			x.refuse(x.errno)
		}
	}
	clear(x.notes[:x.n])
	x.n, x.head = 0, 0
}

// await waits until the buffer has room, and gives up what is queued when
// until has come.
func (x *Sender) await(until time.Time) {
	x.patience = time.Until(until)
	if x.patience <= 0 {
		x.abandon(unix.EAGAIN)
		return
	}
	_ = x.sock.Control(x.room)
}

// tryFD makes one sendmmsg and counts what went. The kernel stops at the first
// run it cannot send; only when that is the first of the call is the error seen.
func (x *Sender) tryFD(fd uintptr) {
	var n int
	n, x.errno = mmsg(unix.SYS_SENDMMSG, fd, x.slots.hdrs[x.head:x.n])
	var datagrams, bytes uint64
	for _, m := range x.notes[x.head : x.head+n] {
		datagrams += uint64(m.count)
		bytes += uint64(len(m.data))
	}
	x.head += n
	x.result.Sent += int(datagrams)
	c := &x.sock.count
	c.sendCalls.Add(1)
	c.sent.Add(datagrams)
	c.sentBytes.Add(bytes)
}

// refuse deals with the run at head, which the kernel refused.
func (x *Sender) refuse(errno unix.Errno) {
	m := &x.notes[x.head]
	x.head++
	switch {
	case errno == unix.EMSGSIZE:
		x.tooBig(m)
	case m.count > 1 && (errno == unix.EIO || errno == unix.EINVAL):
		x.sendPlain(m)
	default:
		x.fail(m.count, errno)
	}
}

// tooBig reports a run whose datagrams the path does not take.
func (x *Sender) tooBig(m *note) {
	x.fail(m.count, unix.EMSGSIZE)
	if x.reportable(m.to) {
		mtu, _ := x.sock.PathMTU(m.to) // 0 says unknown
		x.result.TooBig = append(x.result.TooBig, TooBig{To: m.to, Size: m.segment, MTU: mtu})
	}
}

// reportable says whether the result has room for a word about to, and none yet.
func (x *Sender) reportable(to netip.AddrPort) bool {
	for _, t := range x.result.TooBig {
		if t.To == to {
			return false
		}
	}
	return len(x.result.TooBig) < maxTooBig
}

// sendPlain sends a run's datagrams one by one. Old kernels answer EINVAL both
// when they cannot cut (EIO where the device cannot make checksums) and when a
// segment does not fit the path; which of the two it was shows here.
func (x *Sender) sendPlain(m *note) {
	if x.plain == nil {
		x.plain = x.sock.newSender(maxSegments, false)
	}
	x.plain.Add(m.to, m.data, m.segment)
	r := x.plain.Flush()
	x.result.Sent += r.Sent
	x.result.Errors += r.Errors
	x.result.Stalled += r.Stalled
	if r.LastError != 0 {
		x.result.LastError = r.LastError
	}
	if len(r.TooBig) > 0 {
		if x.reportable(m.to) {
			x.result.TooBig = append(x.result.TooBig, r.TooBig[0])
		}
		return
	}
	x.result.GSORefused++
	x.sock.count.gsoRefused.Add(1)
	x.remember(m.to)
}

// remember keeps GSO off for a destination for a while.
func (x *Sender) remember(to netip.AddrPort) {
	if x.refused == nil || len(x.refused) >= maxRefusers {
		x.refused = make(map[netip.AddrPort]time.Time)
	}
	x.refused[to] = time.Now().Add(gsoRetry)
}

// refuses says whether to has lately refused GSO.
func (x *Sender) refuses(to netip.AddrPort) bool {
	if len(x.refused) == 0 {
		return false
	}
	until, ok := x.refused[to]
	if ok && time.Now().After(until) {
		delete(x.refused, to)
		return false
	}
	return ok
}

// abandon gives up all that is queued.
func (x *Sender) abandon(errno unix.Errno) {
	for _, m := range x.notes[x.head:x.n] {
		x.fail(m.count, errno)
	}
	x.head = x.n
}

// fail counts datagrams that were given up.
func (x *Sender) fail(count int, errno unix.Errno) {
	x.result.Errors += count
	x.result.LastError = errno
	switch errno {
	case unix.EMSGSIZE:
		x.sock.count.tooBig.Add(uint64(count))
	case unix.EAGAIN:
		x.result.Stalled += count
		x.sock.count.stalled.Add(uint64(count))
	default:
		x.sock.count.sendErrors.Add(uint64(count))
	}
}
