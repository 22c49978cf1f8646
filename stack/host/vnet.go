package host

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// HeaderLen is the length in bytes of the virtio-net header before every frame, as in package tun.
	HeaderLen = 10
	// MaxPacket is the size in bytes of a buffer that holds whatever the port hands out or takes.
	MaxPacket = HeaderLen + 14 + 65535

	etherLen = header.EthernetMinimumSize
	// maxSuper bounds the IP packets of super-frames that the stack sends.
	maxSuper = 60 << 10
)

// Values of the virtio-net header (virtio 1.2, section 5.1.6.1).
const (
	flagNeedsCsum = 1
	gsoNone       = 0
	gsoTCP4       = 1
	gsoTCP6       = 4
	gsoUDP        = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
	gsoECN        = 0x80
)

// vnet is a virtio-net header, 16-bit fields in host byte order.
type vnet [HeaderLen]byte

func (v *vnet) gsoType() byte { return v[1] &^ gsoECN }
func (v *vnet) gsoSize() int  { return int(binary.NativeEndian.Uint16(v[4:])) }

// put writes the header of a packet that netstack sends. Netstack leaves only checksums of TCP unfinished, and says so.
func (v *vnet) put(gso stack.GSO, headers, payload int) {
	*v = vnet{}
	if gso.Type != stack.GSOTCPv4 && gso.Type != stack.GSOTCPv6 {
		return
	}
	if gso.NeedsCsum {
		v[0] = flagNeedsCsum
		binary.NativeEndian.PutUint16(v[6:], etherLen+gso.L3HdrLen)
		binary.NativeEndian.PutUint16(v[8:], gso.CsumOffset)
	}
	if payload <= int(gso.MSS) {
		return
	}
	v[1] = gsoTCP4
	if gso.Type == stack.GSOTCPv6 {
		v[1] = gsoTCP6
	}
	binary.NativeEndian.PutUint16(v[2:], uint16(headers))
	binary.NativeEndian.PutUint16(v[4:], gso.MSS)
}

// datagrams cuts a UDP super-frame into its datagrams, because a datagram's border means something to who reads it. (TCP's
// do not, so those frames go in whole.) It yields nothing if the frame is not what its header says. Checksums are not made:
// the stack does not look at them.
func datagrams(frame []byte, size int, yield func(datagram []byte)) bool {
	l4 := udpOffset(frame)
	if l4 == 0 || size <= 0 || len(frame) <= l4+header.UDPMinimumSize {
		return false
	}
	payload := frame[l4+header.UDPMinimumSize:]
	if (len(payload)+size-1)/size > maxDatagrams {
		return false
	}
	for len(payload) > 0 {
		n := min(size, len(payload))
		out := make([]byte, 0, l4+header.UDPMinimumSize+n)
		out = append(append(out, frame[:l4+header.UDPMinimumSize]...), payload[:n]...)
		if ip := out[etherLen:]; ip[0]>>4 == 4 {
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		} else {
			binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-header.IPv6MinimumSize))
		}
		binary.BigEndian.PutUint16(out[l4+4:], uint16(header.UDPMinimumSize+n))
		yield(out)
		payload = payload[n:]
	}
	return true
}

// maxDatagrams is how many datagrams one super-frame may hold: UDP_MAX_SEGMENTS of Linux.
const maxDatagrams = 128

// udpOffset is where the UDP header of a frame starts, 0 if there is none or something stands between it and IP's.
func udpOffset(frame []byte) int {
	if len(frame) < etherLen+header.IPv4MinimumSize {
		return 0
	}
	ip := frame[etherLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case uint16(header.IPv4ProtocolNumber):
		if n := int(ip[0]&0xf) * 4; ip[0]>>4 == 4 && n >= header.IPv4MinimumSize && ip[9] == uint8(header.UDPProtocolNumber) {
			return etherLen + n
		}
	case uint16(header.IPv6ProtocolNumber):
		if len(ip) >= header.IPv6MinimumSize && ip[0]>>4 == 6 && ip[6] == uint8(header.UDPProtocolNumber) {
			return etherLen + header.IPv6MinimumSize
		}
	}
	return 0
}
