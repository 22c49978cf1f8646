package control

import (
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

const (
	writeChunk = 64 << 10 // bytes of frames gathered before they are written
)

// outbox gathers frames.
type outbox struct {
	frames, plain []byte
	wrote         bool // some were written
	bye           bool // they end with a goodbye
	patient       bool // who writes may wait
}

// startWriter has what waits written, unless that is under way. Writers come and
// go, so that a connection on which nothing is said costs no goroutine for it.
// The caller holds mu.
func (c *Conn) startWriter() {
	if c.writing || c.ended {
		return
	}
	c.writing = true
	c.writer.Add(1)
	c.tr.write(c)
}

// remind sends a heartbeat if nothing else was sent for a while.
func (c *Conn) remind(now time.Time, while time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && now.Sub(c.spoke) >= while {
		c.spoke, c.pending.beat = now, true
		c.startWriter()
	}
}

// writeAll sends all that waits, and if the connection is closing, the goodbye:
// the other end is told then, and will close. errWait asks to be called again with
// the same box, patient now.
func (c *Conn) writeAll(box *outbox) error {
	for {
		if !box.full() {
			m, closing := c.next(len(box.frames) == 0)
			var err error
			switch {
			case m != nil:
				err = c.seal(box, m)
			case len(box.frames) > 0:
				err = c.write(box)
			case closing:
				err = c.sealGoodbye(box)
			default:
				return nil
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := c.write(box); err != nil {
			return err
		}
		if box.bye {
			return c.tcp.CloseWrite()
		}
	}
}

// full tells that the frames gathered must be written first.
func (b *outbox) full() bool { return len(b.frames) >= writeChunk || b.bye }

// next takes the next message. nil with done says that the writer has nothing
// left to do; another one may start then, unless the connection is closing.
func (c *Conn) next(done bool) (m *wire.Control, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m = c.pending.next()
	if m == nil && done && !c.closing {
		c.writing = false
	}
	return m, c.closing
}

// sealGoodbye puts the last message into the empty box.
func (c *Conn) sealGoodbye(box *outbox) error {
	c.mu.Lock()
	reason := c.cause.Error()
	c.mu.Unlock()
	box.bye = true
	return c.seal(box, goodbye(reason))
}

// seal adds m to the box.
func (c *Conn) seal(box *outbox, m *wire.Control) error {
	var err error
	if n := proto.Size(m); cap(box.plain) < n {
		c.tr.shared.spare.give(box.plain)
		box.plain = c.tr.shared.spare.take(n)
	}
	if box.plain, err = (proto.MarshalOptions{}).MarshalAppend(box.plain[:0], m); err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if n := len(box.frames) + framesLen(len(box.plain)); cap(box.frames) < n {
		longer := append(c.tr.shared.spare.take(n), box.frames...)
		c.tr.shared.spare.give(box.frames)
		box.frames = longer
	}
	if box.frames, err = c.out.seal(box.frames, box.plain); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// write empties the box, a chunk at a time so that a slow peer is given
// Limits.Write for each chunk and not for the whole. One that is not patient takes
// no more than one chunk, and no second box.
func (c *Conn) write(box *outbox) error {
	b := box.frames
	for len(b) > 0 {
		chunk := b[:min(len(b), writeChunk)]
		if !box.patient {
			if !box.wrote {
				b = b[c.writeNow(chunk):]
			}
			if box.wrote = true; len(b) > 0 {
				box.frames = append(box.frames[:0], b...)
				return errWait
			}
			break
		}
		c.deadline(c.tcp.SetWriteDeadline, c.tr.limits.Write)
		n, err := c.tcp.Write(chunk)
		if err != nil {
			return c.writeError(err)
		}
		b = b[n:]
	}
	c.tr.shared.spare.give(box.frames) // idle connections hold nothing
	c.tr.shared.spare.give(box.plain)
	box.frames, box.plain = nil, nil
	c.out.give()
	c.mu.Lock()
	c.spoke = time.Now()
	c.mu.Unlock()
	return nil
}

func (c *Conn) writeError(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && !c.isClosing() {
		c.tr.count.writeTimeouts.Add(1)
		return fmt.Errorf("peer does not read: %w", err)
	}
	return err
}
