package control

import (
	"errors"
	"fmt"
	"net"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

const (
	writeChunk = 64 << 10 // bytes of frames gathered before they are written
)

// outbox gathers frames.
type outbox struct {
	frames, plain []byte
}

// startWriter has what waits written, unless that is under way. Writers come and
// go, so that a connection on which nothing is said costs no goroutine for it.
// The caller holds mu.
func (c *Conn) startWriter() {
	if c.writing || c.ended {
		return
	}
	c.writing = true
	c.writer.Go(func() {
		if err := c.writeAll(); err != nil {
			c.fail(err)
		}
	})
}

// remind sends a heartbeat, as nothing else was sent for a while.
func (c *Conn) remind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending.beat = true
	c.startWriter()
}

// writeAll sends all that waits, and if the connection is closing, the goodbye:
// the other end is told then, and will close.
func (c *Conn) writeAll() error {
	var box outbox
	for {
		m, closing := c.next(len(box.frames) == 0)
		var err error
		switch {
		case m != nil:
			err = c.seal(&box, m)
		case len(box.frames) > 0:
			err = c.write(&box)
		case closing:
			return c.sayGoodbye(&box)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

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

func (c *Conn) sayGoodbye(box *outbox) error {
	c.mu.Lock()
	reason := c.cause.Error()
	c.mu.Unlock()
	if err := c.seal(box, goodbye(reason)); err != nil {
		return err
	}
	if err := c.write(box); err != nil {
		return err
	}
	return c.tcp.CloseWrite()
}

// seal adds m to the box and writes the box when it is full.
func (c *Conn) seal(box *outbox, m *wire.Control) error {
	var err error
	if n := proto.Size(m); cap(box.plain) < n {
		c.tr.spare.give(box.plain)
		box.plain = c.tr.spare.take(n)
	}
	if box.plain, err = (proto.MarshalOptions{}).MarshalAppend(box.plain[:0], m); err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if n := len(box.plain) + 2 + 1 + tagLen; box.frames == nil { // longer ones grow
		box.frames = c.tr.spare.take(n)
	}
	if box.frames, err = c.out.seal(box.frames, box.plain); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if len(box.frames) < writeChunk {
		return nil
	}
	return c.write(box)
}

// write empties the box, a chunk at a time so that a slow peer is given
// Limits.Write for each chunk and not for the whole.
func (c *Conn) write(box *outbox) error {
	b := box.frames
	for len(b) > 0 {
		c.deadline(c.tcp.SetWriteDeadline, c.tr.limits.Write)
		n, err := c.tcp.Write(b[:min(len(b), writeChunk)])
		if err != nil {
			return c.writeError(err)
		}
		b = b[n:]
	}
	c.tr.spare.give(box.frames) // idle connections hold nothing
	c.tr.spare.give(box.plain)
	*box = outbox{}
	c.out.give()
	c.beat.Reset(c.tr.limits.Heartbeat)
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
