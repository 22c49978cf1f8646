package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// A Conn is one control connection. Its methods may be called concurrently and
// never block.
//
//	        Close, Send(Goodbye),
//	        overflow                    goodbye written, or too late
//	open ───────────────────► closing ───────────────────────────► closed
//	  │                                                              ▲
//	  └──────────── read or write error, other end's Goodbye ────────┘
type Conn struct {
	id      uint64
	dialled string
	remote  netip.AddrPort
	static  [32]byte
	version uint8

	tr     *Transport
	tcp    *net.TCPConn
	in     half          // the reader's
	ahead  *bufio.Reader // nil while it rests
	armed  bool          // known to Transport.shared.resting
	out    half          // the writer's
	writer sync.WaitGroup

	mu      sync.Mutex // for what follows
	pending pending
	spoke   time.Time // when the last message was written
	writing bool      // a writer runs, or has said goodbye
	closing bool
	ended   bool      // nothing can be written any more
	rests   bool      // no goroutine reads
	quiet   time.Time // since when it rests
	cause   error     // why closing or closed
}

// ID is unique within the Transport and never 0.
func (c *Conn) ID() uint64 { return c.id }

// Dialled is the target as given to Dial; "" for an incoming connection.
func (c *Conn) Dialled() string { return c.dialled }

// Remote is the address of the other end.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Static is the X25519 public key the other end proved to hold.
func (c *Conn) Static() [32]byte { return c.static }

// Version is the protocol version both ends agreed on.
func (c *Conn) Version() uint8 { return c.version }

// Send queues m, which must not change any more; several connections may be
// given the same m. What waits is merged, see pending. When more than
// Limits.Queue bytes wait, the connection is closed. After Close, m is dropped.
// A Goodbye is the same as Close with its reason.
func (c *Conn) Send(m *wire.Control) {
	if bye := m.GetGoodbye(); bye != nil {
		c.Close(bye.GetReason())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	before := c.pending.merged
	c.pending.add(m)
	c.tr.count.merged.Add(uint64(c.pending.merged - before))
	over := c.pending.bytes > c.tr.limits.Queue
	if over {
		c.pending = pending{}
		c.tr.count.overflows.Add(1)
		c.beginClose(errors.New("peer does not keep up: send queue full"))
	}
	c.startWriter()
}

// sendData queues a message of a data session, unless too much of these wait.
func (c *Conn) sendData(message []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || !c.pending.addData(message, c.tr.limits.Data) {
		return false
	}
	c.startWriter()
	return true
}

// Close sends what waits and a Goodbye, then closes; it takes at most
// Limits.Goodbye. Only the first reason counts.
func (c *Conn) Close(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.beginClose(&ClosedError{Reason: reason})
	}
	c.startWriter()
}

// beginClose goes from open to closing; the caller holds mu.
func (c *Conn) beginClose(cause error) {
	c.closing, c.cause = true, cause
	_ = c.tcp.SetDeadline(time.Now().Add(c.tr.limits.Goodbye)) // ends a read or write that is already waiting
	c.wake()
}

// fail goes to closed at once.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	c.closing, c.ended = true, true
	if c.cause == nil {
		c.cause = err
	}
	_ = c.tcp.Close()
	c.wake()
	c.mu.Unlock()
}

var errSilent = fmt.Errorf("peer has been silent for too long: %w", os.ErrDeadlineExceeded)

// sit reads until nothing is left, and then rests or ends the connection. To take a
// message apart stretches a goroutine's stack, and the runtime does not take that
// back; so who has done that does not wait for the next one.
func (c *Conn) sit() {
	err := c.read()
	switch {
	case err != nil:
		c.end(err) // after a goodbye: the other end closed, or the deadline passed
	case !c.rest():
		c.tr.spawn(c.sit)
	}
}

// end ends the connection, which must neither rest nor read.
func (c *Conn) end(err error) {
	c.fail(err)
	c.writer.Wait()
	c.tr.ended(c)
}

// read delivers messages until none is left at the moment; an error is the end
// of the stream.
func (c *Conn) read() error {
	c.ahead = c.tr.shared.spare.reader(c.tcp)
	defer func() { // idle connections hold nothing
		c.tr.shared.spare.giveReader(c.ahead)
		c.ahead = nil
		c.in.give()
	}()
	for {
		b, err := c.readMessage(c.ahead)
		if err != nil {
			return readError(err)
		}
		data, err := c.take(b)
		if err != nil {
			return err
		}
		if c.ahead.Buffered() == 0 && !(data && c.more()) {
			return nil
		}
	}
}

// more waits for the next message of a data session, which seldom comes alone.
func (c *Conn) more() bool {
	c.in.give()
	c.deadline(c.tcp.SetReadDeadline, min(lingerData, c.tr.limits.Idle))
	_, err := c.ahead.Peek(1)
	return err == nil
}

// take delivers a message, and reports whether it was one of a data session; an
// error is the end of the stream.
func (c *Conn) take(b []byte) (data bool, err error) {
	m := new(wire.Control) // copies out of b
	if err := proto.Unmarshal(b, m); err != nil {
		c.tr.count.malformed.Add(1)
		return false, nil
	}
	if m.GetHeartbeat() != nil || c.isClosing() {
		return false, nil
	}
	if d := m.GetData(); d != nil {
		if c.tr.cfg.Data != nil {
			c.tr.cfg.Data(Data{Conn: c, Message: d.GetMessage()})
		}
		return true, nil
	}
	c.tr.emit(Message{Conn: c, Message: m})
	if bye := m.GetGoodbye(); bye != nil {
		return false, &GoodbyeError{Reason: printable(bye.GetReason())}
	}
	return false, nil
}

// readMessage joins the parts of one message.
func (c *Conn) readMessage(r io.Reader) ([]byte, error) {
	var msg []byte
	for {
		c.deadline(c.tcp.SetReadDeadline, c.tr.limits.Idle)
		part, more, err := c.in.open(r)
		if err != nil {
			return nil, err
		}
		if len(msg)+len(part) > MaxMessage {
			return nil, errTooLong
		}
		if msg == nil && !more {
			return part, nil
		}
		msg = append(msg, part...)
		if !more {
			return msg, nil
		}
	}
}

// deadline sets a deadline d from now, unless the connection is closing and has
// its last one.
func (c *Conn) deadline(set func(time.Time) error, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		_ = set(time.Now().Add(d))
	}
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

func readError(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF):
		return &GoodbyeError{}
	case errors.As(err, &timeout) && timeout.Timeout():
		return errSilent
	}
	return err
}
