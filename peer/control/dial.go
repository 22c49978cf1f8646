package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ParseTarget splits what users give as a peer: host, host:port, an IPv6
// address with or without brackets. port is used where none is given.
func ParseTarget(target string, port uint16) (host string, _ uint16, _ error) {
	malformed := fmt.Errorf("invalid peer name %q, should be host[:port]", target)
	if target == "" || strings.ContainsAny(target, " \t\r\n/") {
		return "", 0, malformed
	}
	bare := target
	if strings.HasPrefix(target, "[") && strings.HasSuffix(target, "]") {
		bare = target[1 : len(target)-1]
	}
	if addr, err := netip.ParseAddr(bare); err == nil {
		return addr.String(), port, nil
	}
	if !strings.Contains(target, ":") {
		return target, port, nil
	}
	host, p, err := net.SplitHostPort(target)
	if err != nil || host == "" {
		return "", 0, malformed
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", 0, malformed
	}
	return host, uint16(n), nil
}

// dial connects to one target, trying its addresses in turn, and serves the
// connection.
func (t *Transport) dial(ctx context.Context, target string) {
	addrs, err := t.resolve(ctx, target)
	if err != nil {
		t.emit(DialFailed{Target: target, Err: err})
		return
	}
	failed := &DialError{}
	for _, addr := range addrs {
		tcp, s, err := t.connectAny(ctx, addr)
		if err == nil {
			t.serve(tcp, target, s)
			return
		}
		if ctx.Err() != nil {
			return
		}
		failed.Errs = append(failed.Errs, err)
	}
	t.emit(DialFailed{Target: target, Err: failed})
}

// resolve looks a target up, anew each time: names move.
func (t *Transport) resolve(ctx context.Context, target string) ([]netip.AddrPort, error) {
	host, port, err := ParseTarget(target, t.cfg.Port)
	if err != nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.limits.Dial)
	defer cancel()
	found, err := t.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) {
			return nil, fmt.Errorf("cannot resolve peer name %q: %s", host, dns.Err)
		}
		return nil, fmt.Errorf("cannot resolve peer name %q: %w", host, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("cannot resolve peer name %q: it has no addresses", host)
	}
	addrs := make([]netip.AddrPort, 0, len(found))
	for _, a := range found {
		addrs = append(addrs, netip.AddrPortFrom(a.Unmap(), port))
	}
	return addrs, nil
}

// connectAny connects with the first of our PSKs that the other end holds.
func (t *Transport) connectAny(ctx context.Context, addr netip.AddrPort) (tcp *net.TCPConn, s session, err error) {
	for _, psk := range *t.psks.Load() {
		if tcp, s, err = t.connect(ctx, addr, psk); !errors.Is(err, ErrPassword) {
			break
		}
	}
	return tcp, s, err
}

// connect makes a TCP connection and shakes hands.
func (t *Transport) connect(ctx context.Context, addr netip.AddrPort, psk [32]byte) (*net.TCPConn, session, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	local := &net.TCPAddr{} // named even if unset: error texts show ":0->", as users know them
	if from := t.cfg.Source; from.IsValid() && from.Unmap().Is4() == addr.Addr().Is4() {
		local = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.Unmap(), 0))
	}
	d := net.Dialer{Timeout: t.limits.Dial, LocalAddr: local}
	conn, err := d.DialContext(ctx, network, addr.String())
	if err != nil {
		return nil, session{}, err
	}
	tcp := conn.(*net.TCPConn)
	s, err := t.shake(ctx, tcp, [][32]byte{psk}, true)
	if err != nil {
		_ = tcp.Close()
		return nil, session{}, err
	}
	return tcp, s, nil
}
