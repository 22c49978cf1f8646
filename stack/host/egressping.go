package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// PingAllowed reports why pings cannot go out, nil if they can: the kernel lets ordinary users ping only where it is told so.
func PingAllowed() error {
	c, err := icmp.ListenPacket("udp4", "0.0.0.0")
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open a socket for pings: %w (root may allow it: sysctl -w net.ipv4.ping_group_range='0 2147483647')", err)
	}
	if err != nil {
		return fmt.Errorf("open a socket for pings: %w", err)
	}
	return c.Close()
}

// pingKey names who pings whom, and which of the sender's programs does.
type pingKey struct {
	src, dst netip.Addr
	ident    uint16
}

// pings carries echo requests of containers on by sockets of their own, which the kernel gives to ordinary users (icmp(7)).
type pings struct {
	e     *egress
	tally *tally

	mu sync.Mutex
	of map[pingKey]*pingSession
}

type pingSession struct {
	key      pingKey
	mac      tcpip.LinkAddress
	to       netip.Addr // dst, or this machine where dst stands for it
	requests chan []byte
	last     atomic.Int64 // when a message went either way, in nanoseconds
}

// echoRequest finds the echo request in a frame.
func echoRequest(frame []byte) (key pingKey, msg []byte, ok bool) {
	ip := frame[etherLen:]
	kind := byte(header.ICMPv4Echo)
	if ip[0]>>4 == 4 {
		h := header.IPv4(ip)
		if !h.IsValid(len(ip)) {
			return key, nil, false
		}
		key.src, key.dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		msg = ip[h.HeaderLength():h.TotalLength()]
	} else {
		h := header.IPv6(ip)
		if !h.IsValid(len(ip)) {
			return key, nil, false
		}
		kind = byte(header.ICMPv6EchoRequest)
		key.src, key.dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		msg = ip[header.IPv6MinimumSize:][:h.PayloadLength()]
	}
	if len(msg) < echoHeader || msg[0] != kind || msg[1] != 0 {
		return key, nil, false
	}
	key.ident = binary.BigEndian.Uint16(msg[4:])
	return key, msg, true
}

// take carries an echo request on, or drops and counts it. It reports false if the frame has none.
func (p *pings) take(frame []byte) bool {
	key, msg, ok := echoRequest(frame)
	if !ok {
		return false
	}
	owner, to, ok := p.e.allowed("icmp", key.src, key.dst, 0)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.of[key]
	if s == nil {
		if !ok || !p.tally.take(owner) {
			p.e.h.count.sessionsRefused.Add(1)
			return true
		}
		s = &pingSession{key: key, mac: linkAddress(frame[6:12]), to: to.Addr(), requests: make(chan []byte, 16)}
		if !p.e.h.start(func(context.Context) { p.run(p.e.ctx, s, owner) }) {
			p.tally.release(owner)
			return true
		}
		p.of[key] = s
	}
	select {
	case s.requests <- slices.Clone(msg):
	default: // as on a wire
	}
	return true
}

func (p *pings) run(ctx context.Context, s *pingSession, owner string) {
	defer p.tally.release(owner)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.of[s.key] == s {
			delete(p.of, s.key)
		}
	}()
	network, any := "udp4", "0.0.0.0"
	if s.to.Is6() {
		network, any = "udp6", "::"
	}
	c, err := icmp.ListenPacket(network, any)
	if err != nil {
		p.e.h.count.sessionsRefused.Add(1)
		return
	}
	p.e.h.count.sessions.Add(1)
	s.last.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() {
		defer close(done)
		receiveUntilIdle(pingConn{c}, pingIdle, &s.last, func(msg []byte) { p.e.reply(s, msg) })
	}()
	s.send(ctx, c, done)
	c.Close()
	<-done
}

// send passes requests to the socket until ctx ends or the session is idle. The kernel puts its own identifier in.
func (s *pingSession) send(ctx context.Context, c *icmp.PacketConn, idle <-chan struct{}) {
	to := &net.UDPAddr{IP: s.to.AsSlice()}
	for {
		select {
		case msg := <-s.requests:
			s.last.Store(time.Now().UnixNano())
			_, _ = c.WriteTo(msg, to)
		case <-idle:
			return
		case <-ctx.Done():
			return
		}
	}
}

// pingConn is a socket for pings as a net.Conn: what it receives is for its identifier only.
type pingConn struct{ *icmp.PacketConn }

func (c pingConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

func (c pingConn) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (c pingConn) RemoteAddr() net.Addr      { return nil }

// reply sends an echo reply that came from the socket to who asked.
func (e *egress) reply(s *pingSession, msg []byte) {
	v4 := s.key.dst.Is4()
	kind, size := byte(header.ICMPv4EchoReply), header.IPv4MinimumSize
	if !v4 {
		kind, size = byte(header.ICMPv6EchoReply), header.IPv6MinimumSize
	}
	if len(msg) < echoHeader || msg[0] != kind {
		return
	}
	if size+len(msg) > int(e.link.mtu) {
		e.h.count.droppedTooBig.Add(1)
		return
	}
	frame := make([]byte, etherLen+size+len(msg))
	etherHeader(frame, s.mac, e.link.mac, protocolOf(s.key.dst))
	ip, out := frame[etherLen:], frame[etherLen+size:]
	copy(out, msg)
	binary.BigEndian.PutUint16(out[4:], s.key.ident)
	binary.BigEndian.PutUint16(out[2:], 0)
	from, to := toAddress(s.key.dst), toAddress(s.key.src)
	if v4 {
		h := header.IPv4(ip)
		h.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber), SrcAddr: from, DstAddr: to,
		})
		h.SetChecksum(^h.CalculateChecksum())
		binary.BigEndian.PutUint16(out[2:], ^checksum.Checksum(out, 0))
	} else {
		header.IPv6(ip).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(msg)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 64, SrcAddr: from, DstAddr: to,
		})
		header.ICMPv6(out).SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: out, Src: from, Dst: to}))
	}
	e.h.sendFrame(frame)
}
