package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"pgregory.net/rapid"
)

// The oracle is what a kernel without offloads would put on the wire for a packet: copies, byte by byte, with addresses
// summed anew for each segment. It shares no code with the package except the constants of packet formats.

// oracle segments a packet into whole frames with all checksums. gsoSize replaces the packet's, unless it is zero.
func oracle(packet []byte, gsoSize int) ([][]byte, error) {
	if len(packet) < 24 {
		return nil, errors.New("too short")
	}
	frame := packet[10:]
	flags, gso := packet[0], packet[1]&^0x80
	start, offset := int(binary.LittleEndian.Uint16(packet[6:])), int(binary.LittleEndian.Uint16(packet[8:]))
	if flags&1 != 0 && start+offset+2 > len(frame) {
		return nil, errors.New("checksum outside the frame")
	}
	if gso == 0 {
		out := bytes.Clone(frame)
		if flags&1 != 0 {
			putSlowSum(out[start:], offset, 0)
		}
		return [][]byte{out}, nil
	}
	if flags&1 == 0 {
		return nil, errors.New("super-frame without partial checksum")
	}
	if gsoSize == 0 {
		gsoSize = int(binary.LittleEndian.Uint16(packet[4:]))
	}
	end := start + 8
	if gso != 5 {
		end = start + int(frame[start+12]>>4)*4
	}
	if got := int(binary.LittleEndian.Uint16(packet[2:])); got != end && got != 0x7777 {
		return nil, fmt.Errorf("hdr_len %d, headers end at %d", got, end)
	}
	if ecn := packet[1]&0x80 != 0; ecn && (gso == 5 || frame[start+13]&0x80 == 0) {
		return nil, errors.New("ECN without CWR")
	}
	if err := checkPartial(frame, start, offset); err != nil {
		return nil, err
	}
	return oracleSegments(frame, start, end, offset, gsoSize, gso == 5), nil
}

func oracleSegments(frame []byte, start, end, offset, gsoSize int, udp bool) (out [][]byte) {
	ip := slowIP(frame)
	for at := end; at < len(frame); at += gsoSize {
		stop, index := min(at+gsoSize, len(frame)), (at-end)/gsoSize
		f := append(bytes.Clone(frame[:end]), frame[at:stop]...)
		if f[ip]>>4 == 4 {
			binary.BigEndian.PutUint16(f[ip+2:], uint16(len(f)-ip))
			binary.BigEndian.PutUint16(f[ip+4:], uint16(int(binary.BigEndian.Uint16(f[ip+4:]))+index))
			f[ip+10], f[ip+11] = 0, 0
			binary.BigEndian.PutUint16(f[ip+10:], ^slowSum(f[ip:start]))
		} else {
			binary.BigEndian.PutUint16(f[ip+4:], uint16(len(f)-ip-40))
		}
		if udp {
			binary.BigEndian.PutUint16(f[start+4:], uint16(len(f)-start))
		} else {
			binary.BigEndian.PutUint32(f[start+4:], binary.BigEndian.Uint32(f[start+4:])+uint32(at-end))
			if stop != len(frame) {
				f[start+13] &^= 0x09 // FIN, PSH
			}
			if index != 0 {
				f[start+13] &^= 0x80 // CWR
			}
		}
		f[start+offset], f[start+offset+1] = 0, 0
		putSlowSum(f[start:], offset, uint32(pseudoSum(f, start)))
		out = append(out, f)
	}
	return out
}

// checkPartial holds the partial checksum against the pseudo-header, and lengths against the frame.
func checkPartial(frame []byte, start, offset int) error {
	got := binary.BigEndian.Uint16(frame[start+offset:])
	if want := pseudoSum(frame, start); got != want && uint32(got)%0xffff != uint32(want)%0xffff {
		return fmt.Errorf("partial checksum %#x, want %#x", got, want)
	}
	ip := slowIP(frame)
	n := int(binary.BigEndian.Uint16(frame[ip+2:]))
	if frame[ip]>>4 == 6 {
		n = 40 + int(binary.BigEndian.Uint16(frame[ip+4:]))
	}
	if long := frame[ip]>>4 == 4 && n == 0 && len(frame)-ip > 65535; ip+n != len(frame) && !long {
		return fmt.Errorf("IP length %d, %d bytes there", n, len(frame)-ip)
	}
	if frame[ip]>>4 == 4 && slowSum(frame[ip:start]) != 0xffff {
		return errors.New("IPv4 header checksum")
	}
	return nil
}

func slowIP(frame []byte) int {
	ip := 14
	for frame[ip-2] == 0x81 || frame[ip-2] == 0x88 {
		ip += 4
	}
	return ip
}

// pseudoSum sums the pseudo-header (RFC 793, RFC 8200 section 8.1) of the transport header at start.
func pseudoSum(frame []byte, start int) uint16 {
	ip := slowIP(frame)
	var b []byte
	length := uint32(len(frame) - start)
	if frame[ip]>>4 == 4 {
		b = append(b, frame[ip+12:ip+20]...)
		b = append(b, 0, frame[ip+9])
		return slowSum(binary.BigEndian.AppendUint32(b, length))
	}
	dst := frame[ip+24 : ip+40]
	proto := frame[ip+6]
	for at := ip + 40; at < start; {
		size := 8 + int(frame[at+1])*8
		if proto == 43 && frame[at+3] != 0 {
			dst = frame[at+size-16 : at+size]
		}
		proto, at = frame[at], at+size
	}
	b = append(b, frame[ip+8:ip+24]...)
	b = append(b, dst...)
	b = binary.BigEndian.AppendUint32(b, length)
	return slowSum(append(b, 0, 0, 0, proto))
}

func slowSum(b []byte) uint16 {
	var s uint32
	for i, v := range b {
		if i%2 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s>>16 + s&0xffff)
}

// putSlowSum completes the checksum at l4[offset:], adding more to what is summed.
func putSlowSum(l4 []byte, offset int, more uint32) {
	s := uint32(slowSum(l4)) + more
	c := ^uint16(s>>16 + s&0xffff)
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(l4[offset:], c)
}

// traffic describes a packet to be built.
type traffic struct {
	proto    string // "tcp4", "tcp6", "udp4", "udp6", "raw"
	super    bool   // leave it to be segmented
	needs    bool   // without super: leave the checksum to be completed
	tags     int    // VLAN tags
	options  int    // bytes of IPv4 options, or number of IPv6 extension headers
	routing  bool   // one of the IPv6 extension headers is a routing header
	tcpFlags byte
	tcpExtra int // bytes of TCP options
	gsoSize  int
	payload  int
	seed     uint64
}

// build makes the packet with addresses, ports and payload from the seed.
func (d traffic) build() []byte {
	rnd := rand.New(rand.NewPCG(d.seed, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	frame := noise(12)
	for range d.tags {
		frame = append(frame, 0x81, 0, 0x20, 7)
	}
	if d.proto == "raw" {
		frame = append(append(frame, 0x88, 0xb5), noise(d.payload)...)
		return append(make([]byte, 10), frame...)
	}
	l4len, proto := 8+d.payload, byte(17)
	if d.proto[:3] == "tcp" {
		l4len, proto = 20+d.tcpExtra+d.payload, 6
	}
	if d.proto[3] == '4' {
		frame = d.appendIPv4(frame, noise, l4len, proto)
	} else {
		frame = d.appendIPv6(frame, noise, l4len, proto)
	}
	start := len(frame)
	return d.finish(append(frame, noise(l4len)...), start)
}

func (d traffic) appendIPv4(frame []byte, noise func(int) []byte, l4len int, proto byte) []byte {
	frame = append(frame, 8, 0)
	h := noise(20 + d.options)
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+l4len))
	h[6], h[7], h[9], h[10], h[11] = 0x40, 0, proto, 0, 0
	binary.BigEndian.PutUint16(h[10:], ^slowSum(h))
	return append(frame, h...)
}

func (d traffic) appendIPv6(frame []byte, noise func(int) []byte, l4len int, proto byte) []byte {
	frame = append(frame, 0x86, 0xdd)
	h := noise(40)
	h[0] = 0x60
	var ext []byte
	next, nextAt := byte(0), &h[6]
	for i := range d.options {
		next = []byte{0, 60, 60}[i%3]
		e := append([]byte{0, 0, 1, 4, 0, 0, 0, 0}, noise(8)...)
		e[1], e[8], e[9] = 1, 1, 6
		if d.routing && i == d.options-1 {
			next = 43
			e = append([]byte{0, 2, 2, 1, 0, 0, 0, 0}, noise(16)...)
		}
		*nextAt = next
		ext = append(ext, e...)
		nextAt = &ext[len(ext)-len(e)]
	}
	*nextAt = proto
	binary.BigEndian.PutUint16(h[4:], uint16(len(ext)+l4len))
	return append(append(frame, h...), ext...)
}

// finish sets the transport header's fields and puts the virtio-net header in front.
func (d traffic) finish(frame []byte, start int) []byte {
	v := make([]byte, 10)
	offset, gso := 6, byte(5)
	if d.proto[:3] == "tcp" {
		offset, gso = 16, 1
		if d.proto[3] == '6' {
			gso = 4
		}
		frame[start+12] = byte(20+d.tcpExtra) / 4 << 4
		frame[start+13] = d.tcpFlags
		if d.tcpFlags&0x80 != 0 {
			gso |= 0x80
		}
	} else {
		binary.BigEndian.PutUint16(frame[start+4:], uint16(len(frame)-start))
	}
	frame[start+offset], frame[start+offset+1] = 0, 0
	if !d.super && !d.needs {
		putSlowSum(frame[start:], offset, uint32(pseudoSum(frame, start)))
		v[0] = 2
		return append(v, frame...)
	}
	binary.BigEndian.PutUint16(frame[start+offset:], pseudoSum(frame, start))
	v[0] = 1
	binary.LittleEndian.PutUint16(v[6:], uint16(start))
	binary.LittleEndian.PutUint16(v[8:], uint16(offset))
	if d.super {
		v[1] = gso
		binary.LittleEndian.PutUint16(v[2:], 0x7777) // the kernel's hint means nothing
		binary.LittleEndian.PutUint16(v[4:], uint16(d.gsoSize))
	}
	return append(v, frame...)
}

// follow is a super-frame of TCP over IPv4 that continues the stream of another one with as much payload, or nil where that is
// something else. PSH goes from the other to this one.
func follow(packet []byte, payload int) []byte {
	if packet[1] != 1 || packet[10+12] != 8 {
		return nil
	}
	next, size := bytes.Clone(packet[10:]), int(binary.LittleEndian.Uint16(packet[4:]))
	start := int(binary.LittleEndian.Uint16(packet[6:]))
	end := start + int(next[start+12]>>4)*4
	segments := (len(next) - end + size - 1) / size
	binary.BigEndian.PutUint16(next[18:], binary.BigEndian.Uint16(next[18:])+uint16(segments))
	binary.BigEndian.PutUint32(next[start+4:], binary.BigEndian.Uint32(next[start+4:])+uint32(len(next)-end))
	for i := end; i < len(next); i++ {
		next[i]++
	}
	next = next[:min(end+payload, len(next))]
	binary.BigEndian.PutUint16(next[16:], uint16(len(next)-14))
	next[24], next[25], next[start+16], next[start+17] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(next[24:], ^slowSum(next[14:start]))
	binary.BigEndian.PutUint16(next[start+16:], pseudoSum(next, start))
	packet[10+start+13] &^= 0x08
	return append(bytes.Clone(packet[:10]), next...)
}

// draw makes some packet.
func draw(t *rapid.T) []byte {
	d := traffic{
		proto: rapid.SampledFrom([]string{"tcp4", "tcp4", "tcp6", "udp4", "udp6", "raw"}).Draw(t, "proto"),
		super: rapid.Bool().Draw(t, "super"),
		needs: rapid.Bool().Draw(t, "needs"),
		tags:  rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "tags"),
		seed:  rapid.Uint64().Draw(t, "seed"),
	}
	d.tcpFlags = 0x10 | rapid.Byte().Draw(t, "flags")&0xc9
	d.tcpExtra = 4 * rapid.IntRange(0, 10).Draw(t, "tcp options")
	if d.proto[len(d.proto)-1] == '4' {
		d.options = rapid.SampledFrom([]int{0, 0, 4, 40}).Draw(t, "ip options")
	} else {
		d.options = rapid.SampledFrom([]int{0, 0, 1, 2, 5}).Draw(t, "extension headers")
		d.routing = d.options > 0 && rapid.Bool().Draw(t, "routing")
	}
	limit := 1500
	if d.super {
		limit = 65535 - 8 - 160 - 60
		d.gsoSize = rapid.SampledFrom([]int{100, 536, 1200, 1324, 1460, 8900}).Draw(t, "gso_size")
	}
	d.payload = rapid.IntRange(1, limit).Draw(t, "payload")
	if d.super && rapid.Bool().Draw(t, "whole") {
		d.payload = max(1, d.payload/d.gsoSize) * d.gsoSize
		if d.payload > limit {
			d.payload -= d.gsoSize
		}
	}
	return d.build()
}
