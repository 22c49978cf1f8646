package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// evasions are how many free ports are tried until one is free for UDP and TCP.
const evasions = 8

// Listen opens n UDP sockets and a TCP one at an address of the host, with port 0
// at any one port. The kernel spreads clients over the UDP sockets. Another
// server may have the same port at all addresses: the UDP sockets get what is
// for this address, as long as it allows address reuse. The caller has them
// closed.
func Listen(ctx context.Context, at netip.AddrPort, n int) (packets []net.PacketConn, streams []net.Listener, err error) {
	for range evasions {
		packets, streams, err = listen(ctx, at, n)
		if at.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listen for names: %w", err)
	}
	return packets, streams, nil
}

func listen(ctx context.Context, at netip.AddrPort, n int) (packets []net.PacketConn, streams []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, c := range packets {
				_ = c.Close()
			}
		}
	}()
	cfg := net.ListenConfig{Control: reuse}
	for range n {
		c, err := cfg.ListenPacket(ctx, "udp", at.String())
		if err != nil {
			return packets, nil, err
		}
		packets = append(packets, c)
		at = netip.AddrPortFrom(at.Addr(), c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	}
	plain := net.ListenConfig{}
	l, err := plain.Listen(ctx, "tcp", at.String())
	if err != nil {
		return packets, nil, err
	}
	return packets, []net.Listener{l}, nil
}

func reuse(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20) // a burst of queries; as much as the host allows
	})
	return errors.Join(err, set)
}

// wantDestination has the kernel say which address a packet was for, so that the
// answer comes from there.
func wantDestination(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		if v4 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1); v4 == nil {
			set = nil
		}
	})
	return errors.Join(err, set)
}
