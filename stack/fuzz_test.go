package stack

import (
	"encoding/binary"
	"testing"
)

func FuzzFrame(f *testing.F) {
	plain := frameOf(number(1), number(2), EtherTypeIPv4, 1, 2, 3)
	f.Add([]byte{})
	f.Add(plain)
	f.Add(tagged(plain, EtherTypeVLAN, 10))
	f.Add(tagged(tagged(plain, EtherTypeVLAN, 10), EtherTypeQinQ, 20)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		v := Frame(b)
		n := v.PayloadOffset()
		if v.Valid() != (n > 0) || n > len(b) || (n > 0) != (v.Payload() != nil) {
			t.Errorf("valid %v, offset %d of %d", v.Valid(), n, len(b))
		}
		if len(b) >= HeaderLen && (v.Dst().bits() != v.dstBits() || v.Src().bits() != v.srcBits()) {
			t.Errorf("addresses read two ways differ: %v %v", v.Dst(), v.Src())
		}
		if v.IsBroadcast() && !v.IsMulticast() {
			t.Error("broadcast but not multicast")
		}
	})
}

// tell gives a switch a frame and checks what must hold of every verdict.
func tell(t testing.TB, s *Switch, now Stamp, frame []byte, in Port) Verdict {
	t.Helper()
	kind := s.plan.Load().kind(in)
	v := s.Decide(now, frame, in)
	switch {
	case (v.Action == Drop) != (v.Reason != DropNone):
		t.Errorf("verdict %+v: a drop has a reason, and nothing else has", v)
	case (v.Action == Flood || v.Action == Group) != (v.Ports.Len() > 0):
		t.Errorf("verdict %+v: ports to forward to, and only then", v)
	case v.Ports.Contains(in) || v.Action == Unicast && v.Out == in:
		t.Errorf("verdict %+v: back where it came from", v)
	case kind == Remote && len(v.Ports.Remote()) > 0:
		t.Errorf("verdict %+v: from a peer to a peer", v)
	}
	return v
}

func FuzzDecide(f *testing.F) {
	for _, g := range golden {
		f.Add(unhex(f, g.frame), uint16(1), uint32(20))
	}
	f.Add(tagged(report(g4(1), number(1)), EtherTypeVLAN, 5), uint16(3), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, in uint16, now uint32) {
		s := trio(Config{Capacity: 8, MaxGroups: 4})
		for _, six := range []bool{false, true} {
			tell(t, s, 0, query(six, number(9), 1), 2)
		}
		s.Age(5)
		tell(t, s, Stamp(now), b, Port(in))
		tell(t, s, Stamp(now), b, 3)
		s.Age(Stamp(now))
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	})
}

// fuzzMessage lets a parser loose on a message whose checksum is right, so that it gets past that.
func fuzzMessage(t *testing.T, dst groupAddr, body []byte) {
	if len(body) < 4 {
		body = append(body, make([]byte, 4)...)
	}
	if len(body) > 60000 {
		return
	}
	f := control(dst, number(1), body)
	m, ok := readMessage(f)
	if !ok {
		m = message{}
	}
	for _, g := range append(m.joined(), m.group) {
		if g != (groupAddr{}) && g.is4() != dst.is4() {
			t.Errorf("group %v in a message to %v", g, dst)
		}
	}
	s := trio(Config{Capacity: 8, MaxGroups: 4})
	if v := tell(t, s, 1, f, 1); v.Action != Flood && v.Reason != DropNoPort && m.kind != msgReport && m.kind != msgLeave {
		t.Errorf("verdict %+v on kind %d", v, m.kind)
	}
	c := s.Counters()
	if bad := c.BadIGMP+c.BadMLD > 0; bad && ok {
		t.Errorf("trusted and counted as bad: %+v", c)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func FuzzIGMP(f *testing.F) {
	for _, g := range golden {
		p, _, _ := parsePacket(unhex(f, g.frame))
		if p.dst.is4() {
			f.Add(p.dst[12:], p.body)
		}
	}
	f.Fuzz(func(t *testing.T, dst, body []byte) {
		if len(dst) != 4 {
			return
		}
		fuzzMessage(t, group4([]byte{224 | dst[0]&0xf, dst[1], dst[2], dst[3]}), body)
	})
}

func FuzzMLD(f *testing.F) {
	for _, g := range golden {
		p, _, _ := parsePacket(unhex(f, g.frame))
		if !p.dst.is4() {
			f.Add(binary.BigEndian.Uint32(p.dst[12:]), p.body)
		}
	}
	f.Fuzz(func(t *testing.T, dst uint32, body []byte) {
		g := groupAddr{0: 0xff, 1: 2}
		binary.BigEndian.PutUint32(g[12:], dst)
		fuzzMessage(t, g, body)
	})
}
