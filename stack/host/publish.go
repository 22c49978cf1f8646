package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"syscall"
)

// Publish listens on a real address of the host, and connects each client to a target on the overlay. network is "tcp" or
// "udp". An unspecified address is every address of that family; port 0 is any free one, which Forward.Addr tells. On a
// host with several addresses a UDP answer leaves by the one that the kernel prefers, so publish UDP on a certain address there.
func (h *Host) Publish(network string, at netip.AddrPort, target Target) (*Forward, error) {
	fail := func(err error) (*Forward, error) {
		return nil, fmt.Errorf("publish %s %v: %w", network, at, explain(err, at))
	}
	switch {
	case h.ended.Load():
		return fail(ErrClosed)
	case !at.IsValid():
		return fail(errors.New("address is missing"))
	}
	var f *Forward
	var err error
	switch network {
	case "tcp":
		var l net.Listener
		if l, err = net.Listen(family(network, at.Addr()), at.String()); err != nil {
			return fail(err)
		}
		f, err = h.forwardTCP(l, target, h.dialOverlay)
	case "udp":
		var pc net.PacketConn
		if pc, err = net.ListenPacket(family(network, at.Addr()), at.String()); err != nil {
			return fail(err)
		}
		f, err = h.forwardUDP(pc, target, h.dialOverlay)
	default:
		err = errNetwork
	}
	if err != nil {
		return fail(err)
	}
	return f, nil
}

// Import listens on an address of the Host on the overlay, and connects each client to a target that the host reaches: itself, or
// something in its network. network is "tcp" or "udp".
func (h *Host) Import(network string, at netip.AddrPort, target Target) (*Forward, error) {
	fail := func(err error) (*Forward, error) { return nil, fmt.Errorf("import %s %v: %w", network, at, err) }
	var f *Forward
	switch network {
	case "tcp":
		l, err := h.ListenTCP(at)
		if err != nil {
			return fail(err)
		}
		if f, err = h.forwardTCP(l, target, dialReal); err != nil {
			return fail(err)
		}
	case "udp":
		pc, err := h.ListenUDP(at)
		if err != nil {
			return fail(err)
		}
		if f, err = h.forwardUDP(pc, target, dialReal); err != nil {
			return fail(err)
		}
	default:
		return fail(errNetwork)
	}
	return f, nil
}

var errNetwork = errors.New("the protocol must be tcp or udp")

func (h *Host) forwardTCP(l net.Listener, target Target, dial dialer) (*Forward, error) {
	f, err := h.newForward("tcp", l.Addr(), target, dial, func(f *Forward, ctx context.Context) { f.serveTCP(ctx, l) })
	if err != nil {
		l.Close()
	}
	return f, err
}

func (h *Host) forwardUDP(pc net.PacketConn, target Target, dial dialer) (*Forward, error) {
	f, err := h.newForward("udp", pc.LocalAddr(), target, dial, func(f *Forward, ctx context.Context) { f.serveUDP(ctx, pc) })
	if err != nil {
		pc.Close()
	}
	return f, err
}

// dialOverlay is the dialer of the overlay.
func (h *Host) dialOverlay(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if network == "udp" {
		return h.DialUDP(ctx, to)
	}
	c, err := h.DialTCP(ctx, to)
	if err != nil {
		return nil, err // not a nil *Conn in an interface
	}
	return c, nil
}

// dialReal is the dialer of the host's own sockets.
func dialReal(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, to.String())
}

// family makes "tcp" or "udp" mean only the family of a, so that :: does not take the IPv4 port too.
func family(network string, a netip.Addr) string {
	if a.Unmap().Is4() {
		return network + "4"
	}
	return network + "6"
}

// explain says what to do about a port that cannot be had.
func explain(err error, at netip.AddrPort) error {
	switch {
	case errors.Is(err, fs.ErrPermission) && at.Port() < 1024:
		return fmt.Errorf("%w (ports below net.ipv4.ip_unprivileged_port_start, usually 1024, are root's: publish on a higher one)", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w (another program listens there: publish on another port)", err)
	}
	return err
}
