package control

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flynn/noise"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

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

// rawPeer is a peer whose every byte the test decides.
type rawPeer struct {
	net.Conn
	in, out half
}

// rawDial connects to n and shakes hands, as a peer called name.
func rawDial(t testing.TB, n *node, name string) *rawPeer {
	t.Helper()
	conn := tcpDial(t, n)
	pub := public(t, key(name))
	private := key(name)
	h := handshake{
		rw: conn, key: noise.DHKey{Private: private[:], Public: pub[:]}, psks: *n.psks.Load(),
		ours: preface{min: ProtocolMin, max: ProtocolMax, password: n.cfg.Password},
	}
	s, err := h.dial()
	if err != nil {
		t.Fatal(err)
	}
	rekey := n.limits.Rekey
	return &rawPeer{Conn: conn, in: half{cs: s.recv, rekey: rekey}, out: half{cs: s.send, rekey: rekey}}
}

// say sends a message's bytes.
func (p *rawPeer) say(t testing.TB, msg []byte) {
	t.Helper()
	b, err := p.out.seal(nil, msg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(b); err != nil {
		t.Fatal(err)
	}
}

// tcpDial connects to n and says nothing.
func tcpDial(t testing.TB, n *node) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// ended reads until the other end has closed, and returns what it said.
func ended(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("connection was not closed")
	}
	return b
}

// serveTCP runs a server that is no weave peer, and returns its address.
func serveTCP(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(patience))
				handle(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); group.Wait() })
	return l.Addr().String()
}

func public(t testing.TB, private [32]byte) [32]byte {
	t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(k.PublicKey().Bytes())
}

func hello(tiebreak uint64) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Hello{Hello: &wire.Hello{Tiebreak: tiebreak}}}
}

// record makes a record of a version, padded to about size bytes.
func record(t interface{ Fatal(...any) }, name string, version uint64, size int) *wire.SignedRecord {
	b, err := proto.Marshal(&wire.Record{
		Name: []byte(name), Key: []byte("key of " + name), Version: version, Nickname: strings.Repeat("x", size),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &wire.SignedRecord{Record: b}
}
