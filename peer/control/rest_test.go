package control

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// awaitRest waits until a connection rests.
func awaitRest(t *testing.T, c *Conn) {
	t.Helper()
	rests := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.rests
	}
	for until := time.Now().Add(patience); !rests(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("a quiet connection does not rest within %v", patience)
		}
	}
}

// readers are the goroutines that wait for bytes of some connection.
func readers() int {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	return strings.Count(b.String(), "(*Conn).read(")
}

// A quiet connection has no goroutine and no buffers, and all that may happen to one
// that has not: a message, another after it, a part of one, the end.
func TestQuietConnectionsRest(t *testing.T) {
	a, b := start(t, Config{Private: key("a")}), start(t, Config{Private: key("b")})
	ca, cb := join(a, b)
	for i := range uint64(3) {
		awaitRest(t, ca)
		awaitRest(t, cb)
		for until := time.Now().Add(patience); readers() > 0; runtime.Gosched() {
			if time.Now().After(until) {
				t.Fatalf("%d goroutines wait for connections that rest", readers())
			}
		}
		for _, c := range []*Conn{ca, cb} {
			c.mu.Lock()
			if c.rests && (c.ahead != nil || c.in.buf != nil) {
				t.Error("a connection that rests holds a buffer")
			}
			c.mu.Unlock()
		}
		ca.Send(hello(2 * i))
		ca.Send(hello(2*i + 1))
		for want := 2 * i; want < 2*i+2; want++ {
			if got := await[Message](b).Message.GetHello().GetTiebreak(); got != want {
				t.Fatalf("message %d came as %d", want, got)
			}
		}
	}
	awaitRest(t, ca)
	awaitRest(t, cb)
	ca.Close("enough")
	if d := await[Down](b); d.Conn != cb || !strings.Contains(d.Err.Error(), "enough") {
		t.Errorf("down: %v", d.Err)
	}
	if d := await[Down](a); d.Conn != ca {
		t.Errorf("down: %v", d.Err)
	}
}

// A frame of which a part is there is waited for; the end of the stream ends the
// connection, as does silence after part of a frame or none.
func TestRestEnds(t *testing.T) {
	b := start(t, Config{Private: key("b"), Limits: Limits{Heartbeat: time.Hour, Idle: 500 * time.Millisecond}})
	p := rawDial(t, b, "slow")
	c := await[Up](b).Conn
	awaitRest(t, c)
	known, err := proto.Marshal(hello(7))
	if err != nil {
		t.Fatal(err)
	}
	frame, err := p.out.seal(nil, known)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = p.Write(frame[:1])
	for until := time.Now().Add(patience); readers() == 0; runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatal("nobody reads the rest of a frame")
		}
	}
	_, _ = p.Write(frame[1:])
	if got := await[Message](b).Message.GetHello().GetTiebreak(); got != 7 {
		t.Fatalf("hello %d", got)
	}
	_ = p.Close()
	if d := await[Down](b); d.Conn != c {
		t.Errorf("down: %v", d.Err)
	}
	for _, sent := range []int{0, 1} {
		q := rawDial(t, b, "silent")
		_, _ = q.Write(frame[:sent])
		if c, d := await[Up](b).Conn, await[Down](b); d.Conn != c || !errors.Is(d.Err, os.ErrDeadlineExceeded) {
			t.Errorf("down after %d bytes: %v", sent, d.Err)
		}
	}
}

// Messages of data sessions keep their order whether the reader lingers or not.
func TestRestAndData(t *testing.T) {
	got := make(chan []byte, 100)
	a := start(t, Config{Private: key("a")})
	b := start(t, Config{Private: key("b"), Data: func(d Data) { got <- d.Message }})
	ca, cb := join(a, b)
	awaitRest(t, cb)
	for i := range byte(50) {
		if !a.SendData(ca.ID(), []byte{i}) {
			t.Fatal("not sent")
		}
		if i%10 == 0 {
			ca.Send(&wire.Control{Kind: &wire.Control_Heartbeat{Heartbeat: &wire.Heartbeat{}}})
		}
		if m := <-got; len(m) != 1 || m[0] != i {
			t.Fatalf("message %d came as %v", i, m)
		}
	}
	awaitRest(t, cb)
}

// Where the kernel does not let us wait for all together, each connection has a
// goroutine, and heartbeats go on.
func TestRestNotToBeHad(t *testing.T) {
	limits := Limits{Heartbeat: 50 * time.Millisecond, Idle: 500 * time.Millisecond}
	a, b := start(t, Config{Private: key("a"), Limits: limits}), start(t, Config{Private: key("b"), Limits: limits})
	ca, cb := join(a, b)
	awaitRest(t, ca)
	awaitRest(t, cb)
	_ = a.shared.resting.epoll.Close()
	for until := time.Now().Add(patience); readers() == 0; runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatal("nobody reads")
		}
	}
	rawDial(t, b, "silent")
	await[Down](b) // took longer than Idle: the other connection has outlived it
	cb.Send(hello(1))
	ca.Send(hello(2))
	if m := await[Message](a); m.Message.GetHello().GetTiebreak() != 1 {
		t.Errorf("%v", m.Message)
	}
	if m := await[Message](b); m.Conn != cb || m.Message.GetHello().GetTiebreak() != 2 {
		t.Errorf("%v", m.Message)
	}
	if len(a.events)+len(b.events) > 0 {
		t.Error("more events than messages")
	}
}
