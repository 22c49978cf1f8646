package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weave/netns-tests/lab"
	"weave/runtime"
)

// underWay is how many packets of a stream may be without an answer: fewer than any buffer on the way holds, since a slow
// guest would lose them there.
const underWay = 32

// stream sends numbered packets and counts what comes back, until it is stopped.
type stream struct {
	conn net.Conn
	stop context.CancelFunc
	work sync.WaitGroup

	sent, answered atomic.Int64
}

// newStream begins to send from a namespace to the echo that it starts in another, one packet at a pace.
func newStream(t *testing.T, from, to *lab.NS, address string, pace time.Duration) *stream {
	t.Helper()
	echo, err := to.EchoUDP(address)
	must(t, err)
	t.Cleanup(func() { echo.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{stop: cancel}
	must(t, from.Do(func() (err error) {
		s.conn, err = net.Dial("udp", address)
		return err
	}))
	s.work.Go(func() { s.send(ctx, pace) })
	s.work.Go(func() { s.receive() })
	t.Cleanup(func() { s.end() })
	return s
}

// passes waits until some more packets were answered.
func (s *stream) passes(t *testing.T) {
	t.Helper()
	before := s.answered.Load()
	eventually(t, func() error {
		if n := s.answered.Load() - before; n < 100 {
			return fmt.Errorf("%d packets were answered", n)
		}
		return nil
	})
}

// lostNone ends the stream and fails the test if a packet was not answered.
func (s *stream) lostNone(t *testing.T, during string) {
	t.Helper()
	sent, lost := s.end()
	if lost > 0 || sent < 100 {
		t.Errorf("%d of %d packets lost during %s", lost, sent, during)
	}
	t.Logf("%d packets and as many answers during %s, %d lost", sent, during, lost)
}

func (s *stream) send(ctx context.Context, pace time.Duration) {
	tick := time.NewTicker(pace)
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

// settle has the new ones seal; the state that did stays for a moment, and the kernel takes it no more.
func (k *keys) settle(t *testing.T, w *wire) {
	settled := k.now
	settled.Since = time.Now().Add(-2500 * time.Millisecond)
	k.e.shield(k.prior, settled)
	k.e.has(4, 2)
	crossesWith(t, w, k.now.Out.SPI)
	eventually(t, func() error { // what was on its way then has crossed
		before := w.now().spis
		crossesWith(t, w, k.now.Out.SPI)
		if n := w.now().spis[k.prior.Out.SPI] - before[k.prior.Out.SPI]; n > 0 {
			return fmt.Errorf("%d packets sealed with the old key while there is a new one", n)
		}
		return nil
	})
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
		streams := []*stream{newStream(t, p.a.NS, p.b.NS, p.b.overlay+":7", time.Millisecond), newStream(t, p.b.NS, p.a.NS, p.a.overlay+":7", time.Millisecond)}
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
			first.e.shield(first.prior, first.now)
			second.e.shield(second.prior, second.now)
			first.e.has(3, 2)
		}
		for _, s := range streams {
			s.lostNone(t, fmt.Sprintf("%d changes of keys", changes))
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
