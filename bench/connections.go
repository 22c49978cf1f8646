package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"weave/netns-tests/lab"

	"golang.org/x/sys/unix"
)

const (
	connectPort    = 5004
	connectFor     = time.Second
	connectThreads = 4 // each has one connection at a time
)

// connections counts connections per second: connect, one byte there, one
// back, close. The server closes first, so that the client's ports are free
// again at once.
func connections(c *contender, _ options, _ *meter) (figures, error) {
	var l int
	if err := c.to.Do(func() (err error) { l, err = listenTCP(connectPort); return err }); err != nil {
		return nil, err
	}
	serve := together(c.to, func() error {
		for {
			s, err := accept(l)
			if err != nil {
				return nil // shut down below
			}
			one := make([]byte, 1)
			if readFull(s, one) == nil {
				_ = write(s, one)
			}
			_ = unix.Close(s)
		}
	})
	var done atomic.Int64
	began := time.Now()
	err := together(c.from, func() error {
		for time.Since(began) < connectFor {
			if err := connectOnce(c.addr); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})()
	took := time.Since(began).Seconds()
	_ = unix.Shutdown(l, unix.SHUT_RDWR)
	err = errors.Join(err, serve(), unix.Close(l))
	if err != nil {
		return nil, fmt.Errorf("connections, after %d: %w", done.Load(), err)
	}
	return figures{"cps": float64(done.Load()) / took}, nil
}

func connectOnce(addr string) error {
	s, err := dialTCP(addr, connectPort)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	one := []byte{1}
	if err := write(s, one); err != nil {
		return err
	}
	if err := readFull(s, one); err != nil {
		return err
	}
	if n, err := restart(func() (int, error) { return unix.Read(s, one) }); n != 0 || err != nil {
		return fmt.Errorf("no end of the connection: %d bytes, %w", n, err)
	}
	return nil
}

// together runs f on several threads inside a namespace; the function it
// returns waits for all.
func together(n *lab.NS, f func() error) (wait func() error) {
	ended := make(chan error, connectThreads)
	for range connectThreads {
		go func() { ended <- n.Do(f) }()
	}
	return func() error {
		var errs []error
		for range connectThreads {
			errs = append(errs, <-ended)
		}
		return errors.Join(errs...)
	}
}
