package node

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"weave/internal/api"
)

// pingSize is that of ping(8), bytes.
const pingSize = 56

// destination is a place to connect to, on the network or outside.
type destination struct {
	at      netip.AddrPort
	outside bool
}

// connect opens a TCP connection from this host.
func (n *node) connect(ctx context.Context, to destination) (net.Conn, error) {
	if n.presence == nil || to.outside {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", to.at.String())
	}
	c, err := n.presence.DialTCP(ctx, to.at)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// forPrograms finds the addresses of a host that a program of this one asks for.
func (n *node) forPrograms(ctx context.Context, host string) ([]netip.Addr, error) {
	if n.bridge != nil && len(n.exposedAddresses()) == 0 {
		return nil, api.BadRequest("this host has no address on the network: 'weave expose' first")
	}
	addrs, err := n.lookup(ctx, host)
	if err != nil {
		return nil, api.BadRequest(err.Error())
	}
	return addrs, nil
}

// Dial implements api.HostPrograms.
func (n *node) Dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	addrs, err := n.forPrograms(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		var c net.Conn
		if c, err = n.connect(ctx, destination{at: netip.AddrPortFrom(a, port)}); err == nil {
			return c, nil
		}
	}
	return nil, api.BadRequest(err.Error())
}

// Ping implements api.HostPrograms.
func (n *node) Ping(ctx context.Context, host string) (netip.Addr, time.Duration, error) {
	addrs, err := n.forPrograms(ctx, host)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	if n.presence == nil {
		took, err := pingByKernel(ctx, addrs[0])
		return addrs[0], took, err
	}
	p, err := n.presence.NewPinger(addrs[0])
	if err != nil {
		return addrs[0], 0, api.BadRequest(err.Error())
	}
	defer p.Close()
	reply, err := p.Echo(ctx, pingSize)
	return addrs[0], reply.RTT, err
}

// pingByKernel sends one echo request (RFC 792, RFC 4443) and waits for its answer
// until ctx ends.
func pingByKernel(ctx context.Context, to netip.Addr) (time.Duration, error) {
	network, any, protocol := "ip4:icmp", "0.0.0.0", ipv4.ICMPTypeEchoReply.Protocol()
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Is6() {
		network, any, protocol = "ip6:ipv6-icmp", "::", ipv6.ICMPTypeEchoReply.Protocol()
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	c, err := icmp.ListenPacket(network, any)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	ours := icmp.Echo{ID: int(rand.Uint32() & 0xffff), Seq: 1, Data: binary.BigEndian.AppendUint64(make([]byte, pingSize-8), rand.Uint64())}
	text, err := (&icmp.Message{Type: request, Body: &ours}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := c.WriteTo(text, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return 0, api.BadRequest(err.Error())
	}
	buf := make([]byte, 1500)
	for {
		size, _, err := c.ReadFrom(buf)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		m, err := icmp.ParseMessage(protocol, buf[:size])
		if err != nil || m.Type != reply {
			continue
		}
		if got, ok := m.Body.(*icmp.Echo); ok && got.ID == ours.ID && string(got.Data) == string(ours.Data) {
			return time.Since(began), nil
		}
	}
}
