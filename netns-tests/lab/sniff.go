package lab

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sniffer watches frames and counts those that contain a marker.
type Sniffer struct {
	tap    *Tap
	marker []byte
	done   chan struct{}

	mu     sync.Mutex
	counts Sniffed
}

// Sniffed is what a Sniffer saw.
type Sniffed struct {
	Frames, Bytes int
	Marked        int    // frames that contain the marker
	Sample        []byte // the first of them
	Lost          int    // frames the kernel could not hand over in time
}

// Sniff watches dev, or every link of the namespace when dev is "".
func (n *NS) Sniff(dev, marker string) (*Sniffer, error) {
	t, err := n.OpenTap(dev)
	if err != nil {
		return nil, err
	}
	s := &Sniffer{tap: t, marker: []byte(marker), done: make(chan struct{})}
	go s.run()
	return s, nil
}

func (s *Sniffer) run() {
	defer close(s.done)
	for {
		frame, err := s.tap.Next(time.Time{})
		if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EINTR) {
			continue // a link went down; others, or the same one later, go on
		}
		if err != nil {
			return
		}
		marked := bytes.Contains(frame, s.marker)
		s.mu.Lock()
		s.counts.Frames++
		s.counts.Bytes += len(frame)
		if marked {
			s.counts.Marked++
			if s.counts.Sample == nil {
				s.counts.Sample = bytes.Clone(frame)
			}
		}
		s.mu.Unlock()
	}
}

// Seen is what was seen until now.
func (s *Sniffer) Seen() Sniffed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Stop ends the watch and returns what was seen.
func (s *Sniffer) Stop() Sniffed {
	lost := 0
	if stats, err := unix.GetsockoptTpacketStats(s.tap.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		lost = int(stats.Drops)
	}
	_ = s.tap.Close()
	<-s.done
	got := s.Seen()
	got.Lost = lost
	return got
}
