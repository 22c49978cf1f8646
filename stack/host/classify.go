package host

import (
	"encoding/binary"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// target says which of our stacks a frame is for.
type target uint8

const (
	toNobody target = iota // dropped, and counted
	toHost
	toEgress
)

// classify reads a frame's addresses, as a network card and the layer above it would. Netstack itself checks neither MACs
// nor, for the egress, addresses.
//
//	to our MAC, for one of our addresses          the host
//	to a group or everybody                       the host
//	to our MAC, for any other address             the egress
//	ARP requests about others, other MACs, VLANs  nobody
func (h *Host) classify(frame []byte) (target, tcpip.PacketType) {
	kind := tcpip.PacketHost
	switch dst := frame[:6]; {
	case string(dst) == string(h.link.mac):
	case string(dst) == string(header.EthernetBroadcastAddress):
		kind = tcpip.PacketBroadcast
	case dst[0]&1 != 0:
		kind = tcpip.PacketMulticast
	default:
		h.count.droppedOthers.Add(1)
		return toNobody, 0
	}
	body := frame[etherLen:]
	switch tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(frame[12:])) {
	case header.ARPProtocolNumber:
		return h.classifyARP(body), kind
	case header.IPv4ProtocolNumber:
		if len(body) < header.IPv4MinimumSize {
			break
		}
		return h.classifyIP(netip.AddrFrom4([4]byte(body[12:16])), netip.AddrFrom4([4]byte(body[16:20])), kind), kind
	case header.IPv6ProtocolNumber:
		if len(body) < header.IPv6MinimumSize {
			break
		}
		return h.classifyIP(netip.AddrFrom16([16]byte(body[8:24])), netip.AddrFrom16([16]byte(body[24:40])), kind), kind
	default:
		h.count.droppedOthers.Add(1)
		return toNobody, 0
	}
	h.count.droppedMalformed.Add(1)
	return toNobody, 0
}

// classifyIP sorts by addresses. What comes from or for a loopback has no business on a wire (RFC 1122 section 3.2.1.3).
func (h *Host) classifyIP(src, dst netip.Addr, kind tcpip.PacketType) target {
	switch {
	case src.IsLoopback() || dst.IsLoopback() || src.IsMulticast():
	case kind != tcpip.PacketHost || h.addrs.Load().own(dst):
		return toHost
	case h.egress.Load() != nil && !dst.IsMulticast() && !dst.IsLinkLocalUnicast():
		return toEgress
	}
	h.count.droppedOthers.Add(1)
	return toNobody
}

// classifyARP lets through what concerns our addresses, so that a storm about others costs next to nothing.
func (h *Host) classifyARP(body []byte) target {
	arp := header.ARP(body)
	if len(body) < header.ARPSize || !arp.IsValid() {
		h.count.droppedMalformed.Add(1)
		return toNobody
	}
	sender := netip.AddrFrom4([4]byte(arp.ProtocolAddressSender()))
	about := netip.AddrFrom4([4]byte(arp.ProtocolAddressTarget()))
	own := h.addrs.Load()
	if sender == about && !own.own(sender) && own.neighbour(sender) {
		h.announced(sender, linkAddress(arp.HardwareAddressSender()))
		return toNobody // no fault, and nothing more to do
	}
	if own.own(about) {
		return toHost
	}
	h.count.droppedOthers.Add(1)
	return toNobody
}

// announcementsPerSecond bounds the work that announcements make.
const announcementsPerSecond = 200

// announced hears an ARP announcement (RFC 5227 section 3): a container was started anew, or moved. Netstack does not heed them
// and would send to the old MAC for half a minute, so the old entry goes. Entries that are being asked for stay: somebody waits.
func (h *Host) announced(a netip.Addr, mac tcpip.LinkAddress) {
	if now := time.Now().Unix(); h.heard.second.Swap(now) != now {
		h.heard.count.Store(0)
	}
	if h.heard.count.Add(1) > announcementsPerSecond {
		return
	}
	entries, err := h.stack.Neighbors(nicID, ipv4.ProtocolNumber)
	if err != nil {
		return
	}
	for _, e := range entries {
		if fromAddress(e.Addr) == a && len(e.LinkAddr) > 0 && e.LinkAddr != mac {
			_ = h.stack.RemoveNeighbor(nicID, ipv4.ProtocolNumber, e.Addr)
		}
	}
}
