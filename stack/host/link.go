package host

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// nicID is the number of the one interface of each of our stacks.
const nicID tcpip.NICID = 1

// link is one stack's way to the port: netstack's LinkEndpoint for Ethernet. Its sending half is called by any goroutine of the
// stack. Packets are queued as they are, not copied.
type link struct {
	mac     tcpip.LinkAddress
	mtu     uint32
	gso     bool
	resolve func(pkt *stack.PacketBuffer) tcpip.LinkAddress // nil: netstack asks by ARP and neighbour discovery
	out     *queue
	dropped *atomic.Uint64 // packets that found the queue full

	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

// deliver passes a frame to the stack, which takes a reference if it keeps it.
func (l *link) deliver(pkt *stack.PacketBuffer, kind tcpip.PacketType) {
	d := l.dispatcher.Load()
	if d == nil || !l.ParseHeader(pkt) {
		return
	}
	pkt.PktType = kind
	(*d).DeliverNetworkPacket(header.Ethernet(pkt.LinkHeader().Slice()).Type(), pkt)
}

// WritePackets implements stack.LinkWriter. Full is no error: the packets are counted as dropped, as on a wire.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		if !l.out.push(pkt) {
			l.dropped.Add(1)
		}
	}
	return pkts.Len(), nil
}

// Attach implements stack.NetworkLinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached implements stack.NetworkLinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// Capabilities implements stack.NetworkLinkEndpoint. What arrives has been checked by a cipher or comes from this machine's own
// memory, and its checksum may be partial, so the stack must not look at it. What leaves has a full checksum but for TCP
// with GSO, so offload of sending is not claimed: else netstack would leave others' empty.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	c := stack.CapabilityRXChecksumOffload
	if l.resolve == nil {
		c |= stack.CapabilityResolutionRequired
	}
	return c
}

// AddHeader implements stack.NetworkLinkEndpoint.
func (l *link) AddHeader(pkt *stack.PacketBuffer) {
	to := pkt.EgressRoute.RemoteLinkAddress
	if l.resolve != nil {
		to = l.resolve(pkt)
	}
	header.Ethernet(pkt.LinkHeader().Push(etherLen)).Encode(&header.EthernetFields{
		SrcAddr: l.mac, DstAddr: to, Type: pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.NetworkLinkEndpoint.
func (l *link) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(etherLen)
	return ok
}

// SupportedGSO implements stack.GSOEndpoint.
func (l *link) SupportedGSO() stack.SupportedGSO {
	if l.gso {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return maxSuper }

// MTU implements stack.NetworkLinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu }

// MaxHeaderLength implements stack.NetworkLinkEndpoint.
func (l *link) MaxHeaderLength() uint16 { return etherLen }

// LinkAddress implements stack.NetworkLinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return l.mac }

// ARPHardwareType implements stack.NetworkLinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// The rest of stack.NetworkLinkEndpoint has nothing to do here: MTU and MAC are fixed, and there are no goroutines.

// SetMTU implements stack.NetworkLinkEndpoint.
func (l *link) SetMTU(uint32) {}

// SetLinkAddress implements stack.NetworkLinkEndpoint.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// SetOnCloseAction implements stack.NetworkLinkEndpoint.
func (l *link) SetOnCloseAction(func()) {}

// Wait implements stack.NetworkLinkEndpoint.
func (l *link) Wait() {}

// Close implements stack.NetworkLinkEndpoint.
func (l *link) Close() {}
