package wire

import "encoding/binary"

// Sizes in bytes.
const (
	VnetLen     = 10                      // the virtio-net header in front of every frame
	EthernetLen = 14                      // destination, source, ethertype
	MaxFrame    = EthernetLen + 4 + 65535 // one VLAN tag and the largest IP packet
	MaxPacket   = VnetLen + MaxFrame      // what a buffer for packets must hold

	// FrameOverhead is how many bytes more than its IP packet a frame without a VLAN tag takes in a plaintext.
	FrameOverhead = frameLen + EthernetLen
	maxHeaders    = 512                   // headers repeated in each SEGMENT; longer ones travel as fragments
	minPacket     = VnetLen + EthernetLen // less is no packet
	maxIP         = 65535                 // an IPv4 packet; an IPv6 packet behind its fixed header
	maxTags       = 2                     // VLAN tags we look behind
	minRecut      = 64                    // payload below which cutting TCP smaller is worse than fragments
)

// Values of the virtio-net header (linux/virtio_net.h, struct virtio_net_hdr; VIRTIO 1.2 section 5.1.6).
const (
	vnetNeedsCsum = 1 // flags: checksum from csum_start on is to be completed at csum_start+csum_offset
	vnetDataValid = 2 // flags: checksums have been verified

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5    // USO: datagrams of gso_size bytes, IPv4 or IPv6
	gsoECN   = 0x80 // added to a TCP type: only the first segment keeps CWR
)

// vnet is the virtio-net header of a packet, little endian on every platform whose TAP we open:
//
//	 0       1          2..3      4..5       6..7         8..9
//	+-------+----------+---------+----------+------------+-------------+
//	| flags | gso_type | hdr_len | gso_size | csum_start | csum_offset |
//	+-------+----------+---------+----------+------------+-------------+
//
// hdr_len is only a hint: what the kernel writes there is how much of its buffer is linear.
type vnet struct {
	flags      uint8
	gsoType    uint8
	hdrLen     uint16
	gsoSize    uint16
	csumStart  uint16
	csumOffset uint16
}

// get reads the header; b holds at least VnetLen bytes.
func (v *vnet) get(b []byte) {
	_ = b[VnetLen-1]
	v.flags, v.gsoType = b[0], b[1]
	v.hdrLen = binary.LittleEndian.Uint16(b[2:])
	v.gsoSize = binary.LittleEndian.Uint16(b[4:])
	v.csumStart = binary.LittleEndian.Uint16(b[6:])
	v.csumOffset = binary.LittleEndian.Uint16(b[8:])
}

func (v *vnet) put(b []byte) {
	_ = b[VnetLen-1]
	b[0], b[1] = v.flags, v.gsoType
	binary.LittleEndian.PutUint16(b[2:], v.hdrLen)
	binary.LittleEndian.PutUint16(b[4:], v.gsoSize)
	binary.LittleEndian.PutUint16(b[6:], v.csumStart)
	binary.LittleEndian.PutUint16(b[8:], v.csumOffset)
}

// IsSuper tells whether a packet holds a super-frame, which only a Cutter can send.
func IsSuper(packet []byte) bool { return len(packet) >= VnetLen && packet[1] != gsoNone }

// Complete fills in a checksum that the packet's sender left to be completed, as whoever cuts it up has to. It reports whether
// there was room for one where the header says.
func Complete(packet []byte) bool {
	if len(packet) < VnetLen {
		return false
	}
	var v vnet
	v.get(packet)
	if v.flags&vnetNeedsCsum == 0 {
		return true
	}
	frame := packet[VnetLen:]
	start, at := int(v.csumStart), int(v.csumStart)+int(v.csumOffset)
	if at+2 > len(frame) {
		return false
	}
	binary.BigEndian.PutUint16(frame[at:], complete(sum(frame[start:], 0)))
	v.flags, v.csumStart, v.csumOffset = 0, 0, 0
	v.put(packet)
	return true
}

// SegmentLen is how many bytes of payload the segments of a super-frame have; 0 of other packets.
func SegmentLen(packet []byte) int {
	if !IsSuper(packet) {
		return 0
	}
	return int(binary.LittleEndian.Uint16(packet[4:]))
}

// RecordLen is how many bytes of a plaintext a packet without super-frame takes as a FRAME record.
func RecordLen(packet []byte) int { return len(packet) - VnetLen + frameLen }

// AppendFrame adds a packet to a bundle: dst is the plaintext so far, limit how long it may become, in bytes. false
// means that it does not fit, or is a super-frame or no packet at all (Cutter.Start tells which), and that dst is
// unchanged. It allocates only when dst has less capacity than limit.
func AppendFrame(dst, packet []byte, limit int) ([]byte, bool) {
	if len(dst)+RecordLen(packet) > limit {
		return dst, false
	}
	var head [frameLen]byte
	if putFrame(head[:], packet) != FaultNone {
		return dst, false
	}
	dst = append(dst, head[:]...)
	dst = append(dst, packet[VnetLen:]...)
	return dst, true
}

// putFrame writes the FRAME record header for a packet that is no super-frame.
func putFrame(head, packet []byte) Fault {
	if len(packet) < minPacket {
		return FaultShort
	}
	var v vnet
	v.get(packet)
	frame := packet[VnetLen:]
	switch {
	case len(frame) > 0xffff:
		return FaultLong
	case v.gsoType != gsoNone:
		return FaultOffload
	}
	head[0], head[1] = byte(KindFrame), 0
	binary.BigEndian.PutUint16(head[2:], uint16(len(frame)))
	if v.flags&vnetDataValid != 0 {
		head[1] |= frameCsumValid
	}
	if v.flags&vnetNeedsCsum == 0 {
		binary.BigEndian.PutUint32(head[4:], 0)
		return FaultNone
	}
	if !csumFits(v.csumStart, v.csumOffset, len(frame)) {
		return FaultOffload
	}
	head[1] |= frameNeedsCsum
	binary.BigEndian.PutUint16(head[4:], v.csumStart)
	binary.BigEndian.PutUint16(head[6:], v.csumOffset)
	return FaultNone
}

// csumFits tells whether a checksum that is to be completed lies behind the Ethernet header and inside the frame.
func csumFits(start, offset uint16, frame int) bool {
	return int(start) >= EthernetLen && int(start)+int(offset)+2 <= frame
}
