package host

import (
	"fmt"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxAddresses bounds the addresses of a Host.
const maxAddresses = 256

// addressSet is what a Host answers for. It is immutable.
type addressSet struct {
	prefixes  []netip.Prefix // address and length, as they were added
	addrs     map[netip.Addr]struct{}
	linkLocal netip.Addr
	gateways  []netip.Addr // of default routes, one a family
	service   netip.Addr   // see AddService; invalid: none
}

func (s *addressSet) own(a netip.Addr) bool {
	_, ok := s.addrs[a]
	return ok
}

// onLink reports whether a is in a subnet of the Host.
func (s *addressSet) onLink(a netip.Addr) bool {
	return slices.ContainsFunc(s.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neighbour reports whether a may be on the Ethernet itself, rather than behind a gateway.
func (s *addressSet) neighbour(a netip.Addr) bool {
	return s.onLink(a) || s.service.IsValid()
}

// with returns the set with other prefixes.
func (s *addressSet) with(prefixes []netip.Prefix) *addressSet {
	next := &addressSet{prefixes: prefixes, addrs: map[netip.Addr]struct{}{}, linkLocal: s.linkLocal, gateways: s.gateways, service: s.service}
	for _, p := range prefixes {
		next.addrs[p.Addr()] = struct{}{}
	}
	next.addrs[s.linkLocal] = struct{}{}
	return next
}

// Addresses lists the addresses with the lengths of their subnets' prefixes, in the order in which they were added.
func (h *Host) Addresses() []netip.Prefix { return slices.Clone(h.addrs.Load().prefixes) }

// LinkLocal is the address that the MAC implies, on which IPv6 neighbours find the Host.
func (h *Host) LinkLocal() netip.Addr { return h.addrs.Load().linkLocal }

// AddAddress gives the Host an address in a subnet, for example 10.32.0.1/12, and announces it on the overlay. Adding one that is
// there does nothing; with another length of the prefix it is replaced.
func (h *Host) AddAddress(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p.Addr().IsMulticast() || p.Addr().IsUnspecified() || p.Addr().IsLoopback() {
		return fmt.Errorf("add address %v: it is no address that a host can have", p)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended.Load() {
		return ErrClosed
	}
	set := h.addrs.Load()
	at := slices.IndexFunc(set.prefixes, func(have netip.Prefix) bool { return have.Addr() == p.Addr() })
	switch {
	case p.Addr() == set.linkLocal || at >= 0 && set.prefixes[at] == p:
		return nil
	case at >= 0:
		if err := h.removeAddress(p.Addr()); err != nil {
			return err
		}
		set = h.addrs.Load()
	case len(set.prefixes) >= maxAddresses:
		return fmt.Errorf("add address %v: the host has %d addresses already", p, maxAddresses)
	}
	if err := h.addToStack(p); err != nil {
		return err
	}
	h.addrs.Store(set.with(append(slices.Clone(set.prefixes), p)))
	h.setRoutes()
	h.announce(p.Addr())
	return nil
}

func (h *Host) addToStack(p netip.Prefix) error {
	pa := tcpip.ProtocolAddress{
		Protocol:          protocolOf(p.Addr()),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: toAddress(p.Addr()), PrefixLen: p.Bits()},
	}
	if err := h.stack.AddProtocolAddress(nicID, pa, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("add address %v: %v", p, err)
	}
	return nil
}

// AddService gives the Host an address at which it serves neighbours of every subnet, without being in any of them: who has a
// route to it, or to the link-local address, is answered on the Ethernet itself. There is one; it stays until the Host ends.
func (h *Host) AddService(a netip.Addr) error {
	if err := h.AddAddress(netip.PrefixFrom(a, a.BitLen())); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	next := *h.addrs.Load()
	next.service = a
	h.addrs.Store(&next)
	h.setRoutes()
	return nil
}

// RemoveAddress takes an address away. Connections from and to it are cut off.
func (h *Host) RemoveAddress(a netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended.Load() {
		return ErrClosed
	}
	return h.removeAddress(a)
}

func (h *Host) removeAddress(a netip.Addr) error {
	set := h.addrs.Load()
	at := slices.IndexFunc(set.prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
	if at < 0 {
		return fmt.Errorf("remove address %v: the host does not have it", a)
	}
	if err := h.stack.RemoveAddress(nicID, toAddress(a)); err != nil {
		return fmt.Errorf("remove address %v: %v", a, err)
	}
	h.addrs.Store(set.with(slices.Delete(slices.Clone(set.prefixes), at, at+1)))
	h.setRoutes()
	return nil
}

// SetDefaultRoute sends what is for no subnet of the Host by way of a gateway on the overlay. There is one for each family. The zero
// Addr removes both; an unspecified one (0.0.0.0, ::) that of its family.
func (h *Host) SetDefaultRoute(gateway netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended.Load() {
		return ErrClosed
	}
	old := h.addrs.Load()
	if gateway.IsValid() && !gateway.IsUnspecified() && !gateway.IsLinkLocalUnicast() && !old.onLink(gateway) {
		return fmt.Errorf("set default route: gateway %v is in no subnet of the host's addresses", gateway)
	}
	next := *old
	next.gateways = slices.DeleteFunc(slices.Clone(old.gateways), func(g netip.Addr) bool {
		return !gateway.IsValid() || g.Is4() == gateway.Is4()
	})
	if gateway.IsValid() && !gateway.IsUnspecified() {
		next.gateways = append(next.gateways, gateway)
	}
	h.addrs.Store(&next)
	h.setRoutes()
	return nil
}

// setRoutes gives the stack the routes that follow from the addresses. Of equal ones the first counts. h.mu is held.
func (h *Host) setRoutes() {
	set := h.addrs.Load()
	table := []tcpip.Route{{Destination: header.IPv6LinkLocalPrefix.Subnet(), NIC: nicID}}
	for _, p := range set.prefixes {
		table = append(table, tcpip.Route{Destination: subnet(p), NIC: nicID})
	}
	for _, g := range set.gateways {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		table = append(table, tcpip.Route{Destination: subnet(all), Gateway: toAddress(g), NIC: nicID})
	}
	if set.service.IsValid() { // last: gateways know better
		table = append(table, tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: nicID},
			tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicID})
	}
	h.stack.SetRouteTable(table)
}

// addLinkLocal gives the Host the address that its MAC implies (RFC 4291 appendix A), which neighbours ask from.
func (h *Host) addLinkLocal() error {
	a := fromAddress(header.LinkLocalAddr(h.link.mac))
	if err := h.addToStack(netip.PrefixFrom(a, 64)); err != nil {
		return err
	}
	h.addrs.Store((&addressSet{linkLocal: a}).with(nil))
	h.setRoutes()
	return nil
}

// announce tells everybody where an address is: an ARP announcement (RFC 5227 section 3), or an unsolicited neighbour
// advertisement (RFC 4861 section 7.2.6).
func (h *Host) announce(a netip.Addr) {
	if a.Is4() {
		h.sendFrame(arpAnnouncement(h.link.mac, a))
		return
	}
	h.sendFrame(neighborAdvertisement(h.link.mac, a))
}

func arpAnnouncement(mac tcpip.LinkAddress, a netip.Addr) []byte {
	frame := make([]byte, etherLen+header.ARPSize)
	etherHeader(frame, header.EthernetBroadcastAddress, mac, header.ARPProtocolNumber)
	arp := header.ARP(frame[etherLen:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	copy(arp.HardwareAddressSender(), mac)
	copy(arp.ProtocolAddressSender(), a.AsSlice())
	copy(arp.ProtocolAddressTarget(), a.AsSlice())
	return frame
}

func neighborAdvertisement(mac tcpip.LinkAddress, a netip.Addr) []byte {
	const size = header.ICMPv6NeighborAdvertMinimumSize + header.NDPLinkLayerAddressSize
	frame := make([]byte, etherLen+header.IPv6MinimumSize+size)
	to := header.IPv6AllNodesMulticastAddress
	etherHeader(frame, header.EthernetAddressFromMulticastIPv6Address(to), mac, header.IPv6ProtocolNumber)
	header.IPv6(frame[etherLen:]).Encode(&header.IPv6Fields{
		PayloadLength: size, TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: header.NDPHopLimit,
		SrcAddr: toAddress(a), DstAddr: to,
	})
	msg := header.ICMPv6(frame[etherLen+header.IPv6MinimumSize:])
	msg.SetType(header.ICMPv6NeighborAdvert)
	na := header.NDPNeighborAdvert(msg.MessageBody())
	na.SetTargetAddress(toAddress(a))
	na.SetOverrideFlag(true)
	na.Options().Serialize(header.NDPOptionsSerializer{header.NDPTargetLinkLayerAddressOption(mac)})
	msg.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: msg, Src: toAddress(a), Dst: to}))
	return frame
}

func subnet(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: toAddress(p.Addr()), PrefixLen: p.Bits()}.Subnet()
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}
