package control

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

func TestConnectBothWays(t *testing.T) {
	a := start(t, Config{Private: key("a"), PSKs: [][32]byte{key("psk")}, Password: true})
	b := start(t, Config{Private: key("b"), PSKs: [][32]byte{key("psk")}, Password: true})
	ca, cb := join(a, b)
	if ca.Static() != public(t, key("b")) || cb.Static() != public(t, key("a")) {
		t.Fatal("static keys are not those of the peers")
	}
	if ca.Dialled() != b.addr.String() || cb.Dialled() != "" || ca.Remote() != b.addr || ca.Version() != 1 {
		t.Fatalf("dialled %q %q, remote %v", ca.Dialled(), cb.Dialled(), ca.Remote())
	}
	ca.Send(hello(7))
	if m := await[Message](b); !proto.Equal(m.Message, hello(7)) || m.Conn != cb {
		t.Fatalf("got %v", m.Message)
	}
	b.Send(cb.ID(), hello(8))
	if m := await[Message](a); !proto.Equal(m.Message, hello(8)) || m.Conn != ca {
		t.Fatalf("got %v", m.Message)
	}
	b.Close(cb.ID(), "enough")
	if d := await[Down](a); d.Err.Error() != "peer closed the connection: enough" {
		t.Fatalf("a: %v", d.Err)
	}
	if d := await[Down](b); d.Err.Error() != "enough" {
		t.Fatalf("b: %v", d.Err)
	}
	b.Send(cb.ID(), hello(9)) // a connection that is gone
	b.Close(cb.ID(), "again")
	b.Send(12345, hello(9))
}

func TestIPv6(t *testing.T) {
	a := start(t, Config{Private: key("a")})
	tr, err := New(Config{Private: key("b")})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := tr.Listen(netip.MustParseAddrPort("[::1]:0"))
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &node{Transport: tr, t: t, addr: addr, events: make(chan Event, 64)}
	var group sync.WaitGroup
	group.Go(func() { _ = tr.Run(ctx, b.events) })
	defer group.Wait()
	defer cancel()
	if ca, _ := join(a, b); ca.Remote() != addr {
		t.Fatalf("remote %v", ca.Remote())
	}
}

// What was sent before Close arrives before the end.
func TestCloseFlushes(t *testing.T) {
	a, b := start(t, Config{Private: key("a")}), start(t, Config{Private: key("b")})
	ca, _ := join(a, b)
	for i := range 100 {
		ca.Send(hello(uint64(i)))
	}
	ca.Send(goodbye("that was all"))
	ca.Send(hello(1000)) // too late
	for i := range 100 {
		if m := await[Message](b); m.Message.GetHello().GetTiebreak() != uint64(i) {
			t.Fatalf("message %d: %v", i, m.Message)
		}
	}
	if m := await[Message](b); m.Message.GetGoodbye().GetReason() != "that was all" {
		t.Fatalf("got %v", m.Message)
	}
	if d := await[Down](b); d.Err.Error() != "peer closed the connection: that was all" {
		t.Fatalf("b: %v", d.Err)
	}
	if d := await[Down](a); d.Err.Error() != "that was all" {
		t.Fatalf("a: %v", d.Err)
	}
}

func TestEndOfRunSaysGoodbye(t *testing.T) {
	a, b := start(t, Config{Private: key("a")}), start(t, Config{Private: key("b")})
	join(a, b)
	a.stop()
	if d := await[Down](b); !strings.Contains(d.Err.Error(), "shutting down") {
		t.Fatalf("b: %v", d.Err)
	}
	if err := a.Run(context.Background(), a.events); err == nil {
		t.Fatal("Run twice")
	}
	if _, err := a.Listen(netip.MustParseAddrPort("127.0.0.1:0")); err == nil {
		t.Fatal("Listen after Run")
	}
}

// The halves rekey in step, whatever each has sent.
func TestRekey(t *testing.T) {
	cfg := Config{Limits: Limits{Rekey: 3}}
	cfg.Private = key("a")
	a := start(t, cfg)
	cfg.Private = key("b")
	b := start(t, cfg)
	ca, cb := join(a, b)
	for i := range 40 {
		ca.Send(hello(uint64(i)))
		if m := await[Message](b); m.Message.GetHello().GetTiebreak() != uint64(i) {
			t.Fatalf("message %d: %v", i, m.Message)
		}
		if i%3 == 0 {
			cb.Send(hello(uint64(i)))
			if m := await[Message](a); m.Message.GetHello().GetTiebreak() != uint64(i) {
				t.Fatalf("answer %d: %v", i, m.Message)
			}
		}
	}
}

// Messages larger than a frame, up to the limit, arrive whole.
func TestLargeMessages(t *testing.T) {
	a, b := start(t, Config{Private: key("a")}), start(t, Config{Private: key("b")})
	ca, _ := join(a, b)
	for _, n := range []int{maxPart - 64, maxPart, 3 * maxPart, 7 << 20} {
		m := &wire.Control{Kind: &wire.Control_Hello{Hello: &wire.Hello{
			Record: &wire.SignedRecord{Record: make([]byte, n)},
		}}}
		ca.Send(m)
		if got := await[Message](b); !proto.Equal(got.Message, m) {
			t.Fatalf("message of %d bytes differs", n)
		}
	}
	ca.Send(&wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: [][]byte{make([]byte, 1)}}}})
	await[Message](b)
}

func TestMessageTooLong(t *testing.T) {
	a := start(t, Config{Private: key("a"), Limits: Limits{Queue: 64 << 20}})
	b := start(t, Config{Private: key("b")})
	ca, _ := join(a, b)
	ca.Send(&wire.Control{Kind: &wire.Control_Hello{Hello: &wire.Hello{
		Record: &wire.SignedRecord{Record: make([]byte, MaxMessage)},
	}}})
	if d := await[Down](a); !strings.Contains(d.Err.Error(), errTooLong.Error()) {
		t.Fatalf("a: %v", d.Err)
	}
	await[Down](b)

	p := rawDial(t, b, "c")
	await[Up](b)
	part := make([]byte, maxPart)
	p.out.buf = append([]byte{flagMore}, part...)
	for sent := 0; sent <= MaxMessage; sent += maxPart {
		frame, err := p.out.cs.Encrypt([]byte{0xff, 0xff}, nil, p.out.buf)
		if err != nil {
			t.Fatal(err)
		}
		p.out.turn()
		if _, err := p.Write(frame); err != nil {
			break // closed while we were writing
		}
	}
	if d := await[Down](b); d.Err != errTooLong {
		t.Fatalf("b: %v", d.Err)
	}
}

// What this version does not know, and even what is no protobuf, does not cut
// a connection.
func TestUnknownPasses(t *testing.T) {
	b := start(t, Config{Private: key("b")})
	p := rawDial(t, b, "a")
	await[Up](b)
	p.say(t, []byte{0xfa, 0x06, 3, 'n', 'e', 'w'})       // field 111, unknown kind
	p.say(t, []byte{0xff, 0xff, 0xff})                   // no protobuf
	p.say(t, nil)                                        // an empty message
	p.say(t, []byte{0x0a, 4, 0x08, 1, 0xf8, 0x7f, 0x32}) // broken inside
	known, err := proto.Marshal(hello(5))
	if err != nil {
		t.Fatal(err)
	}
	p.say(t, append(known, 0xfa, 0x06, 1, 'x'))
	if m := await[Message](b).Message; m.GetKind() != nil || len(m.ProtoReflect().GetUnknown()) != 6 {
		t.Fatalf("unknown kind: %v", m)
	}
	if m := await[Message](b).Message; m.GetKind() != nil {
		t.Fatalf("empty: %v", m)
	}
	if m := await[Message](b).Message; m.GetHello().GetTiebreak() != 5 {
		t.Fatalf("known kind: %v", m)
	}
	if n := b.Stats().Malformed; n != 2 {
		t.Fatalf("%d malformed", n)
	}
}

// Heartbeats keep an idle connection; one without is dropped.
func TestHeartbeatAndSilence(t *testing.T) {
	limits := Limits{Heartbeat: 20 * time.Millisecond, Idle: time.Second}
	a := start(t, Config{Private: key("a"), Limits: limits})
	b := start(t, Config{Private: key("b"), Limits: limits})
	join(a, b)
	rawDial(t, b, "silent")
	silent := await[Up](b).Conn
	d := await[Down](b) // took longer than Idle: the other connection has outlived it
	if d.Conn != silent || !strings.Contains(d.Err.Error(), "silent") {
		t.Fatalf("down: %v", d.Err)
	}
	if len(a.events) > 0 {
		t.Fatalf("the live connection reported %T", <-a.events)
	}
}

// A peer that stops reading is dropped, and delays nobody meanwhile.
func TestStuckReader(t *testing.T) {
	b := start(t, Config{Private: key("b"), Limits: Limits{Write: 300 * time.Millisecond, Queue: 1 << 30}})
	c := start(t, Config{Private: key("c")})
	_ = rawDial(t, b, "stuck").Conn.(*net.TCPConn).SetReadBuffer(4096)
	stuck := await[Up](b).Conn
	cc, cb := join(c, b)
	for i := range 24 {
		r := record(t, fmt.Sprintf("peer %d", i), 1, 1<<20)
		stuck.Send(recordsOf([]*wire.SignedRecord{r}))
	}
	for i := range 50 {
		cb.Send(hello(uint64(i)))
		if m := await[Message](c); m.Conn != cc || m.Message.GetHello().GetTiebreak() != uint64(i) {
			t.Fatalf("message %d: %v", i, m.Message)
		}
	}
	if d := await[Down](b); d.Conn != stuck || !strings.Contains(d.Err.Error(), "does not read") {
		t.Fatalf("down: %v", d.Err)
	}
	if n := b.Stats().WriteTimeouts; n != 1 {
		t.Fatalf("%d write time-outs", n)
	}
}

func TestQueueOverflow(t *testing.T) {
	b := start(t, Config{Private: key("b"), Limits: Limits{Queue: 4 << 20, Goodbye: 200 * time.Millisecond}})
	_ = rawDial(t, b, "stuck").Conn.(*net.TCPConn).SetReadBuffer(4096)
	stuck := await[Up](b).Conn
	for i := range 24 {
		r := record(t, fmt.Sprintf("peer %d", i), 1, 1<<20)
		stuck.Send(recordsOf([]*wire.SignedRecord{r}))
	}
	if d := await[Down](b); !strings.Contains(d.Err.Error(), "send queue full") {
		t.Fatalf("down: %v", d.Err)
	}
	if n := b.Stats().Overflows; n != 1 {
		t.Fatalf("%d overflows", n)
	}
}

// Many goroutines on one connection, closing in between: for the race detector.
func TestConcurrentUse(t *testing.T) {
	a, b := start(t, Config{Private: key("a")}), start(t, Config{Private: key("b")})
	ca, cb := join(a, b)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				ca.Send(recordsOf([]*wire.SignedRecord{record(t, "p", uint64(i*50+j), 10)}))
				cb.Send(hello(uint64(j)))
				_ = a.Stats()
			}
		})
	}
	group.Wait()
	group.Go(func() { ca.Close("one") })
	group.Go(func() { cb.Close("other") })
	group.Wait()
	await[Down](a)
	await[Down](b)
}
