package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// EgressConfig says who may go out and how far. Zero numbers mean the default.
type EgressConfig struct {
	// Owner names the container that an address and a MAC belong to; false refuses them. It is called from the port's WriteV
	// when a source is new, so it must be quick. nil takes every address in the Host's subnets for a container.
	Owner func(src netip.Addr, mac net.HardwareAddr) (owner string, ok bool)
	// Allow, if set, has the last word on a destination. network is "tcp", "udp" or "icmp".
	Allow func(owner, network string, to netip.AddrPort) bool
	// Loopback are addresses outside the Host's subnets that stand for this machine's own 127.0.0.1 or ::1, by family. Without
	// them its loopback cannot be reached.
	Loopback []netip.Addr
	// DeniedPorts are ports of this machine, at any of its addresses, that cannot be reached: the daemon's.
	DeniedPorts []uint16

	Conns    int // TCP connections of an owner; 1024
	Pending  int // those of them that are not established yet; 64
	Sessions int // UDP sessions of an owner; 256
	Pings    int // destinations that an owner pings at a time; 16
}

func (c EgressConfig) withDefaults() EgressConfig {
	setDefault(&c.Conns, 1024)
	setDefault(&c.Pending, 64)
	setDefault(&c.Sessions, 256)
	setDefault(&c.Pings, 16)
	return c
}

// Bounds of all owners together, and of the time that UDP sessions with name servers are kept: one answer is all there is.
const (
	egressConns    = 8192
	egressPending  = 1024
	egressSessions = 4096
	egressPings    = 256
	dnsIdle        = 10 * time.Second
	pingIdle       = 10 * time.Second
)

// egress is the way out for containers whose default route is one of the Host's addresses. It has its own netstack, which takes
// every address for its own; TCP connections, UDP and pings that come to it are carried on by sockets of this machine. Links,
// other containers, this machine's loopback and denied ports are out of its reach.
type egress struct {
	h       *Host
	cfg     EgressConfig
	stack   *stack.Stack
	link    link
	sources sources
	conns   *tally
	pending *tally
	udps    *tally
	pings   pings
	ctx     context.Context // of everything that it carries
	cancel  context.CancelFunc
}

// EnableEgress opens the way out. There is one; a second call is an error until DisableEgress.
func (h *Host) EnableEgress(cfg EgressConfig) error {
	fail := func(err error) error { return fmt.Errorf("enable egress: %w", err) }
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ended.Load():
		return fail(ErrClosed)
	case h.egress.Load() != nil:
		return fail(errors.New("it is enabled already"))
	}
	for _, a := range cfg.Loopback {
		if !a.IsValid() || h.addrs.Load().onLink(a) || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
			return fail(fmt.Errorf("%v cannot stand for this machine: it must be an ordinary address outside the overlay's subnets", a))
		}
	}
	cfg = cfg.withDefaults()
	e := &egress{
		h: h, cfg: cfg,
		conns:   newTally(cfg.Conns, egressConns),
		pending: newTally(cfg.Pending, egressPending),
		udps:    newTally(cfg.Sessions, egressSessions),
	}
	e.ctx, e.cancel = context.WithCancel(h.ctx)
	e.sources.of = map[netip.Addr]source{}
	e.pings = pings{e: e, tally: newTally(cfg.Pings, egressPings), of: map[pingKey]*pingSession{}}
	e.link = link{
		mac: h.link.mac, mtu: h.link.mtu, gso: h.link.gso, out: h.out, dropped: h.link.dropped, resolve: e.sources.resolve,
	}
	if err := e.open(); err != nil {
		e.cancel()
		return fail(err)
	}
	h.egress.Store(e)
	return nil
}

// DisableEgress closes the way out and cuts off what uses it.
func (h *Host) DisableEgress() {
	h.mu.Lock()
	e := h.egress.Swap(nil)
	h.mu.Unlock()
	if e != nil {
		e.cancel()
		e.stack.Destroy()
	}
}

// open makes the stack that takes every address for its own.
func (e *egress) open() error {
	s, err := newStack(&e.link, e.h.limits)
	if err != nil {
		return err
	}
	e.stack = s
	if err := s.SetPromiscuousMode(nicID, true); err != nil {
		s.Destroy()
		return fmt.Errorf("accept all addresses: %v", err)
	}
	if err := s.SetSpoofing(nicID, true); err != nil {
		s.Destroy()
		return fmt.Errorf("answer for all addresses: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID}, {Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, egressPending, e.tcp).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, e.udp).HandlePacket)
	return nil
}

// tcp carries one connection. The socket comes first, so that the container is refused what the socket was.
func (e *egress) tcp(r *tcp.ForwarderRequest) {
	if !e.h.start(func(context.Context) { e.carryTCP(e.ctx, r) }) {
		r.Complete(true)
	}
}

func (e *egress) carryTCP(ctx context.Context, r *tcp.ForwarderRequest) {
	id := r.ID()
	owner, to, ok := e.allowed("tcp", fromAddress(id.RemoteAddress), fromAddress(id.LocalAddress), id.LocalPort)
	if !ok || !e.pending.take(owner) {
		e.h.count.connsRefused.Add(1)
		r.Complete(true)
		return
	}
	near, far := e.establish(ctx, r, owner, to)
	e.pending.release(owner)
	if near == nil {
		return
	}
	defer e.conns.release(owner)
	e.h.count.conns.Add(1)
	splice(ctx, near, far.(stream))
}

// establish connects to both ends; if it succeeds, owner has one more of e.conns.
func (e *egress) establish(ctx context.Context, r *tcp.ForwarderRequest, owner string, to netip.AddrPort) (*Conn, net.Conn) {
	if !e.conns.take(owner) {
		e.h.count.connsRefused.Add(1)
		r.Complete(true)
		return nil, nil
	}
	dctx, cancel := context.WithTimeout(ctx, e.h.limits.DialTimeout)
	defer cancel()
	far, err := dialReal(dctx, "tcp", to)
	if err == nil {
		if near := e.handshake(ctx, r); near != nil {
			r.Complete(false)
			return near, far
		}
		abort(far)
	}
	r.Complete(true)
	e.h.count.connsFailed.Add(1)
	e.conns.release(owner)
	return nil, nil
}

// handshake answers the container. Netstack waits for the end of the handshake whatever happens, so when ctx ends the
// connection is aborted, again and again because it might have been about to be made.
func (e *egress) handshake(ctx context.Context, r *tcp.ForwarderRequest) *Conn {
	done := make(chan struct{})
	defer close(done)
	stop := context.AfterFunc(ctx, func() {
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			for _, ep := range e.stack.RegisteredEndpoints() {
				ep.Abort()
			}
			select {
			case <-done:
				return
			case <-again.C:
			}
		}
	})
	defer stop()
	wq := new(waiter.Queue)
	ep, err := r.CreateEndpoint(wq)
	if err != nil {
		return nil
	}
	return newConn(wq, ep)
}

// udp starts a session. It runs in the port's WriteV, so that the datagrams that follow find it.
func (e *egress) udp(r *udp.ForwarderRequest) bool {
	id := r.ID()
	owner, to, ok := e.allowed("udp", fromAddress(id.RemoteAddress), fromAddress(id.LocalAddress), id.LocalPort)
	if !ok || !e.udps.take(owner) {
		e.h.count.sessionsRefused.Add(1)
		return false // port unreachable
	}
	wq := new(waiter.Queue)
	ep, err := r.CreateEndpoint(wq)
	if err != nil {
		e.udps.release(owner)
		return false
	}
	near := gonet.NewUDPConn(wq, ep)
	if !e.h.start(func(context.Context) {
		defer e.udps.release(owner)
		e.carryUDP(e.ctx, near, to)
	}) {
		near.Close()
		e.udps.release(owner)
	}
	return true
}

func (e *egress) carryUDP(ctx context.Context, near net.Conn, to netip.AddrPort) {
	far, err := dialReal(ctx, "udp", to)
	if err != nil {
		e.h.count.connsFailed.Add(1)
		near.Close()
		return
	}
	e.h.count.sessions.Add(1)
	idle := e.h.limits.UDPIdle
	if to.Port() == 53 {
		idle = min(idle, dnsIdle)
	}
	exchangeDatagrams(ctx, near, far, idle)
}

// allowed says who asks, and where a connection to dst really goes, if it may.
func (e *egress) allowed(network string, src, dst netip.Addr, port uint16) (owner string, to netip.AddrPort, ok bool) {
	owner, ok = e.sources.owner(src)
	if !ok {
		return "", to, false
	}
	dst = dst.Unmap()
	mine := slices.Contains(e.cfg.Loopback, dst)
	if !mine && (outOfReach(dst) || e.h.addrs.Load().onLink(dst)) {
		return "", to, false
	}
	if mine && dst.Is4() {
		dst = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	} else if mine {
		dst = netip.IPv6Loopback()
	}
	to = netip.AddrPortFrom(dst, port)
	if network != "icmp" && slices.Contains(e.cfg.DeniedPorts, port) && (mine || ofThisMachine(dst)) {
		return "", to, false
	}
	return owner, to, e.cfg.Allow == nil || e.cfg.Allow(owner, network, to)
}

// outOfReach are addresses that mean this machine or its links to whoever connects to them. 0.0.0.0/8 is "this host" (RFC 6890);
// 169.254.0.0/16 is also where clouds keep credentials.
func outOfReach(a netip.Addr) bool {
	switch {
	case a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return true
	case a.Is4():
		first := a.As4()[0]
		return first == 0 || first >= 240
	}
	return false
}

// ofThisMachine reports whether an interface has the address. Where that cannot be found out it is taken for so.
func ofThisMachine(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(addrs, func(have net.Addr) bool {
		n, ok := have.(*net.IPNet)
		if !ok {
			return false
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		return ok && ip.Unmap() == a
	})
}
