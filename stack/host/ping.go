package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// MaxPing is the largest payload in bytes of an echo request.
const MaxPing = 65000

// echoHeader is the length of the header of an echo message, the same in both families.
const echoHeader = header.ICMPv4MinimumSize

// Reply is the answer to an echo request.
type Reply struct {
	Seq   uint16
	Bytes int // of the payload
	RTT   time.Duration
}

// Pinger sends echo requests to one address (RFC 792, RFC 4443 section 4). Its methods may be called by any goroutine; requests
// go one after the other.
type Pinger struct {
	to   netip.Addr
	conn *gonet.UDPConn // of ICMP in truth: netstack's endpoints for datagrams are alike

	mu  sync.Mutex
	seq uint16
	buf []byte
}

// NewPinger makes a Pinger, to be closed.
func (h *Host) NewPinger(to netip.Addr) (*Pinger, error) {
	fail := func(err error) (*Pinger, error) { return nil, fmt.Errorf("ping %v: %w", to, err) }
	if h.ended.Load() {
		return fail(ErrClosed)
	}
	if !to.IsValid() || to.IsUnspecified() {
		return fail(errors.New("address is missing"))
	}
	to = to.Unmap()
	proto := icmp.ProtocolNumber4
	if to.Is6() {
		proto = icmp.ProtocolNumber6
	}
	wq := new(waiter.Queue)
	ep, err := h.stack.NewEndpoint(proto, protocolOf(to), wq)
	if err != nil {
		return fail(asError(err))
	}
	if err := ep.Connect(fullAddress(netip.AddrPortFrom(to, 0))); err != nil {
		ep.Close()
		return fail(asError(err))
	}
	return &Pinger{to: to, conn: gonet.NewUDPConn(wq, ep)}, nil
}

// Echo sends a request with so many bytes of payload and waits for its answer until ctx ends; no answer until then is
// context.DeadlineExceeded. The first sequence number is 1.
func (p *Pinger) Echo(ctx context.Context, size int) (Reply, error) {
	if size < 0 || size > MaxPing {
		return Reply{}, fmt.Errorf("ping %v: payload of %d bytes is not between 0 and %d", p.to, size, MaxPing)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.conn.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	p.seq++
	start := time.Now()
	if _, err := p.conn.Write(p.request(size)); err != nil {
		return Reply{}, fmt.Errorf("ping %v: %w", p.to, err)
	}
	for {
		n, err := p.conn.Read(p.buf)
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return Reply{}, fmt.Errorf("ping %v: %w", p.to, err)
		}
		if n == echoHeader+size && binary.BigEndian.Uint16(p.buf[6:]) == p.seq {
			return Reply{Seq: p.seq, Bytes: size, RTT: time.Since(start)}, nil
		}
	}
}

// request lays out an echo request; netstack fills in identifier and checksum. p.mu is held.
func (p *Pinger) request(size int) []byte {
	if len(p.buf) < echoHeader+size {
		p.buf = make([]byte, echoHeader+size)
	}
	msg := make([]byte, echoHeader+size)
	msg[0] = byte(header.ICMPv4Echo)
	if p.to.Is6() {
		msg[0] = byte(header.ICMPv6EchoRequest)
	}
	binary.BigEndian.PutUint16(msg[6:], p.seq)
	for i := range msg[echoHeader:] {
		msg[echoHeader+i] = byte(i)
	}
	return msg
}

// Close frees the Pinger; a waiting Echo ends.
func (p *Pinger) Close() error { return p.conn.Close() }
