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
}

// writeAll sends what waits, and a heartbeat when nothing does, until the
// connection is closing; then the goodbye. nil means that the other end was
// told and will close.
func (c *Conn) writeAll() error {
	beat := time.NewTimer(c.tr.limits.Heartbeat)
	defer beat.Stop()
	var box outbox
	for {
		closing, err := c.flush(&box)
		if err != nil {
			return err
		}
		if closing {
			return c.sayGoodbye(&box)
		}
		beat.Reset(c.tr.limits.Heartbeat)
		select {
		case <-c.wake:
		case <-beat.C:
			c.mu.Lock()
			c.pending.beat = true
			c.mu.Unlock()
		}
	}
}

// flush sends all that waits and says whether the connection is closing.
func (c *Conn) flush(box *outbox) (closing bool, err error) {
	for {
		m, closing := c.next()
		if m == nil {
			return closing, c.write(box)
		}
		if err := c.seal(box, m); err != nil {
			return closing, err
		}
	}
}

func (c *Conn) next() (*wire.Control, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.next(), c.closing
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
	if box.plain, err = (proto.MarshalOptions{}).MarshalAppend(box.plain[:0], m); err != nil {
		return fmt.Errorf("encode message: %w", err)
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
	*box, c.out.buf = outbox{}, nil // idle connections hold nothing
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
