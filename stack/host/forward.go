package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Resolver finds the addresses of a name. It may be called by any goroutine.
type Resolver func(ctx context.Context, name string) ([]netip.Addr, error)

// Target finds where a Forward connects to, for every connection anew; of several the first that answers is taken. It may be
// called by any goroutine.
type Target func(ctx context.Context) ([]netip.AddrPort, error)

// To is the Target that is always the same.
func To(a netip.AddrPort) Target {
	return func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{a}, nil }
}

// Named is the Target with a name.
func Named(resolve Resolver, name string, port uint16) Target {
	return func(ctx context.Context) ([]netip.AddrPort, error) {
		addrs, err := resolve(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(addrs) == 0 {
			return nil, fmt.Errorf("%s has no address", name)
		}
		var out []netip.AddrPort
		for _, a := range addrs {
			out = append(out, netip.AddrPortFrom(a, port))
		}
		return out, nil
	}
}

// dialer connects on one side of the Host.
type dialer func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)

// Forward listens on one side of the Host and connects to the other. Its methods may be called by any goroutine.
type Forward struct {
	h       *Host
	network string // "tcp" or "udp"
	addr    netip.AddrPort
	target  Target
	dial    dialer
	slots   chan struct{} // one for each connection
	cancel  context.CancelFunc
	done    chan struct{}
}

// newForward makes a Forward that serves l or pc, which becomes its own.
func (h *Host) newForward(network string, at net.Addr, target Target, dial dialer, serve func(f *Forward, ctx context.Context)) (*Forward, error) {
	f := &Forward{
		h: h, network: network, addr: addrPort(at), target: target, dial: dial,
		slots: make(chan struct{}, h.limits.Conns), done: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(h.ctx)
	f.cancel = cancel
	if !h.start(func(context.Context) {
		defer close(f.done)
		defer cancel()
		serve(f, ctx)
	}) {
		cancel()
		return nil, ErrClosed
	}
	return f, nil
}

// Network is "tcp" or "udp".
func (f *Forward) Network() string { return f.network }

// Addr is where the Forward listens.
func (f *Forward) Addr() netip.AddrPort { return f.addr }

// Close ends the Forward and the connections that it carries, and waits for that.
func (f *Forward) Close() error {
	f.cancel()
	<-f.done
	return nil
}

// connect dials the target's addresses, one after the other.
func (f *Forward) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.h.limits.DialTimeout)
	defer cancel()
	addrs, err := f.target(ctx)
	if err != nil {
		return nil, err
	}
	return dialFirst(ctx, f.network, addrs, f.dial)
}

// dialFirst connects to the first of several addresses that answers. None may use up the time of those after it.
func dialFirst(ctx context.Context, network string, addrs []netip.AddrPort, dial dialer) (net.Conn, error) {
	var errs []error
	for i, a := range addrs {
		try, cancel := shareOfTime(ctx, len(addrs)-i)
		c, err := dial(try, network, a)
		cancel()
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// shareOfTime gives one of n attempts its part of what ctx has left.
func shareOfTime(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok || n <= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}

// serveTCP accepts connections and splices each with one to the target, until ctx ends; then it cuts them off.
func (f *Forward) serveTCP(ctx context.Context, l net.Listener) {
	acceptUntil(ctx, l, f.slots, &f.h.count, func(c net.Conn) {
		out, err := f.connect(ctx)
		if err != nil {
			f.h.count.connsFailed.Add(1)
			abort(c)
			return
		}
		f.h.count.conns.Add(1)
		splice(ctx, c.(stream), out.(stream))
	})
}

// acceptUntil serves each connection in a goroutine until ctx ends, and waits for all. Who finds no slot is cut off.
func acceptUntil(ctx context.Context, l net.Listener, slots chan struct{}, count *counters, serve func(c net.Conn)) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as no descriptors left: others will be closed
			pause(ctx, 50*time.Millisecond)
			continue
		}
		select {
		case slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-slots }()
				serve(c)
			})
		default:
			count.connsRefused.Add(1)
			abort(c)
		}
	}
}

// pause waits, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// addrPort is a net.Addr of TCP or UDP as package netip has it.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
