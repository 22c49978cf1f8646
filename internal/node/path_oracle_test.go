package node

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"weave/peer/wire"
)

// The plain oracle of TestPathEqualsSegmentation: what a kernel without offloads would put on the wire for a packet. It
// copies, and sums byte by byte. The kernel may choose some fields when it segments; the oracle chooses as Linux does,
// for what goes in and what comes out alike: IPv4 identification counts up from the super-frame's, FIN and PSH stay on
// the last segment, CWR on the first, and a TCP checksum of zero is written as 0xffff, as with UDP.

// plainFrame is one frame without offloads. vouched says that its giver claimed to have verified the checksums.
type plainFrame struct {
	bytes   string
	vouched bool
}

// offload is a virtio-net header, spelled out.
type offload struct {
	flags, gso                   byte
	hdrLen, size, start, csumOff int
}

const (
	needsChecksum = 1
	dataValid     = 2

	noGSO, tcp4GSO, ufoGSO, tcp6GSO, udpGSO = 0, 1, 3, 4, 5
	ecnGSO                                  = 0x80
)

func readOffload(packet []byte) offload {
	at := func(i int) int { return int(binary.LittleEndian.Uint16(packet[i:])) }
	return offload{flags: packet[0], gso: packet[1], hdrLen: at(2), size: at(4), start: at(6), csumOff: at(8)}
}

func (o offload) append(b []byte) []byte {
	b = append(b, o.flags, o.gso)
	for _, v := range []int{o.hdrLen, o.size, o.start, o.csumOff} {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b
}

// end is where the headers of a super-frame end.
func (o offload) end(frame []byte) int {
	if o.gso == udpGSO {
		return o.start + 8
	}
	return o.start + int(frame[o.start+12]>>4)*4
}

// segment makes plain frames of a valid packet, with at most size bytes of payload each.
func segment(packet []byte, size int) (out []plainFrame) {
	o, frame := readOffload(packet), packet[wire.VnetLen:]
	if o.gso == noGSO {
		f := bytes.Clone(frame)
		if o.flags&needsChecksum != 0 {
			completeSum(f[o.start:], o.csumOff)
		}
		return []plainFrame{{bytes: string(f), vouched: o.flags&dataValid != 0}}
	}
	end := o.end(frame)
	for at := end; at < len(frame); at += size {
		stop := min(at+size, len(frame))
		f := append(bytes.Clone(frame[:end]), frame[at:stop]...)
		o.rewrite(f, len(frame)-len(f), (at-end)/size, at-end, stop == len(frame))
		completeSum(f[o.start:], o.csumOff)
		out = append(out, plainFrame{bytes: string(f)})
	}
	return out
}

// rewrite adapts the headers of the segment f, which is less bytes shorter than the super-frame and whose payload
// begins at offset. The partial checksum holds the length; what else is wrong with it must stay wrong.
func (o offload) rewrite(f []byte, less, index, offset int, last bool) {
	ip, l4 := f[ipStart(f):], f[o.start:]
	if ip[0]>>4 == 4 {
		if long := len(ip)+less > 65535; long { // the field holds zero then
			addTo(ip[2:], len(ip)+less)
		}
		addTo(ip[2:], -less)
		addTo(ip[4:], index)
		header := ip[:int(ip[0]&15)*4]
		header[10], header[11] = 0, 0
		binary.BigEndian.PutUint16(header[10:], ^slowSum(header))
	} else {
		addTo(ip[4:], -less)
	}
	partial := int(binary.BigEndian.Uint16(l4[o.csumOff:])) - less
	for partial < 0 {
		partial += 0xffff
	}
	binary.BigEndian.PutUint16(l4[o.csumOff:], uint16(partial))
	if o.gso == udpGSO {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		return
	}
	binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(offset))
	if !last {
		l4[13] &^= 0x09 // FIN, PSH
	}
	if index > 0 {
		l4[13] &^= 0x80 // CWR
	}
}

func addTo(field []byte, n int) {
	binary.BigEndian.PutUint16(field, uint16(int(binary.BigEndian.Uint16(field))+n))
}

func ipStart(frame []byte) int {
	at := 14
	for frame[at-2] == 0x81 || frame[at-2] == 0x88 && frame[at-1] == 0xa8 {
		at += 4
	}
	return at
}

func slowSum(b []byte) uint16 {
	var s uint32
	for i, v := range b {
		s += uint32(v) << (8 * (1 - i%2))
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// completeSum completes a partial checksum; zero means "none" and is written as its other representation.
func completeSum(l4 []byte, offset int) {
	c := ^slowSum(l4)
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(l4[offset:], c)
}

// pseudoHeader is what a transport checksum covers besides the transport's own bytes (RFC 9293 section 3.1, RFC 8200
// section 8.1), and where those begin. It walks the frame alone, without offload fields.
func pseudoHeader(frame []byte) (pseudo []byte, l4 int) {
	at := ipStart(frame)
	ip := frame[at:]
	if ip[0]>>4 == 4 {
		l4 = at + int(ip[0]&15)*4
		pseudo = append(bytes.Clone(ip[12:20]), 0, ip[9])
		return binary.BigEndian.AppendUint16(pseudo, uint16(len(frame)-l4)), l4
	}
	next, dst := ip[6], ip[24:40]
	for l4 = at + 40; next == 0 || next == 43 || next == 60; {
		length := 8 + int(frame[l4+1])*8
		if next == 43 && frame[l4+3] != 0 { // addresses left to visit: the last is the destination
			dst = frame[l4+length-16 : l4+length]
		}
		next, l4 = frame[l4], l4+length
	}
	pseudo = append(bytes.Clone(ip[8:24]), dst...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(frame)-l4))
	return append(pseudo, 0, 0, 0, next), l4
}

// verify holds every checksum and length of a complete TCP or UDP frame against its bytes.
func verify(frame []byte) error {
	at := ipStart(frame)
	ip, length := frame[at:], 0
	if ip[0]>>4 == 4 {
		length = int(binary.BigEndian.Uint16(ip[2:]))
		if slowSum(ip[:int(ip[0]&15)*4]) != 0xffff {
			return fmt.Errorf("IPv4 header checksum of %x", frame)
		}
	} else {
		length = 40 + int(binary.BigEndian.Uint16(ip[4:]))
	}
	pseudo, l4 := pseudoHeader(frame)
	if length != len(ip) {
		return fmt.Errorf("IP length %d, %d bytes there", length, len(ip))
	}
	if slowSum(append(pseudo, frame[l4:]...)) != 0xffff {
		return fmt.Errorf("transport checksum of %x", frame[:min(len(frame), 200)])
	}
	return nil
}
