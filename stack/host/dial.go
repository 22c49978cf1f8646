package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Conn is a TCP connection over the overlay: a net.Conn with CloseRead and CloseWrite.
type Conn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

func newConn(wq *waiter.Queue, ep tcpip.Endpoint) *Conn {
	keepAlive(ep)
	return &Conn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}
}

// Abort closes the connection with a reset, so that the other end does not take what it has for all there was.
func (c *Conn) Abort() { c.ep.Abort() }

// keepAlive finds out when the other end is gone though the connection is silent. The numbers are Go's for sockets.
func keepAlive(ep tcpip.Endpoint) {
	idle, interval := tcpip.KeepaliveIdleOption(15*time.Second), tcpip.KeepaliveIntervalOption(15*time.Second)
	_ = ep.SetSockOpt(&idle) // they cannot fail for TCP
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, 9)
	ep.SocketOptions().SetKeepAlive(true)
}

// DialTCP connects to an address on the overlay. It gives up when ctx ends.
func (h *Host) DialTCP(ctx context.Context, to netip.AddrPort) (*Conn, error) {
	fail := func(err error) (*Conn, error) { return nil, fmt.Errorf("dial tcp %v: %w", to, err) }
	if err := h.usable(ctx, to); err != nil {
		return fail(err)
	}
	var wq waiter.Queue
	ep, terr := h.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr().Unmap()), &wq)
	if terr != nil {
		return fail(asError(terr))
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr = ep.Connect(fullAddress(to))
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ready:
			terr = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			return fail(ctx.Err())
		case <-h.ctx.Done():
			ep.Abort()
			return fail(ErrClosed)
		}
	}
	if terr != nil {
		ep.Close()
		return fail(asError(terr))
	}
	return newConn(&wq, ep), nil
}

// DialUDP makes a UDP connection to an address on the overlay. It is a net.Conn, and what comes from elsewhere is not seen. An
// unreachable port shows as an error of a later Read or Write.
func (h *Host) DialUDP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if err := h.usable(ctx, to); err != nil {
		return nil, fmt.Errorf("dial udp %v: %w", to, err)
	}
	remote := fullAddress(to)
	c, err := gonet.DialUDP(h.stack, nil, &remote, protocolOf(to.Addr().Unmap()))
	if err != nil {
		return nil, fmt.Errorf("dial udp %v: %w", to, err)
	}
	return c, nil
}

// ListenTCP accepts connections at one of the Host's addresses; the unspecified address of a family stands for all of that
// family, those of later included. Port 0 is any free one. Closing the listener leaves accepted connections alone.
func (h *Host) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) { return nil, fmt.Errorf("listen tcp %v: %w", at, err) }
	if err := h.local(at); err != nil {
		return fail(err)
	}
	l := &listener{done: make(chan struct{})}
	ep, err := h.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(at.Addr()), &l.wq)
	if err != nil {
		return fail(asError(err))
	}
	l.ep = ep
	ep.SocketOptions().SetV6Only(true)
	if err = ep.Bind(fullAddress(at)); err == nil {
		err = ep.Listen(backlog)
	}
	if err != nil {
		ep.Close()
		return fail(asError(err))
	}
	return l, nil
}

// ListenUDP receives datagrams at one of the Host's addresses; see ListenTCP for the rest.
func (h *Host) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	if err := h.local(at); err != nil {
		return nil, fmt.Errorf("listen udp %v: %w", at, err)
	}
	local := fullAddress(at)
	c, err := gonet.DialUDP(h.stack, &local, nil, protocolOf(at.Addr()))
	if err != nil {
		return nil, fmt.Errorf("listen udp %v: %w", at, err)
	}
	return c, nil
}

func (h *Host) usable(ctx context.Context, to netip.AddrPort) error {
	switch {
	case h.ended.Load():
		return ErrClosed
	case !to.IsValid() || to.Port() == 0 || to.Addr().IsUnspecified():
		return errors.New("address or port is missing")
	}
	return ctx.Err()
}

func (h *Host) local(at netip.AddrPort) error {
	switch {
	case h.ended.Load():
		return ErrClosed
	case !at.IsValid():
		return errors.New("address is missing")
	case !at.Addr().IsUnspecified() && !h.addrs.Load().own(at.Addr().WithZone("")):
		return fmt.Errorf("the host has no address %v on the overlay", at.Addr())
	}
	return nil
}

// fullAddress is an address and port as netstack has them. It takes no address for any.
func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	addr := a.Addr().Unmap()
	full := tcpip.FullAddress{Port: a.Port()}
	if !addr.IsUnspecified() {
		full.Addr = toAddress(addr)
	}
	if addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast() {
		full.NIC = nicID
	}
	return full
}

// asError is netstack's error as Go's callers know it from sockets.
func asError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrPortInUse:
		return syscall.EADDRINUSE
	}
	return errors.New(err.String())
}
