package stack

import (
	"bytes"
	"testing"
)

func TestFrameTags(t *testing.T) {
	plain := frameOf(number(1), number(2), 0x88b5, 0xaa, 0xbb)
	one := tagged(plain, EtherTypeVLAN, 0xa00a) // priority 5, VLAN 10
	two := tagged(one, EtherTypeQinQ, 20)
	three := tagged(two, EtherTypeQinQ, 30)
	for _, c := range []struct {
		name   string
		frame  Frame
		kind   uint16
		vlan   VLAN
		offset int
	}{
		{"plain", plain, 0x88b5, 0, 14},
		{"one tag", one, 0x88b5, 10, 18},
		{"two tags", two, 0x88b5, 20<<12 | 10, 22},
		{"three tags", three, EtherTypeVLAN, 30<<12 | 20, 22},
		{"header only", plain[:14], 0x88b5, 0, 14},
		{"cut in the header", plain[:13], 0, 0, 0},
		{"cut in a tag", one[:17], 0, 0, 0},
		{"cut in the second tag", two[:21], 0, 0, 0},
		{"nothing", nil, 0, 0, 0},
	} {
		f := c.frame
		if f.EtherType() != c.kind || f.VLAN() != c.vlan || f.PayloadOffset() != c.offset || f.Valid() != (c.offset > 0) {
			t.Errorf("%s: type %#x vlan %#x offset %d valid %v", c.name, f.EtherType(), f.VLAN(), f.PayloadOffset(), f.Valid())
		}
	}
	if f := Frame(two); f.Dst() != number(1) || f.Src() != number(2) || !bytes.Equal(f.Payload(), []byte{0xaa, 0xbb}) {
		t.Errorf("addresses %v %v, payload %x", f.Dst(), f.Src(), f.Payload())
	}
}

func TestFrameGroups(t *testing.T) {
	for _, c := range []struct {
		dst                  MAC
		multicast, broadcast bool
	}{
		{MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true, true},
		{MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, true, false},
		{MAC{0x01, 0x00, 0x5e, 0, 0, 1}, true, false},
		{MAC{0x02, 0, 0, 0, 0, 1}, false, false},
	} {
		f := Frame(frameOf(c.dst, number(1), EtherTypeIPv4))
		if f.IsMulticast() != c.multicast || f.IsBroadcast() != c.broadcast || c.dst.IsMulticast() != c.multicast {
			t.Errorf("%v: multicast %v, broadcast %v", c.dst, f.IsMulticast(), f.IsBroadcast())
		}
	}
}

func TestMACString(t *testing.T) {
	m := MAC{0x8a, 0x3e, 0, 1, 2, 0xff}
	if m.String() != "8a:3e:00:01:02:ff" || macFromBits(m.bits()) != m {
		t.Errorf("%v, back %v", m, macFromBits(m.bits()))
	}
}
