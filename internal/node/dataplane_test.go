package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"hash/maphash"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"weave/peer"
	"weave/peer/link"
	"weave/peer/session"
	"weave/peer/wire"
	"weave/stack"
	"weave/stack/filter"
	"weave/tun/tuntest"
)

// side is one host of a rig: everything of the data plane but the kernel's TAP.
//
//	test ── tuntest pipe ── uplink, downlink ── UDP on loopback ── downlink, uplink ── tuntest pipe ── test
type side struct {
	dp       *dataplane
	sessions *sessionLoop
	machine  *session.Machine
	addr     netip.AddrPort
	tap      tapQueue
	reports  chan peer.Input
	up       *uplink
}

func newSide(t *testing.T, queue tapQueue) *side {
	t.Helper()
	clock := session.NewClock(time.Now())
	s := &side{dp: newDataplane(stack.NewSwitch(stack.Config{}), clock), tap: queue, reports: make(chan peer.Input, 1024)}
	s.dp.addLocal(&localPort{port: tapPort, queues: []tapQueue{queue}, vital: true})
	sock, err := link.Listen(link.Config{
		Network: "udp4", Bind: netip.MustParseAddrPort("127.0.0.1:0"), RecvBuffer: 4 << 20, SendBuffer: 4 << 20,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.dp.sockets, s.addr = []socketPair{{sock}}, sock.LocalAddr()
	var private [32]byte
	_, _ = rand.Read(private[:])
	if s.machine, err = session.New(session.Config{Private: private, Rand: rand.Reader, Clock: clock}); err != nil {
		t.Fatal(err)
	}
	s.sessions = &sessionLoop{
		dp: s.dp, machine: s.machine, self: s.machine.PublicKey(), out: newOutput(s.dp, s.dp.sockets[0], replyArena, numberSessions),
		log: slog.New(slog.DiscardHandler), report: s.reports, wake: make(chan struct{}, 1),
		book: newPeerBook(), idle: engagedFor,
	}
	s.sessions.accept(nil)
	s.up = newUplink(s.dp, s.dp.sockets[0], 0)
	return s
}

// run starts the side's loops; they end with the test.
func (s *side) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	lanes, err := newLanes(s.dp, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { _ = s.sessions.run(ctx) })
	for _, l := range lanes {
		wg.Go(func() {
			if err := l.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		s.dp.closeSockets()
		if c, ok := s.tap.(interface{ Close() error }); ok {
			c.Close()
		}
	})
}

// join makes two sides each other's peers and waits until their data paths are up.
func join(t *testing.T, a, b *side, aes bool) {
	t.Helper()
	a.sessions.want(wishFor(neighbour{name: peer.Name{2, 0, 0, 0, 0, 2}, uid: 1, conn: 1, key: b.machine.PublicKey(), aes: aes, candidates: []netip.AddrPort{b.addr}}))
	b.sessions.want(wishFor(neighbour{name: peer.Name{2, 0, 0, 0, 0, 1}, uid: 1, conn: 1, key: a.machine.PublicKey(), aes: aes, candidates: []netip.AddrPort{a.addr}}))
	for _, s := range []*side{a, b} {
		select {
		case in := <-s.reports:
			if c, ok := in.(peer.PathChanged); !ok || !c.Up {
				t.Fatalf("first report is %+v", in)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no data path")
		}
	}
}

func newPair(t *testing.T, aes bool) (a, b *side, inA, inB *tuntest.End) {
	t.Helper()
	inA, tapA := tuntest.Pipe(4096)
	inB, tapB := tuntest.Pipe(4096)
	a, b = newSide(t, tapA), newSide(t, tapB)
	a.run(t)
	b.run(t)
	join(t, a, b, aes)
	return a, b, inA, inB
}

func frame(dst, src byte, payload []byte) []byte {
	f := []byte{2, 0, 0, 0, 1, dst, 2, 0, 0, 0, 1, src, 0x88, 0xb5}
	if dst == 0xff {
		copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	return append(f, payload...)
}

func read(t *testing.T, end *tuntest.End) []byte {
	t.Helper()
	got := make(chan []byte, 1)
	go func() {
		buf := make([]byte, wire.MaxPacket)
		if n, err := end.Read(buf); err == nil {
			got <- buf[:n]
		}
	}()
	select {
	case p := <-got:
		return p
	case <-time.After(20 * time.Second):
		t.Fatal("nothing arrived")
		return nil
	}
}

// Frames of all sizes, up to what only fits in fragments, arrive as they left and in order, with both suites.
func TestFramesCross(t *testing.T) {
	for _, aes := range []bool{false, true} {
		t.Run(map[bool]string{false: "chacha", true: "aes"}[aes], func(t *testing.T) {
			_, _, inA, inB := newPair(t, aes)
			rng := mathrand.New(mathrand.NewPCG(1, 2))
			for i := range 300 {
				payload := make([]byte, 46+rng.IntN(1400))
				if i%10 == 0 {
					payload = make([]byte, 3000+rng.IntN(50000))
				}
				binary.BigEndian.PutUint32(payload, uint32(i))
				want := frame(2, 1, payload)
				if err := inA.WriteFrame(want); err != nil {
					t.Fatal(err)
				}
				if got := read(t, inB); !bytes.Equal(got[wire.VnetLen:], want) {
					t.Fatalf("frame %d of %d bytes arrived as %d bytes", i, len(want), len(got)-wire.VnetLen)
				}
			}
			reply := frame(1, 2, make([]byte, 100))
			if err := inB.WriteFrame(reply); err != nil {
				t.Fatal(err)
			}
			if got := read(t, inA); !bytes.Equal(got[wire.VnetLen:], reply) {
				t.Fatal("the way back differs")
			}
		})
	}
}

// superFrame is a TCP over IPv4 packet of size payload bytes as a TAP with TSO gives it: partial checksum, MSS 1324.
func superFrame(size int, seq uint32) []byte {
	const head = 14 + 20 + 20
	p := make([]byte, wire.VnetLen+head+size)
	p[0], p[1] = 1, 1 // needs checksum, TCPv4
	binary.LittleEndian.PutUint16(p[2:], head)
	binary.LittleEndian.PutUint16(p[4:], 1324)
	binary.LittleEndian.PutUint16(p[6:], 34)
	binary.LittleEndian.PutUint16(p[8:], 16)
	f := p[wire.VnetLen:]
	copy(f, frame(2, 1, nil))
	f[12], f[13] = 8, 0
	ip := f[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+size))
	copy(ip[12:], []byte{10, 2, 1, 1, 10, 2, 1, 2})
	tcp := ip[20:]
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12] = 5 << 4
	for i := range size {
		tcp[20+i] = byte(seq) + byte(i*7)
	}
	return p
}

// A super-frame arrives as its bytes, however it was cut and joined on the way.
func TestSuperFrameCrosses(t *testing.T) {
	_, _, inA, inB := newPair(t, true)
	for _, size := range []int{1325, 20000, 65000} {
		sent := superFrame(size, 1000)
		if err := inA.WriteV([][]byte{sent}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 0, size)
		for len(got) < size {
			p := read(t, inB)
			seq := binary.BigEndian.Uint32(p[wire.VnetLen+38:])
			if want := 1000 + uint32(len(got)); seq != want {
				t.Fatalf("sequence number %d, want %d", seq, want)
			}
			got = append(got, p[wire.VnetLen+54:]...)
		}
		if !bytes.Equal(got, sent[wire.VnetLen+54:]) {
			t.Fatalf("payload of %d bytes differs", size)
		}
	}
}

// Whatever reaches the socket, it is counted, and those who talk go on.
func TestGarbageHarmsNobody(t *testing.T) {
	_, b, inA, inB := newPair(t, true)
	evil, err := link.Listen(link.Config{Network: "udp4", Bind: netip.MustParseAddrPort("127.0.0.1:0"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer evil.Close()
	tx := evil.NewSender(16)
	rng := mathrand.New(mathrand.NewPCG(3, 4))
	for range 500 {
		junk := make([]byte, rng.IntN(200))
		for i := range junk {
			junk[i] = byte(rng.Uint32())
		}
		if len(junk) > 4 {
			copy(junk, []byte{byte(1 + rng.IntN(5)), byte(rng.IntN(3)), 0, 0})
		}
		tx.Add(b.addr, junk, len(junk))
		tx.Flush()
	}
	want := frame(2, 1, make([]byte, 64))
	if err := inA.WriteFrame(want); err != nil {
		t.Fatal(err)
	}
	if got := read(t, inB); !bytes.Equal(got[wire.VnetLen:], want) {
		t.Fatal("frame differs")
	}
	var counted uint64
	for d := range dropCount {
		counted += b.dp.counters.drops[d].n.Load()
	}
	if counted == 0 {
		t.Fatal("nothing was counted")
	}
}

// sink is a TAP that takes everything and gives nothing, without allocating.
type sink struct {
	tapQueue // of a pipe that nobody writes to
	arrived  chan struct{}
}

func newSink() *sink {
	quiet, _ := tuntest.Pipe(1)
	return &sink{tapQueue: quiet, arrived: make(chan struct{}, 1024)}
}

func (s *sink) WriteV([][]byte) error {
	offer(s.arrived, struct{}{})
	return nil
}

// In steady state a frame costs no allocation on either host, alone, bundled or as a super-frame.
func TestNoAllocationPerFrame(t *testing.T) {
	sinkA, sinkB := newSink(), newSink()
	a, b := newSide(t, sinkA), newSide(t, sinkB)
	a.run(t)
	b.run(t)
	join(t, a, b, true)
	small := append(make([]byte, wire.VnetLen), frame(0xff, 1, make([]byte, 50))...)
	packets := map[string][][]byte{
		"frame":  {small},
		"bundle": {small, small, small, small, small, small, small, small},
		"super":  {superFrame(60000, 1)},
	}
	for _, allowed := range []bool{false, true} { // without a policy, and with one that allows all this
		if allowed {
			doc, err := filter.Parse("allow * -> * tcp\ndefault allow\n")
			if err != nil {
				t.Fatal(err)
			}
			f := filter.New(doc, filter.NewMembers(doc), netip.Addr{}, filter.NewFlows(maphash.MakeSeed()), filter.NewCounts())
			a.dp.policy.Store(f)
			b.dp.policy.Store(f)
		}
		noAllocation(t, a, packets, sinkB)
	}
}

func noAllocation(t *testing.T, a *side, packets map[string][][]byte, sinkB *sink) {
	for name, batch := range packets {
		t.Run(name, func(t *testing.T) {
			send := func() {
				for _, p := range batch {
					a.up.forward(copy(a.up.buf[wire.Headroom:], p), a.dp.locals.Load().of(tapPort))
				}
				a.up.out.flush()
				for arrived := 0; arrived < len(batch); arrived++ {
					<-sinkB.arrived
				}
			}
			for range 50 {
				send() // warm up
			}
			if n := testing.AllocsPerRun(1000, send); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
