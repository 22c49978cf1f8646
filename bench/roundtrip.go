package main

import (
	"fmt"
	"net/netip"
	goruntime "runtime"
	"slices"
	"time"

	"weave/netns-tests/lab"

	"golang.org/x/sys/unix"
)

const (
	pingPongPort = 5003
	pingPongs    = 10_000
	warmUp       = 500 // not counted
)

// roundTrips measures request and answer of 64 bytes over TCP, one at a time,
// with blocking system calls on threads of their own: the scheduler of Go has
// no part in it.
func roundTrips(c *contender) (p50, p99 time.Duration, err error) {
	ready := make(chan error, 1)
	go answer(c.to, ready)
	if err := <-ready; err != nil {
		return 0, 0, err
	}
	times := make([]time.Duration, 0, pingPongs)
	err = c.from.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		to := &unix.SockaddrInet4{Port: pingPongPort, Addr: netip.MustParseAddr(c.addr).As4()}
		if err := unix.Connect(s, to); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		if err := unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
		buf := make([]byte, smallSize)
		for i := range pingPongs + warmUp {
			began := time.Now()
			if _, err := unix.Write(s, buf); err != nil {
				return err
			}
			if err := readFull(s, buf); err != nil {
				return err
			}
			if i >= warmUp {
				times = append(times, time.Since(began))
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("round trips: %w", err)
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)*99/100], nil
}

// answer serves one connection by sending back what arrives.
func answer(n *lab.NS, ready chan<- error) {
	goruntime.LockOSThread()
	err := n.Do(func() error {
		l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(l)
		err = unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err == nil {
			err = unix.Bind(l, &unix.SockaddrInet4{Port: pingPongPort})
		}
		if err == nil {
			err = unix.Listen(l, 1)
		}
		if err != nil {
			return err
		}
		ready <- nil
		s, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err != nil {
			return nil
		}
		defer unix.Close(s)
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		buf := make([]byte, smallSize)
		for readFull(s, buf) == nil {
			if _, err := unix.Write(s, buf); err != nil {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		ready <- err
	}
}

func readFull(s int, buf []byte) error {
	for got := 0; got < len(buf); {
		n, err := unix.Read(s, buf[got:])
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("closed")
		}
		got += n
	}
	return nil
}
