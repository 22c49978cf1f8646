package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weave/runtime"
)

// underWay is how many packets of a stream may be without an answer: fewer than any buffer on the way holds, since a slow
// guest would lose them there.
const underWay = 32

// stream sends numbered packets every millisecond and counts what comes back, until it is stopped.
type stream struct {
	conn net.Conn
	stop context.CancelFunc
	work sync.WaitGroup

	sent, answered atomic.Int64
}

// stream begins to send to the echo at address.
func (e *end) stream(address string) *stream {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{stop: cancel}
	must(e.t, e.Do(func() (err error) {
		s.conn, err = net.Dial("udp", address)
		return err
	}))
	s.work.Go(func() { s.send(ctx) })
	s.work.Go(func() { s.receive() })
	e.t.Cleanup(func() { s.end() })
	return s
}

func (s *stream) send(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	packet := make([]byte, 1000)
	for {
		select {
		case <-ctx.Done():
			_ = s.conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // the last answers
			return
		case <-tick.C:
			if s.sent.Load()-s.answered.Load() < underWay {
				binary.BigEndian.PutUint32(packet, uint32(s.sent.Add(1)))
				_, _ = s.conn.Write(packet)
			}
		}
	}
}

func (s *stream) receive() {
	seen := map[uint32]bool{}
	answer := make([]byte, 2000)
	for {
		n, err := s.conn.Read(answer)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return
		}
		if number := binary.BigEndian.Uint32(answer); err == nil && n == 1000 && !seen[number] {
			seen[number] = true
			s.answered.Add(1)
		}
	}
}

// end stops sending, waits for the last answers and says how many were lost.
func (s *stream) end() (sent, lost int64) {
	s.stop()
	s.work.Wait()
	_ = s.conn.Close()
	return s.sent.Load(), s.sent.Load() - s.answered.Load()
}

// keys are what one end has: of this handshake and the one before, as a session keeps them.
type keys struct {
	e          *end
	prior, now runtime.Generation
}

// take has the new keys open from now on, but the old ones seal still.
func (k *keys) take(next runtime.Generation) {
	k.prior, k.now = k.now, next
	fresh := next
	fresh.Since = time.Now()
	k.e.shield(k.prior, fresh)
}

// settle has the new ones seal.
func (k *keys) settle(t *testing.T, w *wire) {
	k.e.shield(k.prior, k.now)
	crossesWith(t, w, k.now.Out.SPI)
}

// Keys change under traffic in both directions, many times, and no packet is lost. The ends change theirs one after the
// other, once the one first and once the other, and seal with the new ones at different moments, as the daemons do.
func TestRekey(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		ga, gb := handshake(t)
		a, b := &keys{e: p.a, prior: ga, now: ga}, &keys{e: p.b, prior: gb, now: gb}
		p.a.shield(ga)
		p.b.shield(gb)
		p.a.tunnel()
		p.b.tunnel()
		p.a.reaches(p.b)
		for _, e := range []*end{p.a, p.b} {
			echo, err := e.EchoUDP(e.overlay + ":7")
			must(t, err)
			defer echo.Close()
		}
		streams := []*stream{p.a.stream(p.b.overlay + ":7"), p.b.stream(p.a.overlay + ":7")}
		const changes = 10
		for i := range changes {
			na, nb := handshake(t)
			first, second := a, b
			if i%2 == 1 {
				first, second, na, nb = b, a, nb, na
			}
			first.take(na)
			second.take(nb)
			first.e.has(3, 2) // both may come, the old one leaves
			crossesWith(t, p.wire, first.prior.Out.SPI)
			first.settle(t, p.wire)
			second.settle(t, p.wire)
			first.e.has(3, 2)
		}
		for i, s := range streams {
			sent, lost := s.end()
			if lost > 0 || sent < 100 {
				t.Errorf("stream %d: %d of %d packets lost", i, lost, sent)
			}
			t.Logf("stream %d: %d packets and as many answers during %d changes of keys, %d lost", i, sent, changes, lost)
		}
		if t.Failed() {
			t.Logf("counters: %v and %v", p.a.xfrmStats(), p.b.xfrmStats())
		}
		p.wire.neverClear(t)
		if n := len(p.wire.now().spis); n != 2*(changes+1) {
			t.Errorf("%d SPIs on the wire, want %d", n, 2*(changes+1))
		}
	})
}

// crossesWith waits until another packet of an SPI has crossed.
func crossesWith(t *testing.T, w *wire, spi uint32) {
	t.Helper()
	before := w.now().spis[spi]
	eventually(t, func() error {
		if w.now().spis[spi] == before {
			return errors.New("no packet of the SPI")
		}
		return nil
	})
}
