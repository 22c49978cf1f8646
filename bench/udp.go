package main

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	smallSize   = 64 // bytes of UDP payload
	burst       = 32 // datagrams per system call at most
	allowedLoss = 0.01
	trial       = 700 * time.Millisecond
	slowest     = 5_000.0   // datagrams per second where the search begins
	fastest     = 640_000.0 // and where it ends
)

// smallDatagrams finds the highest rate of 64-byte datagrams of which at most
// 1 % are lost, in thousands per second, by halving the distance.
func smallDatagrams(c *contender) (kpps float64, err error) {
	sink, err := newSink(c)
	if err != nil {
		return 0, err
	}
	defer sink.conn.Close()
	var out net.PacketConn
	if err := c.from.Do(func() (err error) {
		out, err = net.ListenPacket("udp4", "")
		return err
	}); err != nil {
		return 0, err
	}
	defer out.Close()
	to := &net.UDPAddr{IP: net.ParseIP(c.addr), Port: 5002}
	low, high, best := slowest, fastest, 0.0
	for high/low > 1.06 {
		rate := (low + high) / 2
		if low*4 < high {
			rate = low * 2
		}
		delivered, lost, err := sink.try(out, to, rate)
		if err == nil && lost > allowedLoss { // once more: the machine may have been busy elsewhere
			delivered, lost, err = sink.try(out, to, rate)
		}
		if err != nil {
			return 0, err
		}
		if lost <= allowedLoss {
			low, best = rate, max(best, delivered)
			if delivered < rate*0.95 { // the sender itself is not faster
				break
			}
		} else {
			high = rate
		}
	}
	return best / 1000, nil
}

// sink counts the datagrams of the current trial.
type sink struct {
	conn  net.PacketConn
	trial atomic.Uint32
	count atomic.Int64
}

func newSink(c *contender) (*sink, error) {
	s := &sink{}
	err := c.to.Do(func() (err error) {
		s.conn, err = net.ListenPacket("udp4", ":5002")
		return err
	})
	if err != nil {
		return nil, err
	}
	_ = s.conn.(*net.UDPConn).SetReadBuffer(8 << 20)
	go s.receive()
	return s, nil
}

func (s *sink) receive() {
	p := ipv4.NewPacketConn(s.conn)
	msgs := batch(128)
	for {
		n, err := p.ReadBatch(msgs, 0)
		if err != nil {
			return
		}
		now := byte(s.trial.Load())
		for _, m := range msgs[:n] {
			if m.Buffers[0][0] == now {
				s.count.Add(1)
			}
		}
	}
}

func batch(n int) []ipv4.Message {
	msgs := make([]ipv4.Message, n)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{make([]byte, smallSize)}
	}
	return msgs
}

// try sends at a rate for a while and tells how many arrived per second, and
// which part was lost.
func (s *sink) try(out net.PacketConn, to net.Addr, rate float64) (delivered, lost float64, err error) {
	s.trial.Add(1)
	s.count.Store(0)
	msgs := batch(burst)
	for i := range msgs {
		msgs[i].Addr = to
		msgs[i].Buffers[0][0] = byte(s.trial.Load())
	}
	p := ipv4.NewPacketConn(out)
	began := time.Now()
	sent := 0
	pause := time.NewTicker(50 * time.Microsecond)
	defer pause.Stop()
	for time.Since(began) < trial {
		due := min(int(time.Since(began).Seconds()*rate)-sent, burst)
		if due < 1 {
			<-pause.C
			continue
		}
		n, err := p.WriteBatch(msgs[:due], 0)
		if err != nil {
			return 0, 0, fmt.Errorf("send: %w", err)
		}
		sent += n
	}
	took := time.Since(began).Seconds()
	s.drain(sent)
	got := float64(s.count.Load())
	return got / took, 1 - got/float64(sent), nil
}

// drain waits until all have arrived or nothing has for a while.
func (s *sink) drain(sent int) {
	const quiet = 60 * time.Millisecond
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for last := int64(-1); ; {
		now := s.count.Load()
		if now == last || now >= int64(sent) {
			return
		}
		last = now
		<-tick.C
	}
}
