package host

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func FuzzFrame(f *testing.F) {
	f.Add(packet(arpRequest(addrA.Addr())))
	f.Add(packet(neighborAdvertisement(peerMAC, addrB6.Addr())))
	for _, seed := range fuzzSeeds() {
		f.Add(seed)
	}
	h := newHost(f, 1, Config{}, addrA, addrA6)
	if err := h.EnableEgress(EgressConfig{Allow: func(string, string, netip.AddrPort) bool { return false }}); err != nil {
		f.Fatal(err)
	}
	buf := make([]byte, MaxPacket)
	f.Fuzz(func(t *testing.T, data []byte) {
		toUs := bytes.Clone(data) // most random frames would be for other MACs
		if len(toUs) >= HeaderLen+6 {
			copy(toUs[HeaderLen:], h.link.mac)
		}
		for _, d := range [][]byte{data, toUs} {
			if err := h.Port().WriteV([][]byte{d}); err != nil {
				t.Fatal(err)
			}
		}
		for {
			n, err := h.Port().TryRead(buf)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			if n < HeaderLen+etherLen {
				t.Fatalf("sent %d bytes", n)
			}
		}
	})
}

// fuzzSeeds are frames of each kind that the host reads: to itself and to the egress.
func fuzzSeeds() [][]byte {
	var out [][]byte
	ip4 := func(dst netip.Addr, proto byte, body []byte) []byte {
		frame := make([]byte, etherLen+header.IPv4MinimumSize+len(body))
		etherHeader(frame, "\x02\x00\x00\x00\x00\x01", peerMAC, header.IPv4ProtocolNumber)
		header.IPv4(frame[etherLen:]).Encode(&header.IPv4Fields{
			TotalLength: uint16(len(frame) - etherLen), TTL: 64, Protocol: proto,
			SrcAddr: toAddress(addrB.Addr()), DstAddr: toAddress(dst),
		})
		copy(frame[etherLen+header.IPv4MinimumSize:], body)
		return packet(frame)
	}
	ip6 := func(dst netip.Addr, proto byte, body []byte) []byte {
		frame := make([]byte, etherLen+header.IPv6MinimumSize+len(body))
		etherHeader(frame, "\x02\x00\x00\x00\x00\x01", peerMAC, header.IPv6ProtocolNumber)
		ip := frame[etherLen:]
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(body)))
		copy(ip[8:], addrB6.Addr().AsSlice())
		copy(ip[24:], dst.AsSlice())
		copy(ip[header.IPv6MinimumSize:], body)
		return packet(frame)
	}
	syn := make([]byte, header.TCPMinimumSize)
	header.TCP(syn).Encode(&header.TCPFields{SrcPort: 1, DstPort: 80, DataOffset: 20, Flags: header.TCPFlagSyn, WindowSize: 100})
	dgram := make([]byte, header.UDPMinimumSize+1000)
	header.UDP(dgram).Encode(&header.UDPFields{SrcPort: 1, DstPort: 53, Length: uint16(len(dgram))})
	for _, d4 := range []netip.Addr{addrA.Addr(), machine} {
		out = append(out, ip4(d4, 6, syn), ip4(d4, 17, dgram), ip4(d4, 1, []byte{8, 0, 0, 0, 0, 1, 0, 1}))
	}
	for _, d6 := range []netip.Addr{addrA6.Addr(), machine6} {
		out = append(out, ip6(d6, 6, syn), ip6(d6, 17, dgram), ip6(d6, 58, []byte{128, 0, 0, 0, 0, 1, 0, 1}), ip6(d6, 44, dgram))
	}
	for _, udp := range [][]byte{ip4(addrA.Addr(), 17, dgram), ip6(machine6, 17, dgram)} {
		udp[1] = gsoUDP
		binary.NativeEndian.PutUint16(udp[4:], 100)
		out = append(out, udp)
	}
	return out
}
