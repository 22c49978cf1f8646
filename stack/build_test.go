package stack

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// number makes a station's address out of a number.
func number(n int) MAC {
	m := MAC{0x02}
	binary.BigEndian.PutUint32(m[2:], uint32(n))
	return m
}

// frameOf lays an Ethernet frame out.
func frameOf(dst, src MAC, etherType uint16, payload ...byte) []byte {
	b := append(append(make([]byte, 0, HeaderLen+len(payload)), dst[:]...), src[:]...)
	return append(binary.BigEndian.AppendUint16(b, etherType), payload...)
}

// tagged puts a VLAN tag into a frame.
func tagged(frame []byte, tpid, tag uint16) []byte {
	out := append([]byte{}, frame[:12]...)
	out = binary.BigEndian.AppendUint16(out, tpid)
	out = binary.BigEndian.AppendUint16(out, tag)
	return append(out, frame[12:]...)
}

// trio is a switch with local ports 1, 2 and remote ports 3, 4.
func trio(cfg Config) *Switch {
	s := NewSwitch(cfg)
	s.AddPort(1, Local)
	s.AddPort(2, Local)
	s.AddPort(3, Remote)
	s.AddPort(4, Remote)
	return s
}

// g4 and g6 are groups for tests; low numbers differ in their last bytes.
func g4(n int) groupAddr { return group4([]byte{239, 1, byte(n >> 8), byte(n)}) }

func g6(n int) groupAddr {
	return groupAddr{0: 0xff, 1: 0x3e, 13: 0x77, 14: byte(n >> 8), 15: byte(n)}
}

var (
	allHosts = group4([]byte{224, 0, 0, 1})
	allNodes = groupAddr{0: 0xff, 1: 0x02, 15: 1}
)

// groupMAC is the Ethernet address of a group.
func groupMAC(g groupAddr) MAC {
	if g.is4() {
		return MAC{0x01, 0x00, 0x5e, g[13] & 0x7f, g[14], g[15]}
	}
	return MAC{0x33, 0x33, g[12], g[13], g[14], g[15]}
}

// ipFrame lays out a packet to a group: IPv4 from 10.0.0.9 with a Router Alert, IPv6 from fe80::9 with a Router Alert among
// hop-by-hop options.
func ipFrame(dst groupAddr, src MAC, proto uint8, body []byte) []byte {
	if dst.is4() {
		h := []byte{0x46, 0xc0, 0, 0, 0, 0, 0x40, 0, 1, proto, 0, 0, 10, 0, 0, 9, 0, 0, 0, 0, 0x94, 4, 0, 0}
		binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
		copy(h[16:], dst[12:])
		binary.BigEndian.PutUint16(h[10:], checksum(0, h))
		return frameOf(groupMAC(dst), src, EtherTypeIPv4, append(h, body...)...)
	}
	h := make([]byte, 48)
	h[0], h[7], h[8], h[9], h[23] = 0x60, 1, 0xfe, 0x80, 9
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(body)))
	copy(h[24:], dst[:])
	copy(h[40:], []byte{proto, 0, 5, 2, 0, 0, 1, 0})
	return frameOf(groupMAC(dst), src, EtherTypeIPv6, append(h, body...)...)
}

// control lays out an IGMP or MLD message and fills its checksum in, by the family of dst.
func control(dst groupAddr, src MAC, body []byte) []byte {
	body = append([]byte{}, body...)
	body[2], body[3] = 0, 0
	if dst.is4() {
		binary.BigEndian.PutUint16(body[2:], checksum(0, body))
		return ipFrame(dst, src, protoIGMP, body)
	}
	p := packet{src: groupAddr{0: 0xfe, 1: 0x80, 15: 9}, dst: dst}
	binary.BigEndian.PutUint16(body[2:], checksum(p.pseudoSum(len(body)), body))
	return ipFrame(dst, src, protoICMPv6, body)
}

// query is a general query with a response time in seconds: IGMPv2 or MLDv1.
func query(six bool, src MAC, resp int) []byte {
	if !six {
		return control(allHosts, src, []byte{igmpQuery, byte(10 * resp), 0, 0, 0, 0, 0, 0})
	}
	body := make([]byte, 24)
	body[0] = mldQuery
	binary.BigEndian.PutUint16(body[4:], uint16(1000*resp))
	return control(allNodes, src, body)
}

// report is an IGMPv2 or MLDv1 report; leave says that the member goes.
func report(g groupAddr, src MAC) []byte {
	if g.is4() {
		return control(g, src, append([]byte{igmpReportV2, 0, 0, 0}, g[12:]...))
	}
	return control(g, src, append([]byte{mldReportV1, 0, 0, 0, 0, 0, 0, 0}, g[:]...))
}

func leave(g groupAddr, src MAC) []byte {
	if g.is4() {
		return control(group4([]byte{224, 0, 0, 2}), src, append([]byte{igmpLeave, 0, 0, 0}, g[12:]...))
	}
	return control(groupAddr{0: 0xff, 1: 0x02, 15: 2}, src, append([]byte{mldDone, 0, 0, 0, 0, 0, 0, 0}, g[:]...))
}

// record is one record of an IGMPv3 or MLDv2 report.
type record struct {
	kind    byte
	sources int
	group   groupAddr
}

// records is an IGMPv3 or MLDv2 report.
func records(src MAC, recs ...record) []byte {
	six := !recs[0].group.is4()
	body := []byte{igmpReportV3, 0, 0, 0, 0, 0, 0, byte(len(recs))}
	dst, width := group4([]byte{224, 0, 0, 22}), 4
	if six {
		body[0], dst, width = mldReportV2, groupAddr{0: 0xff, 1: 0x02, 15: 0x16}, 16
	}
	for _, r := range recs {
		body = append(body, r.kind, 1, 0, byte(r.sources))
		body = append(body, r.group[16-width:]...)
		body = append(body, make([]byte, r.sources*width+4)...)
	}
	return control(dst, src, body)
}

// hello is a PIM hello.
func hello(six bool, src MAC) []byte {
	if six {
		return ipFrame(groupAddr{0: 0xff, 1: 0x02, 15: 0x0d}, src, protoPIM, []byte{0x20, 0, 0, 0})
	}
	return ipFrame(group4([]byte{224, 0, 0, 13}), src, protoPIM, []byte{0x20, 0, 0, 0})
}

// data is a packet to a group that is not about multicast itself.
func data(g groupAddr, src MAC) []byte { return ipFrame(g, src, 17, make([]byte, 12)) }

// unhex reads golden bytes.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fix gives an IGMP or MLD message in a frame of ours the right checksum, where there is room for one.
func fix(f []byte) []byte {
	p, _, ok := parsePacket(f)
	if !ok || len(p.body) < 4 {
		return f
	}
	p.body[2], p.body[3] = 0, 0
	sum := uint32(0)
	if !p.dst.is4() {
		sum = p.pseudoSum(len(p.body))
	}
	binary.BigEndian.PutUint16(p.body[2:], checksum(sum, p.body))
	return f
}
