package node

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weave/peer/link"
	"weave/peer/session"
	"weave/peer/wire"
	"weave/tun/tuntest"
)

// pathRig is two hosts with a relay between them, all driven by the test's own goroutine, so that the same draws give
// the same batches, bundles and runs:
//
//	pipe ── a: lane ── UDP ── nearA │ nearB ── UDP ── b: lane ── pipe
//
// Each host sees the other at one address, the relay's socket near it. The twin holds the same transport key as b: it
// read b's handshake with b's private key and randomness. So the test knows what each sealed datagram carries.
type pathRig struct {
	t            *rapid.T
	a, b         *host
	nearA, nearB *relaySocket
	twin         *session.Keypair
}

// host is a side whose lane the test turns.
type host struct {
	*side
	lane *lane
	tap  *tuntest.End // the data plane's end
	user *tuntest.End // the test's end
	got  uint64       // datagrams the relay delivered
	buf  []byte
}

// relaySocket is the relay's socket near one host.
type relaySocket struct {
	*link.Socket
	rx    *link.Receiver
	tx    *link.Sender
	taken uint64 // datagrams read
}

const pathPatience = 20 * time.Second

// newHost makes a side with keys from a seed, and a lane with the real uplink and downlink.
func newHost(outer *testing.T, t *rapid.T, seed [32]byte, plain bool) *host {
	user, tap := tuntest.Pipe(16384)
	h := &host{side: newSide(outer, tap), tap: tap, user: user, buf: make([]byte, wire.LongestPacket+100)}
	t.Cleanup(func() {
		h.dp.closeSockets()
		_ = tap.Close()
	})
	h.machine = newMachine(t, seed, h.dp.clock)
	h.sessions.machine, h.sessions.self = h.machine, h.machine.PublicKey()
	h.dp.long = newLongFrames()
	lanes, err := newLanes(h.dp, 1, plain)
	if err != nil {
		t.Fatal(err)
	}
	h.lane = lanes[0]
	return h
}

func newMachine(t *rapid.T, seed [32]byte, clock *session.Clock) *session.Machine {
	m, err := session.New(session.Config{Private: seed, Rand: rand.NewChaCha8(seed), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newRelaySocket(t *rapid.T) *relaySocket {
	sock, err := link.Listen(link.Config{
		Network: "udp4", Bind: netip.MustParseAddrPort("127.0.0.1:0"), RecvBuffer: 4 << 20, SendBuffer: 4 << 20,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sock.Close() })
	return &relaySocket{Socket: sock, rx: sock.NewReceiver(4), tx: sock.NewSender(16)}
}

// newPathRig joins two hosts across the relay; plain says that b's TAP takes no offloads.
func newPathRig(outer *testing.T, t *rapid.T, aes, plain bool, mtu int) *pathRig {
	seedA, seedB := [32]byte{0, 1}, [32]byte{0, 2} // X25519 ignores three bits of the first byte
	r := &pathRig{t: t, nearA: newRelaySocket(t), nearB: newRelaySocket(t)}
	r.a, r.b = newHost(outer, t, seedA, false), newHost(outer, t, seedB, plain)
	keyA, keyB := r.a.machine.PublicKey(), r.b.machine.PublicKey()
	if slices.Compare(keyA[:], keyB[:]) > 0 {
		t.Fatal("a has the higher key and would leave the handshake to b")
	}
	r.b.meet(neighbour{uid: 1, key: keyA, aes: aes, candidates: []netip.AddrPort{r.nearB.LocalAddr()}})
	r.a.meet(neighbour{uid: 1, key: keyB, aes: aes, candidates: []netip.AddrPort{r.nearA.LocalAddr()}})

	twin := newMachine(t, seedB, r.b.dp.clock)
	suite := map[bool]session.Suite{false: session.SuiteWireGuard, true: session.SuiteAESGCM}[aes]
	twin.Step(time.Now(), session.AddPeer{Key: keyA, Suite: suite})
	r.toB(r.fromA(), 0)
	initiation := <-r.b.dp.handshakes
	eff := twin.Step(time.Now(), session.Datagram{From: initiation.from, Bytes: bytes.Clone(initiation.bytes)})
	if len(eff.Install) != 1 {
		t.Fatalf("the twin refused the handshake: %+v", eff.Dropped)
	}
	r.twin = eff.Install[0].Keypair
	r.b.sessions.handshake(initiation)
	r.b.sessions.out.flush()
	r.toA(r.fromB())
	r.a.sessions.handshake(<-r.a.dp.handshakes)
	r.a.sessions.out.flush()
	if at := r.remoteOf(r.b).path.Load(); at != nil {
		t.Fatalf("b takes its answer for proof that %v works both ways", at.way)
	}
	r.toB(r.fromA(), 0) // the keepalive that confirms the key, and the way
	m := <-r.b.dp.moves
	r.b.sessions.roam(r.b.sessions.book.ports[m.port], m.from, r.b.sessions.now())

	r.greet()
	r.remoteOf(r.a).path.Store(newPath(r.nearA.LocalAddr(), mtu))
	return r
}

// greet sends a frame the other way, so that a learns where b's container is.
func (r *pathRig) greet() {
	hello := frame(0xff, 2, make([]byte, 46))
	if err := r.b.user.WriteFrame(hello); err != nil {
		r.t.Fatal(err)
	}
	r.b.turn(r.t)
	r.toA(r.fromB())
	if got := r.a.delivered(r.t); len(got) != 1 || !bytes.Equal(got[0][wire.VnetLen:], hello) {
		r.t.Fatalf("b's frame arrived as %x", got)
	}
}

// meet makes n the host's only peer.
func (h *host) meet(n neighbour) {
	h.sessions.want(wishFor(n))
	h.sessions.sync(context.Background(), h.sessions.now())
	h.sessions.out.flush()
}

// turn runs the lane once.
func (h *host) turn(t *rapid.T) {
	if _, err := h.lane.turn(); err != nil {
		t.Fatal(err)
	}
}

func (r *pathRig) remoteOf(h *host) *remote { return h.dp.table.Load().remote(firstRemotePort) }

// fromA reads what a has sent since the last call. Nothing is lost on loopback, but it may take a moment.
func (r *pathRig) fromA() [][]byte { return r.read(r.a, r.nearA) }
func (r *pathRig) fromB() [][]byte { return r.read(r.b, r.nearB) }

func (r *pathRig) read(from *host, s *relaySocket) (out [][]byte) {
	for until := time.Now().Add(pathPatience); s.taken < from.dp.sockets[0][0].Stats().Sent; goruntime.Gosched() {
		n, err := s.rx.TryReceive()
		if err != nil || time.Now().After(until) {
			r.t.Fatalf("relay: %d datagrams of %d, %v", s.taken, from.dp.sockets[0][0].Stats().Sent, err)
		}
		for i := range n {
			_, data, size := s.rx.Message(i)
			for data := range slices.Chunk(data, size) {
				out = append(out, bytes.Clone(data))
				s.taken++
			}
		}
	}
	return out
}

// toB delivers datagrams in batches, of all at once if batch is zero.
func (r *pathRig) toB(datagrams [][]byte, batch int) (out [][]byte) {
	for part := range slices.Chunk(datagrams, max(1, batch, len(datagrams)*b2i(batch == 0))) {
		r.deliver(part, r.nearB, r.b)
		out = append(out, r.b.delivered(r.t)...)
	}
	return out
}

func (r *pathRig) toA(datagrams [][]byte) { r.deliver(datagrams, r.nearA, r.a) }

// deliver sends one batch, neighbours of one length as a run as a network card would merge them, and turns the host
// until it has worked on all of it.
func (r *pathRig) deliver(batch [][]byte, s *relaySocket, h *host) {
	for i := 0; i < len(batch); {
		run, size := bytes.Clone(batch[i]), len(batch[i])
		for i++; i < len(batch) && len(batch[i]) == size; i++ {
			run = append(run, batch[i]...)
		}
		s.tx.Add(h.addr, run, size)
	}
	if res := s.tx.Flush(); res.Errors > 0 {
		r.t.Fatalf("relay: %+v", res)
	}
	h.got += uint64(len(batch))
	for until := time.Now().Add(pathPatience); h.dp.sockets[0][0].Stats().Received < h.got; goruntime.Gosched() {
		if time.Now().After(until) {
			r.t.Fatalf("%d datagrams of %d arrived", h.dp.sockets[0][0].Stats().Received, h.got)
		}
		h.turn(r.t)
	}
}

// delivered takes what the lane wrote to the TAP.
func (h *host) delivered(t *rapid.T) (out [][]byte) {
	for {
		n, err := h.user.TryRead(h.buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		out = append(out, bytes.Clone(h.buf[:n]))
	}
	if h.tap.Dropped() > 0 {
		t.Fatal("the test's pipe is too short")
	}
	return out
}

// counted is how many frames and datagrams were dropped, for whatever reason.
func (h *host) counted() (n uint64) {
	for i := range h.dp.counters.drops {
		n += h.dp.counters.drops[i].n.Load()
	}
	for i := range h.dp.counters.faults {
		n += h.dp.counters.faults[i].Load()
	}
	for _, d := range h.dp.sw.Counters().Drops {
		n += d
	}
	return n
}

func (h *host) dropped(d drop) uint64 { return h.dp.counters.drops[d].n.Load() }
