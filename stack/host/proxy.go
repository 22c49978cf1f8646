package host

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// handshakeTime bounds how long a program may take to say what it wants.
const handshakeTime = 10 * time.Second

// ProxyConfig says for whom a Proxy works and what names mean.
type ProxyConfig struct {
	// Resolve finds the addresses of names. nil knows none: programs must give addresses.
	Resolve Resolver
	// User and Password, if Password is not empty, must be given by programs (RFC 1929 with SOCKS5, Basic with HTTP). Without
	// one, whoever can connect to the listener may use the Proxy: on 127.0.0.1 that is every user of the machine.
	User, Password string
}

// Proxy lets programs of the host connect to the overlay: by SOCKS5 (RFC 1928, CONNECT only) and HTTP (CONNECT, and plain requests
// for http:// URLs), told apart by the first byte.
type Proxy struct {
	h      *Host
	cfg    ProxyConfig
	addr   net.Addr
	cancel context.CancelFunc
	done   chan struct{}
}

// Proxy serves connections of l, which becomes the Proxy's, until Close or the end of the Host. They must have CloseWrite, as those
// of TCP and unix sockets do.
func (h *Host) Proxy(l net.Listener, cfg ProxyConfig) (*Proxy, error) {
	ctx, cancel := context.WithCancel(h.ctx)
	p := &Proxy{h: h, cfg: cfg, addr: l.Addr(), cancel: cancel, done: make(chan struct{})}
	slots := make(chan struct{}, h.limits.Conns)
	if !h.start(func(context.Context) {
		defer close(p.done)
		defer cancel()
		acceptUntil(ctx, l, slots, &h.count, func(c net.Conn) { p.serve(ctx, c) })
	}) {
		cancel()
		l.Close()
		return nil, fmt.Errorf("serve proxy: %w", ErrClosed)
	}
	return p, nil
}

// Addr is where the Proxy listens.
func (p *Proxy) Addr() net.Addr { return p.addr }

// Close ends the Proxy and the connections that it carries, and waits for that.
func (p *Proxy) Close() error {
	p.cancel()
	<-p.done
	return nil
}

// serve speaks with one program, whose connection it closes.
func (p *Proxy) serve(ctx context.Context, c net.Conn) {
	s, ok := c.(stream)
	if !ok {
		c.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { abort(c) })
	defer stop()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(handshakeTime))
	b := &buffered{stream: s}
	b.limit.R, b.limit.N = s, maxHead
	b.r = bufio.NewReader(&b.limit)
	first, err := b.r.Peek(1)
	switch {
	case err != nil:
	case first[0] == socksVersion:
		p.serveSOCKS(ctx, b)
	case first[0] == 4:
		_, _ = c.Write([]byte{0, 0x5b, 0, 0, 0, 0, 0, 0}) // SOCKS4: request rejected
	default:
		p.serveHTTP(ctx, b)
	}
}

// carry joins a program with what it asked for, when the talk before that is over.
func (p *Proxy) carry(ctx context.Context, b *buffered, out stream) {
	_ = b.SetDeadline(time.Time{})
	b.limit.N = 1<<63 - 1
	p.h.count.conns.Add(1)
	splice(ctx, b, out)
}

// dial connects to a host, a name or an address, on the overlay.
func (p *Proxy) dial(ctx context.Context, host string, port uint16) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.h.limits.DialTimeout)
	defer cancel()
	addrs, err := p.resolve(ctx, host, port)
	if err == nil {
		var c net.Conn
		if c, err = dialFirst(ctx, "tcp", addrs, p.h.dialOverlay); err == nil {
			return c.(*Conn), nil
		}
	}
	p.h.count.connsFailed.Add(1)
	return nil, err
}

var errNoName = errors.New("no such name on the overlay")

func (p *Proxy) resolve(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), port)}, nil
	}
	if p.cfg.Resolve == nil {
		return nil, fmt.Errorf("%q: %w", host, errNoName)
	}
	addrs, err := p.cfg.Resolve(ctx, strings.TrimSuffix(host, "."))
	if err != nil {
		return nil, fmt.Errorf("%q: %w: %w", host, errNoName, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%q: %w", host, errNoName)
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a, port))
	}
	return out, nil
}

// admits compares what a program says with the password, in a time that does not tell how much of it is right.
func (p *Proxy) admits(user, password string) bool {
	same := subtle.ConstantTimeCompare([]byte(user), []byte(p.cfg.User))
	return same&subtle.ConstantTimeCompare([]byte(password), []byte(p.cfg.Password)) == 1
}
