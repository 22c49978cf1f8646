package control

import (
	"errors"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// errWait says that who writes for all would have to wait for one connection.
var errWait = errors.New("write would wait")

// writers write for all connections what their sockets take at once. A message to
// everybody would start a goroutine for each connection else, all at the same time, and
// the runtime keeps the stacks of as many as there ever were. A connection whose socket
// is full, or that has much to say, is left to a goroutine of its own.
type writers struct {
	mu      sync.Mutex // for what follows
	queue   []*Conn    // oldest first
	running int
}

// write has a connection's messages written. The caller has set Conn.writing, and
// added to Conn.writer.
func (t *Transport) write(c *Conn) {
	w := &t.shared.writers
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, c)
	if w.running < runtime.GOMAXPROCS(0) {
		w.running++
		t.spawn(t.serveWriters)
	}
}

// serveWriters writes until nobody has anything to say.
func (t *Transport) serveWriters() {
	for {
		c := t.shared.writers.next()
		if c == nil {
			return
		}
		box := new(outbox)
		if err := c.writeAll(box); !errors.Is(err, errWait) {
			c.wrote(err)
			continue
		}
		box.patient = true
		t.spawn(func() { c.wrote(c.writeAll(box)) })
	}
}

// next is whose turn it is; nil ends the goroutine that asks.
func (w *writers) next() *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.queue = nil
		w.running--
		return nil
	}
	c := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return c
}

// wrote ends what write began.
func (c *Conn) wrote(err error) {
	if err != nil {
		c.fail(err)
	}
	c.writer.Done()
}

// writeNow writes what the socket takes without waiting; why it does not take all
// a write that waits will tell.
func (c *Conn) writeNow(b []byte) (n int) {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Write(func(fd uintptr) bool {
		n, _ = unix.Write(int(fd), b)
		return true
	})
	return max(n, 0)
}
