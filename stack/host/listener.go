package host

import (
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog is how many connections may wait for Accept.
const backlog = 1024

// listener is netstack's listening endpoint as a net.Listener. Accept and Close may be called by any goroutine.
type listener struct {
	wq   waiter.Queue
	ep   tcpip.Endpoint
	once sync.Once
	done chan struct{}
}

// Accept implements net.Listener. The connections are *Conn.
func (l *listener) Accept() (net.Conn, error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		select {
		case <-l.done:
			return nil, net.ErrClosed
		default:
		}
		ep, wq, err := l.ep.Accept(nil)
		if err == nil {
			return newConn(wq, ep), nil
		}
		if _, wait := err.(*tcpip.ErrWouldBlock); !wait {
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: asError(err)}
		}
		select {
		case <-l.done:
		case <-ready:
		}
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.done)
		l.ep.Close()
		err = nil
	})
	return err
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr {
	a, err := l.ep.GetLocalAddress()
	if err != nil {
		return &net.TCPAddr{}
	}
	addr := fromAddress(a.Addr)
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, a.Port))
}
