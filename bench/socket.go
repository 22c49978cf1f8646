package main

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Plain blocking sockets, used on threads of their own: the scheduler of Go
// has no part in what is measured with them. No call blocks for longer than
// patience, so that a contender that breaks cannot hold up the others.
const patience = 5 // seconds

func listenTCP(port int) (int, error) {
	s, err := tcpSocket()
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(s, &unix.SockaddrInet4{Port: port})
	}
	if err == nil {
		err = unix.Listen(s, 128)
	}
	if err != nil {
		_ = unix.Close(s)
	}
	return s, err
}

func dialTCP(addr string, port int) (int, error) {
	s, err := tcpSocket()
	if err != nil {
		return -1, err
	}
	err = unix.Connect(s, &unix.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(addr).As4()})
	if err == unix.EINTR {
		err = connected(s)
	}
	if err != nil {
		_ = unix.Close(s)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return s, nil
}

// connected waits for a connect that a signal interrupted; the kernel goes on
// with it all the same.
func connected(s int) error {
	n, err := restart(func() (int, error) {
		return unix.Poll([]unix.PollFd{{Fd: int32(s), Events: unix.POLLOUT}}, patience*1000)
	})
	if err != nil {
		return err
	}
	if n == 0 {
		return unix.ETIMEDOUT
	}
	errno, err := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}

// restart repeats a system call as long as signals interrupt it. The kernel
// does not by itself where a socket has a time limit.
func restart(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

func accept(l int) (int, error) {
	return restart(func() (int, error) {
		s, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		return s, err
	})
}

func write(s int, buf []byte) error {
	_, err := restart(func() (int, error) { return unix.Write(s, buf) })
	return err
}

func tcpSocket() (int, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := unix.Timeval{Sec: patience}
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} { // accept and connect heed them too
		if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, opt, &limit); err != nil {
			_ = unix.Close(s)
			return -1, err
		}
	}
	return s, unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// readFull blocks until buf is full.
func readFull(s int, buf []byte) error {
	for got := 0; got < len(buf); {
		n, err := restart(func() (int, error) { return unix.Read(s, buf[got:]) })
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
