package link

import (
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// configure sets the options of a socket that is not bound yet. Only those
// that correctness rests on can fail; offloads and buffers are what the kernel
// grants.
func (s *Socket) configure(fd int, cfg Config) error {
	if err := neverFragment(fd, s.v6); err != nil {
		return err
	}
	if cfg.Reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("share port: %w", err)
		}
	}
	s.granted.RecvBuffer = setBuffer(fd, cfg.RecvBuffer, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE)
	s.granted.SendBuffer = setBuffer(fd, cfg.SendBuffer, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE)
	if !cfg.DisableGSO {
		_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		s.granted.GSO = err == nil
	}
	if !cfg.DisableGRO {
		s.granted.GRO = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	}
	return nil
}

// neverFragment sets "do not fragment" and makes the kernel refuse, with
// EMSGSIZE, what is larger than the path (ip(7), ipv6(7)).
func neverFragment(fd int, v6 bool) error {
	level, option, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if v6 {
		level, option, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return fmt.Errorf("forbid fragmentation: %w", err)
	}
	return nil
}

// setBuffer asks for a buffer of want bytes, past the host's limit if we may,
// and returns what there is. The kernel doubles the figure for its bookkeeping
// (socket(7)); the half is what was asked for.
func setBuffer(fd, want, option, force int) int {
	if want > 0 && unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, want) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, want)
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return got / 2
}

// PathMTU is the IP-level MTU towards to, in bytes, as the kernel knows it: the
// interface's, or less after the network said so. It costs a transient socket
// and sends nothing.
func (s *Socket) PathMTU(to netip.AddrPort) (int, error) {
	mtu, err := s.pathMTU(to)
	if err != nil {
		return 0, fmt.Errorf("path mtu to %s: %w", to.Addr(), err)
	}
	return mtu, nil
}

func (s *Socket) pathMTU(to netip.AddrPort) (int, error) {
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU
	if s.v6 {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	if !to.Addr().IsValid() || to.Addr().Unmap().Is6() != s.v6 {
		return 0, unix.EAFNOSUPPORT
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := neverFragment(fd, s.v6); err != nil {
		return 0, err
	}
	if from := s.bind.Addr(); !from.IsUnspecified() {
		if err := unix.Bind(fd, s.unixAddr(netip.AddrPortFrom(from, 0))); err != nil {
			return 0, err
		}
	}
	if err := unix.Connect(fd, s.unixAddr(to)); err != nil {
		return 0, err
	}
	return unix.GetsockoptInt(fd, level, option)
}

func (s *Socket) unixAddr(a netip.AddrPort) unix.Sockaddr {
	if !s.v6 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	var z zones
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: z.index(a.Addr().Zone())}
}

// onFD runs f on the descriptor behind c.
func onFD(c syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
