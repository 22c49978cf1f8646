package host

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxSources bounds the addresses that the egress remembers; one more displaces any other, which is learnt again by its next
// frame.
const maxSources = 4096

// source is an address that sends to the egress.
type source struct {
	mac   tcpip.LinkAddress
	owner string
}

// sources are the containers' addresses. Answers go to the MAC that a frame came from, so the egress neither asks by ARP nor
// can be made to by others. Any goroutine may use it.
type sources struct {
	mu sync.RWMutex
	of map[netip.Addr]source
}

func (s *sources) get(a netip.Addr) (source, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	src, ok := s.of[a]
	return src, ok
}

func (s *sources) owner(a netip.Addr) (string, bool) {
	src, ok := s.get(a)
	return src.owner, ok
}

func (s *sources) put(a netip.Addr, src source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.of[a]; !known && len(s.of) >= maxSources {
		for any := range s.of {
			delete(s.of, any)
			break
		}
	}
	s.of[a] = src
}

// resolve finds the MAC for a packet of the egress's stack.
func (s *sources) resolve(pkt *stack.PacketBuffer) tcpip.LinkAddress {
	var to netip.Addr
	switch b := pkt.NetworkHeader().Slice(); {
	case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(b) >= header.IPv4MinimumSize:
		to = fromAddress(header.IPv4(b).DestinationAddress())
	case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(b) >= header.IPv6MinimumSize:
		to = fromAddress(header.IPv6(b).DestinationAddress())
	}
	if src, ok := s.get(to); ok {
		return src.mac
	}
	return header.UnspecifiedEthernetAddress // nobody's: it has been displaced, and TCP tries again
}

// accept reports whether a frame is for the egress's stack: TCP or UDP of someone who may. It takes pings itself.
func (e *egress) accept(frame []byte) bool {
	ip := frame[etherLen:]
	var src netip.Addr
	var proto uint8
	part := false // a fragment
	if ip[0]>>4 == 4 {
		src, proto = netip.AddrFrom4([4]byte(ip[12:16])), ip[9]
		part = binary.BigEndian.Uint16(ip[6:])&0x3fff != 0
	} else {
		src, proto = netip.AddrFrom16([16]byte(ip[8:24])), ip[6]
	}
	if !e.known(src, linkAddress(frame[6:12])) {
		e.h.count.droppedOthers.Add(1)
		return false
	}
	switch proto {
	case uint8(header.TCPProtocolNumber), uint8(header.UDPProtocolNumber), header.IPv6FragmentHeader:
		return true
	case uint8(header.ICMPv4ProtocolNumber), uint8(header.ICMPv6ProtocolNumber):
		if !part && e.pings.take(frame) {
			return false
		}
	}
	e.h.count.droppedOthers.Add(1)
	return false
}

// known finds or learns who sends.
func (e *egress) known(src netip.Addr, mac tcpip.LinkAddress) bool {
	if have, ok := e.sources.get(src); ok && have.mac == mac {
		return true
	}
	if mac[0]&1 != 0 {
		return false
	}
	owner, ok := src.String(), e.h.addrs.Load().onLink(src)
	if e.cfg.Owner != nil {
		owner, ok = e.cfg.Owner(src, net.HardwareAddr(mac))
	}
	if ok {
		e.sources.put(src, source{mac: mac, owner: owner})
	}
	return ok
}
