package control

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weave/peer/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what should happen at once.
const patience = 10 * time.Second

// node is a running Transport and what it reported.
type node struct {
	*Transport
	t      testing.TB
	addr   netip.AddrPort
	events chan Event
	stop   func()
}

// start runs a Transport on a loopback port for the time of the test.
func start(t testing.TB, cfg Config) *node {
	t.Helper()
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := tr.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Transport: tr, t: t, addr: addr, events: make(chan Event, 4096)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tr.Run(ctx, n.events)
	}()
	n.stop = func() { cancel(); <-done }
	t.Cleanup(n.stop)
	return n
}

// key makes a private key from a word.
func key(word string) [32]byte { return sha256.Sum256([]byte(word)) }

// await returns the next event of type E, dropping others.
func await[E Event](n *node) E {
	n.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e := <-n.events:
			if e, ok := e.(E); ok {
				return e
			}
		case <-timer.C:
			var want E
			n.t.Fatalf("no %T within %v", want, patience)
		}
	}
}

// join connects a to b and returns both ends.
func join(a, b *node) (ca, cb *Conn) {
	a.t.Helper()
	a.Dial(b.addr.String())
	return await[Up](a).Conn, await[Up](b).Conn
}

func bye(reason string) *wire.Control { return goodbye(reason) }
