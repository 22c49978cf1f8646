package control

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// Who writes for all writes on for nobody: with more connections than there are
// such goroutines, all stuck, everybody else gets his messages.
func TestManyStuck(t *testing.T) {
	b := start(t, Config{Private: key("b"), Limits: Limits{Queue: 1 << 30}})
	c := start(t, Config{Private: key("c")})
	for range runtime.GOMAXPROCS(0) + 2 {
		_ = rawDial(t, b, "stuck").Conn.(*net.TCPConn).SetReadBuffer(4096)
		stuck := await[Up](b).Conn
		for range 24 {
			stuck.Send(&wire.Control{Kind: &wire.Control_Tell{Tell: &wire.Tell{Letter: make([]byte, 1<<20)}}})
		}
	}
	cc, cb := join(c, b)
	for i := range uint64(50) {
		cb.Send(hello(i))
		if m := await[Message](c); m.Conn != cc || m.Message.GetHello().GetTiebreak() != i {
			t.Fatalf("message %d: %v", i, m.Message)
		}
	}
}

// What a full socket did not take follows in order and once, the goodbye as the last.
func TestWriteInPieces(t *testing.T) {
	b := start(t, Config{Private: key("b"), Limits: Limits{Queue: 1 << 30, Goodbye: patience}})
	p := rawDial(t, b, "slow")
	c := await[Up](b).Conn
	const messages = 40
	for i := range messages {
		c.Send(&wire.Control{Kind: &wire.Control_Tell{Tell: &wire.Tell{Letter: bytes.Repeat([]byte{byte(i)}, 300<<10)}}})
	}
	c.Close("done")
	next := func() (*wire.Control, error) {
		var all []byte
		for {
			part, more, err := p.in.open(p)
			if all = append(all, part...); err != nil || !more {
				m := new(wire.Control)
				return m, errors.Join(err, proto.Unmarshal(all, m))
			}
		}
	}
	for i := range messages {
		m, err := next()
		if l := m.GetTell().GetLetter(); err != nil || len(l) != 300<<10 || l[0] != byte(i) {
			t.Fatalf("message %d: %d bytes, %v", i, len(l), err)
		}
	}
	if m, err := next(); err != nil || m.GetGoodbye().GetReason() != "done" {
		t.Fatalf("%v, %v; want a goodbye", m, err)
	}
	if m, err := next(); !errors.Is(err, io.EOF) {
		t.Fatalf("%v after the goodbye, %v", m, err)
	}
}
