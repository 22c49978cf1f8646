package main

import (
	"fmt"
	goruntime "runtime"
	"slices"
	"time"

	"weave/netns-tests/lab"

	"golang.org/x/sys/unix"
)

const (
	pingPongPort = 5003
	pingPongSize = 64
	pingPongs    = 10_000
	pingPongFor  = 3 * time.Second // at most
	warmUp       = 50 * time.Millisecond
	fewest       = 1000 // round trips for a 99.9th percentile
)

// roundTrips measures request and answer of 64 bytes over TCP, one at a time.
func roundTrips(c *contender, _ options, _ *meter) (figures, error) {
	ready := make(chan error, 1)
	go answer(c.to, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	var times []time.Duration
	err := c.from.Do(func() error {
		s, err := dialTCP(c.addr, pingPongPort)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		times, err = pingPong(s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("round trips: %w", err)
	}
	slices.Sort(times)
	got := figures{"p50": micro(quantile(times, 0.5)), "p99": micro(quantile(times, 0.99))}
	if len(times) >= fewest {
		got["p999"] = micro(quantile(times, 0.999))
	}
	return got, nil
}

func pingPong(s int) ([]time.Duration, error) {
	times := make([]time.Duration, 0, pingPongs)
	buf := make([]byte, pingPongSize)
	for start := time.Now(); len(times) < pingPongs && time.Since(start) < pingPongFor; {
		began := time.Now()
		if err := write(s, buf); err != nil {
			return nil, err
		}
		if err := readFull(s, buf); err != nil {
			return nil, err
		}
		if began.Sub(start) > warmUp {
			times = append(times, time.Since(began))
		}
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("no answer after warming up")
	}
	return times, nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// quantile of sorted values: the smallest that is not below a share q of them.
func quantile[T any](sorted []T, q float64) T {
	i := int(q * float64(len(sorted)))
	return sorted[min(i, len(sorted)-1)]
}

// answer serves one connection by sending back what arrives.
func answer(n *lab.NS, ready chan<- error) {
	goruntime.LockOSThread()
	err := n.Do(func() error {
		l, err := listenTCP(pingPongPort)
		if err != nil {
			return err
		}
		defer unix.Close(l)
		ready <- nil
		s, err := accept(l)
		if err != nil {
			return nil // the other side says what is wrong
		}
		defer unix.Close(s)
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		buf := make([]byte, pingPongSize)
		for readFull(s, buf) == nil {
			if err := write(s, buf); err != nil {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		ready <- err
	}
}
