package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"weave/runtime"
)

// stream sends numbered packets every millisecond and counts what comes back, until it is stopped.
type stream struct {
	conn net.Conn
	stop context.CancelFunc
	work sync.WaitGroup

	sent, answered int // read them after end
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
			s.sent++
			binary.BigEndian.PutUint32(packet, uint32(s.sent))
			_, _ = s.conn.Write(packet)
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
			s.answered++
		}
	}
}

// end stops sending, waits for the last answers and says how many were lost.
func (s *stream) end() (sent, lost int) {
	s.stop()
	s.work.Wait()
	_ = s.conn.Close()
	return s.sent, s.sent - s.answered
}

// Keys change under traffic in both directions, many times, and no packet is lost. The ends change theirs one after the
// other, once the one first and once the other, and seal with the new ones at different moments, as the daemons do.
func TestRekey(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		ga, gb := handshake(t)
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
			first, second := p.a, p.b
			olds, news := [2]runtime.Generation{ga, gb}, [2]runtime.Generation{na, nb}
			if i%2 == 1 {
				first, second = second, first
				olds, news = [2]runtime.Generation{gb, ga}, [2]runtime.Generation{nb, na}
			}
			fresh := news
			fresh[0].Since, fresh[1].Since = time.Now(), time.Now()
			first.shield(olds[0], fresh[0])
			second.shield(olds[1], fresh[1])
			first.has(3, 2) // both may come, the old one leaves
			crossesWith(t, p.wire, olds[0].Out.SPI)
			first.shield(olds[0], news[0]) // settled
			crossesWith(t, p.wire, news[0].Out.SPI)
			second.shield(olds[1], news[1])
			crossesWith(t, p.wire, news[1].Out.SPI)
			first.shield(news[0])
			second.shield(news[1])
			first.has(2, 2)
			ga, gb = na, nb
		}
		for i, s := range streams {
			sent, lost := s.end()
			if lost > 0 || sent < 100 {
				t.Errorf("stream %d: %d of %d packets lost", i, lost, sent)
			}
			t.Logf("stream %d: %d packets and as many answers during %d changes of keys, %d lost", i, sent, changes, lost)
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
