package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"weave/runtime"
	overlay "weave/stack/host"
)

// presence is the host on the overlay where there is no bridge to have its
// addresses: a TCP/IP stack in this process, one more port of the switch.
type presence struct {
	*overlay.Host
	service netip.Addr // containers of this host reach it without being in its subnet
}

// openUserHost is openHost without the rights of root.
func (n *node) openUserHost() error {
	wired, err := newUserHost(n.dp, n.cfg.MTU, n.log.With("part", "namespaces"))
	if err != nil {
		return err
	}
	n.host = wired
	if n.presence, err = n.openPresence(); err != nil {
		return err
	}
	n.services = newPortServices(n, newUserPorts(n.presence.Host))
	if n.cfg.Names.Domain != "" || n.cfg.Egress {
		wired.service = n.presence.service
	}
	if !n.cfg.Egress {
		return nil
	}
	wired.egress = []netip.Addr{n.presence.service, n.presence.LinkLocal()}
	return n.presence.EnableEgress(overlay.EgressConfig{
		Owner: wired.owner, DeniedPorts: []uint16{uint16(n.cfg.Port)},
		Allow: func(_, _ string, to netip.AddrPort) bool { // what is on the overlay is not to be looked for elsewhere
			c := n.cfg.Addresses
			return !(c.Range.IsValid() && c.Range.Contains(to.Addr())) && !(c.V6.IsValid() && c.V6.Contains(to.Addr()))
		},
	})
}

// openPresence makes the stack and its service address.
func (n *node) openPresence() (*presence, error) {
	h, err := overlay.New(overlay.Config{MAC: n.memory.name[:], MTU: n.cfg.MTU})
	if err != nil {
		return nil, fmt.Errorf("the host's presence: %w", err)
	}
	p := &presence{Host: h, service: runtime.ServiceAddress(runtime.MAC(n.memory.name))}
	if err := h.AddService(p.service); err != nil {
		h.Close()
		return nil, err
	}
	n.dp.addLocal(&localPort{port: tapPort, queues: []tapQueue{h.Port()}, vital: true})
	return p, nil
}

// serveNames opens the sockets of the name server at the service address.
func (p *presence) serveNames() (net.PacketConn, net.Listener, error) {
	at := netip.AddrPortFrom(p.service, portDNS)
	packets, err := p.ListenUDP(at)
	if err != nil {
		return nil, nil, err
	}
	streams, err := p.ListenTCP(at)
	if err != nil {
		_ = packets.Close()
	}
	return packets, streams, err
}

// run keeps the stack until ctx ends.
func (p *presence) run(ctx context.Context) error { return p.Run(ctx) }

// exposedAddresses are those besides the service address.
func (p *presence) exposedAddresses() []netip.Prefix {
	return slices.DeleteFunc(p.Addresses(), func(a netip.Prefix) bool { return a.Addr() == p.service })
}

func (p *presence) exposedAddress() netip.Addr {
	for _, a := range p.exposedAddresses() {
		if a.Addr().Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// have gives the stack these addresses and no others besides the service address.
func (p *presence) have(want []netip.Prefix) error {
	for _, a := range runtime.Remove(p.exposedAddresses(), want) {
		if err := p.RemoveAddress(a.Addr()); err != nil {
			return err
		}
	}
	for _, a := range want {
		if err := p.AddAddress(a); err != nil {
			return err
		}
	}
	return nil
}

// serveProxy has programs of the host connect to the overlay by SOCKS5 and HTTP.
func (p *presence) serveProxy(ctx context.Context, at string, resolve overlay.Resolver) (*overlay.Proxy, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("serve the proxy for programs: %w", err)
	}
	return p.Proxy(l, overlay.ProxyConfig{Resolve: resolve})
}
