package link

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrFamily says that the host has no such address family, which for IPv6 is
// nothing out of the ordinary: the caller goes on without.
var ErrFamily = errors.New("address family not available on this host")

// Config is what a Socket is made of.
type Config struct {
	Network    string         // "udp4" or "udp6"; "udp6" never carries IPv4
	Bind       netip.AddrPort // zero address: all addresses of the family; port 0: any
	RecvBuffer int            // bytes wanted for the kernel's receive buffer; 0: the host's default
	SendBuffer int            // bytes wanted for the kernel's send buffer; 0: the host's default
	Reuse      bool           // SO_REUSEPORT: several sockets share the port, the kernel spreads flows
	DisableGSO bool           // never hand runs to the kernel
	DisableGRO bool           // never accept runs from the kernel
	Log        *slog.Logger   // nil: silent
}

// A Socket is one bound UDP socket. Its methods may be called concurrently.
//
// Its descriptor is kept out of the poller of Go's runtime, which would wake a
// thread at every datagram only to find that nobody waits there: Receivers and
// their callers wait with poll(2) themselves.
type Socket struct {
	file *os.File // not in the poller of Go's runtime: see Socket
	raw  syscall.RawConn
	bind netip.AddrPort // as bound, for PathMTU's probes
	v6   bool

	granted Granted
	count   counters
}

// Stats is a snapshot of a Socket. Counts are datagrams unless said otherwise
// and never decrease.
type Stats struct {
	Received, ReceivedBytes uint64
	ReceiveCalls            uint64 // recvmmsg calls that brought something
	ReceiveErrors           uint64 // soft errors the kernel reported on receive
	Truncated               uint64 // received runs without a usable address, size or length: dropped
	Sent, SentBytes         uint64
	SendCalls               uint64 // sendmmsg calls
	SendErrors              uint64 // not sent, for a reason other than those below
	TooBig                  uint64 // not sent: larger than the path
	Stalled                 uint64 // not sent: the send buffer stayed full
	GSORefused              uint64 // runs the kernel would not cut: sent one by one
	Granted
}

// Granted is what the kernel let a Socket have.
type Granted struct {
	RecvBuffer, SendBuffer int  // bytes
	GSO, GRO               bool // offloads in use
}

type counters struct {
	received, receivedBytes, receiveCalls, receiveErrors, truncated atomic.Uint64

	_ [64]byte // receivers and senders run on different CPUs

	sent, sentBytes, sendCalls, sendErrors, tooBig, stalled, gsoRefused atomic.Uint64
}

// Listen binds a socket. The error wraps ErrFamily when the host lacks the
// family.
func Listen(cfg Config) (*Socket, error) {
	s := &Socket{v6: cfg.Network == "udp6"}
	if cfg.Network != "udp4" && cfg.Network != "udp6" {
		return nil, fmt.Errorf("listen: unknown network %q, want udp4 or udp6", cfg.Network)
	}
	bind := cfg.Bind
	if !bind.Addr().IsValid() {
		bind = netip.AddrPortFrom(unspecified(s.v6), bind.Port())
	}
	if bind.Addr().Unmap().Is6() != s.v6 {
		return nil, fmt.Errorf("listen %s: address %s is of the other family", cfg.Network, bind.Addr())
	}
	if err := s.open(bind, cfg); err != nil {
		return nil, listenError(cfg.Network, err)
	}
	if g := s.granted; cfg.Log != nil && (g.RecvBuffer < cfg.RecvBuffer || g.SendBuffer < cfg.SendBuffer) {
		cfg.Log.Info("socket buffers smaller than wanted", "network", cfg.Network,
			"receive", g.RecvBuffer, "receive_wanted", cfg.RecvBuffer,
			"send", g.SendBuffer, "send_wanted", cfg.SendBuffer)
	}
	return s, nil
}

// open makes, configures and binds the socket.
func (s *Socket) open(bind netip.AddrPort, cfg Config) error {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if s.v6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = s.configure(fd, cfg)
	}
	if err == nil {
		if err = unix.Bind(fd, s.unixAddr(bind)); err != nil {
			err = fmt.Errorf("bind %v: %w", bind, err)
		}
	}
	if err == nil {
		s.bind, err = boundTo(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	s.file = os.NewFile(uintptr(fd), cfg.Network)
	s.raw, err = s.file.SyscallConn()
	return err
}

// boundTo asks the kernel for a socket's own address.
func boundTo(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(n.Addr), uint16(n.Port)), nil
	case *unix.SockaddrInet6:
		a := netip.AddrFrom16(n.Addr)
		if n.ZoneId != 0 {
			a = a.WithZone(strconv.FormatUint(uint64(n.ZoneId), 10))
		}
		return netip.AddrPortFrom(a, uint16(n.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("getsockname: %T", name)
}

// listenError marks the errors that mean a missing family.
func listenError(network string, err error) error {
	for _, errno := range []error{unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.EADDRNOTAVAIL} {
		if errors.Is(err, errno) && (errno != unix.EADDRNOTAVAIL || !haveFamily(network)) {
			return fmt.Errorf("listen %s: %w: %w", network, ErrFamily, err)
		}
	}
	return fmt.Errorf("listen %s: %w", network, err)
}

// haveFamily says whether any interface has an address of the network's
// family. With IPv6 switched off by sysctl sockets can be made but not bound.
func haveFamily(network string) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && (n.IP.To4() == nil) == (network == "udp6") {
			return true
		}
	}
	return false
}

// LocalPort is the port the socket is bound to.
func (s *Socket) LocalPort() uint16 { return s.bind.Port() }

// LocalAddr is the address and port the socket is bound to.
func (s *Socket) LocalAddr() netip.AddrPort { return s.bind }

// Close closes the socket. It does not wake who waits for it with poll(2).
func (s *Socket) Close() error { return s.file.Close() }

// Control runs f on the descriptor, which stays open meanwhile. It is for
// poll(2): the socket is ready to read when a Receiver finds something. The
// error says that the socket is closed.
func (s *Socket) Control(f func(fd uintptr)) error {
	if s.raw.Control(f) != nil {
		return net.ErrClosed
	}
	return nil
}

// Stats reads the counters; they are not read as one instant.
func (s *Socket) Stats() Stats {
	c := &s.count
	return Stats{
		Received: c.received.Load(), ReceivedBytes: c.receivedBytes.Load(),
		ReceiveCalls: c.receiveCalls.Load(), ReceiveErrors: c.receiveErrors.Load(),
		Truncated: c.truncated.Load(),
		Sent:      c.sent.Load(), SentBytes: c.sentBytes.Load(), SendCalls: c.sendCalls.Load(),
		SendErrors: c.sendErrors.Load(), TooBig: c.tooBig.Load(), Stalled: c.stalled.Load(),
		GSORefused: c.gsoRefused.Load(),
		Granted:    s.granted,
	}
}

func unspecified(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
