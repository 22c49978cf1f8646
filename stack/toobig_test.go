package stack

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// packetFrame lays out an IP packet of n bytes with a head of a transport, tagged or not.
func packetFrame(src, dst string, proto byte, head []byte, n int, df bool) Frame {
	a, b := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	p := make([]byte, n)
	at, kind := ipv6Len, uint16(EtherTypeIPv6)
	if a.Is4() {
		at, kind = ipv4Len, EtherTypeIPv4
		p[0], p[8], p[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(p[2:], uint16(n))
		if df {
			p[6] = dontFragment >> 8
		}
		copy(p[12:], a.AsSlice())
		copy(p[16:], b.AsSlice())
	} else {
		p[0], p[6], p[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(p[4:], uint16(n-ipv6Len))
		copy(p[8:], a.AsSlice())
		copy(p[24:], b.AsSlice())
	}
	copy(p[at:], head)
	return frameOf(number(2), number(1), kind, p...)
}

func TestTooBig4(t *testing.T) {
	udp := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	f := packetFrame("10.2.1.1", "10.2.1.2", 17, udp, 1400, true)
	for what, f := range map[string]Frame{"plain": f, "tagged": tagged(f, EtherTypeVLAN, 7)} {
		r, ok := TooBig(f, 1300)
		if !ok {
			t.Fatal(what, "no answer")
		}
		got := Frame(r)
		p := got.Payload()
		if got.Dst() != f.Src() || got.Src() != f.Dst() || got.VLAN() != f.VLAN() || got.EtherType() != EtherTypeIPv4 {
			t.Errorf("%s: %x", what, r[:20])
		}
		if len(p) != ipv4Len+icmpLen+quotedIPv4 || int(binary.BigEndian.Uint16(p[2:])) != len(p) || checksum(0, p[:ipv4Len]) != 0 || checksum(0, p[ipv4Len:]) != 0 {
			t.Errorf("%s: lengths or sums: %x", what, p)
		}
		if string(p[12:16]) != "\x0a\x02\x01\x02" || string(p[16:20]) != "\x0a\x02\x01\x01" || p[20] != 3 || p[21] != 4 || binary.BigEndian.Uint16(p[26:]) != 1300 {
			t.Errorf("%s: %x", what, p)
		}
		if string(p[28:]) != string(f.Payload()[:28]) {
			t.Errorf("%s: quotes %x", what, p[28:])
		}
	}
}

func TestTooBig6(t *testing.T) {
	f := packetFrame("fd00::1", "fd00::2", 17, []byte{1, 2, 3, 4, 5, 6, 7, 8}, 1400, true)
	r, ok := TooBig(f, 1000) // less than any IPv6 link has
	if !ok {
		t.Fatal("no answer")
	}
	p := Frame(r).Payload()
	in := packet{src: groupAddr(netip.MustParseAddr("fd00::2").As16()), dst: groupAddr(netip.MustParseAddr("fd00::1").As16())}
	if len(p) != longestIPv6 || checksum(in.pseudoSum(len(p)-ipv6Len), p[ipv6Len:]) != 0 || int(binary.BigEndian.Uint16(p[4:])) != len(p)-ipv6Len {
		t.Errorf("%d bytes, or a wrong sum: %x", len(p), p[:60])
	}
	if p[40] != 2 || p[41] != 0 || binary.BigEndian.Uint32(p[44:]) != 1280 || string(p[48:]) != string(f.Payload()[:longestIPv6-48]) {
		t.Errorf("%x", p[40:100])
	}
}

// What must not be answered with an error is not.
func TestTooBigNot(t *testing.T) {
	f := packetFrame("10.2.1.1", "10.2.1.2", 17, nil, 1400, true)
	broadcast := append(Frame{}, f...)
	copy(broadcast, []byte{255, 255, 255, 255, 255, 255})
	later := append(Frame{}, f...)
	later[HeaderLen+7] = 9
	for what, f := range map[string]Frame{
		"may be cut":          packetFrame("10.2.1.1", "10.2.1.2", 17, nil, 1400, false),
		"an error":            packetFrame("10.2.1.1", "10.2.1.2", 1, []byte{3, 4}, 1400, true),
		"an IPv6 error":       packetFrame("fd00::1", "fd00::2", 58, []byte{2, 0}, 1400, true),
		"from nobody":         packetFrame("::", "fd00::2", 17, nil, 1400, true),
		"to everybody":        broadcast,
		"not the first piece": later,
		"no IP":               frameOf(number(2), number(1), 0x88b5, make([]byte, 1400)...),
		"cut short":           f[:30],
		"empty":               nil,
	} {
		if r, ok := TooBig(f, 1300); ok {
			t.Errorf("%s: answered with %x", what, r)
		}
	}
	for what, f := range map[string]Frame{
		"an echo":      packetFrame("10.2.1.1", "10.2.1.2", 1, []byte{8, 0}, 1400, true),
		"its answer":   packetFrame("10.2.1.1", "10.2.1.2", 1, []byte{0, 0}, 1400, true),
		"an IPv6 echo": packetFrame("fd00::1", "fd00::2", 58, []byte{128, 0}, 1400, true),
	} {
		if _, ok := TooBig(f, 1300); !ok {
			t.Errorf("%s: not answered", what)
		}
	}
}

// The pieces of a packet, and the pieces of its pieces, are the packet.
func TestCut(t *testing.T) {
	whole := packetFrame("10.2.1.1", "10.2.1.2", 17, nil, 1400, false)
	for i := range whole[HeaderLen+ipv4Len:] {
		whole[HeaderLen+ipv4Len+i] = byte(i * 7)
	}
	for what, f := range map[string]Frame{"plain": whole, "tagged": tagged(whole, EtherTypeVLAN, 7)} {
		var all []Frame
		for _, p := range Cut(f, 700) {
			for _, q := range Cut(p, 333) {
				all = append(all, q)
			}
		}
		body := make([]byte, 1400-ipv4Len)
		filled, last := 0, 0
		for _, q := range all {
			p := q.Payload()
			flags := binary.BigEndian.Uint16(p[6:])
			if len(p) > 333 || int(binary.BigEndian.Uint16(p[2:])) != len(p) || checksum(0, p[:ipv4Len]) != 0 || q.VLAN() != f.VLAN() || q.Dst() != f.Dst() {
				t.Fatalf("%s: piece %x", what, p[:ipv4Len])
			}
			at := int(flags&fragmentOffset) * fragmentUnit
			filled += copy(body[at:], p[ipv4Len:])
			if flags&moreFragments == 0 {
				last++
				if at+len(p)-ipv4Len != len(body) {
					t.Errorf("%s: the last piece ends at %d", what, at+len(p)-ipv4Len)
				}
			}
		}
		if filled != len(body) || last != 1 || string(body) != string(f.Payload()[ipv4Len:]) {
			t.Errorf("%s: %d of %d bytes in %d pieces, %d of them the last", what, filled, len(body), len(all), last)
		}
	}
	for what, f := range map[string]Frame{
		"must not be cut": packetFrame("10.2.1.1", "10.2.1.2", 17, nil, 1400, true),
		"IPv6":            packetFrame("fd00::1", "fd00::2", 17, nil, 1400, false),
		"cut short":       whole[:30],
		"lies":            whole[:1000],
	} {
		if got := Cut(f, 700); got != nil {
			t.Errorf("%s: %d pieces", what, len(got))
		}
	}
}

func TestPacketLen(t *testing.T) {
	tcp := make([]byte, 32)
	tcp[12] = 8 << 4
	for what, c := range map[string]struct {
		f             Frame
		segment, want int
	}{
		"as it is":        {packetFrame("10.2.1.1", "10.2.1.2", 17, nil, 1400, true), 0, 1400},
		"a super-frame":   {packetFrame("10.2.1.1", "10.2.1.2", 6, tcp, 9000, true), 1200, 20 + 32 + 1200},
		"one of IPv6":     {packetFrame("fd00::1", "fd00::2", 6, tcp, 9000, true), 1200, 40 + 32 + 1200},
		"of UDP":          {packetFrame("fd00::1", "fd00::2", 17, tcp, 9000, true), 1200, 40 + 8 + 1200},
		"a short one":     {packetFrame("10.2.1.1", "10.2.1.2", 6, tcp, 1000, true), 1200, 1000},
		"tagged":          {tagged(packetFrame("10.2.1.1", "10.2.1.2", 17, nil, 1400, true), EtherTypeVLAN, 7), 0, 1400},
		"no IP":           {frameOf(number(2), number(1), 0x88b5, make([]byte, 1400)...), 0, 0},
		"cut short":       {packetFrame("10.2.1.1", "10.2.1.2", 6, tcp, 100, true)[:20], 10, 0},
		"without its TCP": {packetFrame("10.2.1.1", "10.2.1.2", 6, nil, 24, true), 10, 24},
	} {
		if got := PacketLen(c.f, c.segment); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

func FuzzTooBig(f *testing.F) {
	f.Add([]byte(packetFrame("10.2.1.1", "10.2.1.2", 17, nil, 100, true)), 50)
	f.Add([]byte(packetFrame("fd00::1", "fd00::2", 58, []byte{128}, 100, true)), 50)
	f.Fuzz(func(t *testing.T, in []byte, mtu int) {
		for _, p := range Cut(in, mtu&0xfff) {
			if n := PacketLen(p, 0); n > mtu&0xfff {
				t.Fatalf("a piece of %d bytes for an mtu of %d", n, mtu&0xfff)
			}
		}
		r, ok := TooBig(in, mtu&0xffff)
		if !ok {
			return
		}
		if again, ok := TooBig(r, mtu&0xffff); ok {
			t.Fatalf("an error is answered: %x", again)
		}
		PacketLen(in, mtu&0xfff)
	})
}
