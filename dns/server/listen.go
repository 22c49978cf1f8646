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
	return ListenAt(ctx, at, n, "")
}

// ListenAt is Listen with as many sockets more that are bound to a device, unless that is "". They get what comes in by it, and
// their answers leave by it whatever the host's routes say, on the link where these know of no client; the others get what
// comes in elsewhere.
func ListenAt(ctx context.Context, at netip.AddrPort, n int, device string) (packets []net.PacketConn, streams []net.Listener, err error) {
	for range evasions {
		packets, streams, err = listen(ctx, at, n, device)
		if at.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listen for names: %w", err)
	}
	return packets, streams, nil
}

func listen(ctx context.Context, at netip.AddrPort, n int, device string) (packets []net.PacketConn, streams []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, c := range packets {
				_ = c.Close()
			}
			for _, l := range streams {
				_ = l.Close()
			}
		}
	}()
	devices := []string{""}
	if device != "" {
		devices = append(devices, device)
	}
	for _, d := range devices {
		cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return reuse(c, d) }}
		for range n {
			c, err := cfg.ListenPacket(ctx, "udp", at.String())
			if err != nil {
				return packets, streams, err
			}
			packets = append(packets, c)
			at = netip.AddrPortFrom(at.Addr(), c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		}
		if device == "" {
			cfg.Control = nil // a port of TCP is had alone
		}
		l, err := cfg.Listen(ctx, "tcp", at.String())
		if err != nil {
			return packets, streams, err
		}
		streams = append(streams, l)
	}
	return packets, streams, nil
}

// reuse lets sockets share a port, and binds them to a device, unless that is "".
func reuse(c syscall.RawConn, device string) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		)
		if device != "" {
			set = errors.Join(set, unix.BindToDevice(int(fd), device))
		}
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
