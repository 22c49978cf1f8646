package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weave/peer"
	"weave/peer/control"
	"weave/peer/link"
	"weave/runtime"
	"weave/runtime/netlink"
)

// socketBuffer is asked for on each UDP socket, in bytes: two super-frames'
// datagrams to each of some dozen peers.
const socketBuffer = 8 << 20

// addressInterval is how often the host's addresses are looked at.
const addressInterval = 3 * time.Second

// listenUDP opens a pair of sockets for each lane that receives.
func (n *node) listenUDP() error {
	for range n.cfg.Queues {
		pair, err := n.listenPair(n.cfg.Queues > 1)
		if err != nil {
			return err
		}
		n.dp.sockets = append(n.dp.sockets, pair)
	}
	return nil
}

// listenPair opens a socket per address family that the host has.
func (n *node) listenPair(shared bool) (pair socketPair, err error) {
	for i, network := range []string{"udp4", "udp6"} {
		bind, want := n.cfg.bindAddr(i == 1)
		if !want {
			continue
		}
		s, err := link.Listen(link.Config{
			Network: network, Bind: bind, RecvBuffer: socketBuffer, SendBuffer: socketBuffer,
			Reuse: shared, Log: n.log.With("part", "link"),
		})
		if errors.Is(err, link.ErrFamily) {
			n.log.Info("address family is not there", "network", network)
			continue
		}
		if err != nil {
			return pair, fmt.Errorf("%w; is another weave running? --port chooses another port", err)
		}
		pair[i] = s
	}
	if pair[0] == nil && pair[1] == nil {
		return pair, errors.New("the host has neither IPv4 nor IPv6")
	}
	return pair, nil
}

// listenTCP opens the control listeners.
func (n *node) listenTCP() error {
	var err error
	n.transport, err = control.New(control.Config{
		Private: n.memory.identity.X25519Private(), PSKs: psksOf(n.memory.secrets), Password: n.cfg.password(),
		Port: uint16(n.cfg.Port), Source: n.cfg.Host, Log: n.log.With("part", "control"),
		Data: n.streamed,
	})
	if err != nil {
		return err
	}
	n.dp.stream = n.sendStream
	for i := range len(socketPair{}) {
		bind, want := n.cfg.bindAddr(i == 1)
		if !want {
			continue
		}
		if _, err := n.transport.Listen(bind); err != nil && !errors.Is(err, control.ErrFamily) {
			return fmt.Errorf("%w; is another weave running? --port chooses another port", err)
		}
	}
	return nil
}

// candidates are the addresses at which others may reach us.
func (n *node) candidates() []string {
	return append(slices.Clone(n.cfg.Advertise), n.hostAddresses()...)
}

func (n *node) hostAddresses() []string {
	if n.cfg.Host.IsValid() {
		return []string{netip.AddrPortFrom(n.cfg.Host.Unmap(), uint16(n.cfg.Port)).String()}
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		n.log.Warn("cannot list interfaces", "err", err)
		return nil
	}
	var out []string
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range addressesOf(i) {
			out = append(out, netip.AddrPortFrom(a, uint16(n.cfg.Port)).String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addressesOf are those of an interface that other hosts may reach; none if it is one of ours.
func addressesOf(i net.Interface) []netip.Addr {
	if strings.HasPrefix(i.Name, bridgeName) || strings.HasPrefix(i.Name, runtime.HostPrefix) {
		return nil
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && addressOfHost(p.Addr()) {
			out = append(out, p.Addr())
		}
	}
	return out
}

// watchAddresses tells the mesh when the host's addresses change, and has peers
// hear from the new ones.
func (n *node) watchAddresses(ctx context.Context) error {
	changes := netlink.WatchHost() // before the first look, so that nothing is missed
	defer changes.Close()
	last := n.candidates()
	tick := time.NewTicker(addressInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case at := <-tick.C:
			if !changes.Any(at) {
				continue
			}
		}
		now := n.candidates()
		if slices.Equal(now, last) {
			continue
		}
		last = now
		n.sessions.rouse()
		if n.mesh.submit(ctx, peer.LocalAddresses{Addresses: now}) != nil {
			return nil
		}
	}
}

// addressOfHost tells whether other hosts may reach an address.
func addressOfHost(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}
