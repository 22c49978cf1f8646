package main

import (
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	udpPort  = 5002
	burst    = 32    // datagrams per system call at most
	noLoss   = 0.001 // share lost that still counts as "without loss"
	someLoss = 0.01
	trial    = 400 * time.Millisecond
)

// datagrams finds the highest rates, in thousands per second, at which next to
// none and at most 1 % of the datagrams are lost.
func datagrams(name string, size int) func(*contender, options, *meter) (figures, error) {
	return func(c *contender, _ options, _ *meter) (figures, error) {
		sink, err := newSink(c, size)
		if err != nil {
			return nil, err
		}
		defer sink.conn.Close()
		var out net.PacketConn
		if err := c.from.Do(func() (err error) {
			out, err = net.ListenPacket("udp4", "")
			return err
		}); err != nil {
			return nil, err
		}
		defer out.Close()
		to := &net.UDPAddr{IP: net.ParseIP(c.addr), Port: udpPort}
		s := search{try: func(rate float64) attempt { return sink.try(out, to, rate) }}
		none, some := s.highest(noLoss), s.highest(someLoss)
		return figures{name + ".noloss": none / 1000, name: some / 1000}, nil
	}
}

// sink counts the datagrams of the current trial.
type sink struct {
	conn  net.PacketConn
	size  int
	trial atomic.Uint32
	count atomic.Int64
}

func newSink(c *contender, size int) (*sink, error) {
	s := &sink{size: size}
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
	msgs := batch(128, s.size)
	for {
		n, err := p.ReadBatch(msgs, 0)
		if err != nil {
			return
		}
		now := byte(s.trial.Load())
		mine := int64(0)
		for _, m := range msgs[:n] {
			if m.Buffers[0][0] == now {
				mine++
			}
		}
		s.count.Add(mine)
	}
}

func batch(n, size int) []ipv4.Message {
	msgs := make([]ipv4.Message, n)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{make([]byte, size)}
	}
	return msgs
}

// try sends at a rate for a while and tells how many arrived per second, and
// which share was lost. What the sending kernel refuses is lost as well.
func (s *sink) try(out net.PacketConn, to net.Addr, rate float64) attempt {
	s.trial.Add(1)
	s.count.Store(0)
	msgs := batch(burst, s.size)
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
			n = due
		}
		sent += n
	}
	took := time.Since(began).Seconds()
	s.drain(sent)
	got := float64(s.count.Load())
	return attempt{rate: rate, delivered: got / took, lost: 1 - got/float64(max(sent, 1))}
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
