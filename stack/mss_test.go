package stack

import (
	"encoding/binary"
	"testing"
)

// syn is a SYN with options, from one container to another, its checksum complete.
func syn(v6 bool, options ...byte) Frame {
	head := make([]byte, tcpLen, tcpLen+len(options))
	head[tcpDataOffset], head[tcpFlags] = byte(tcpLen+len(options))/4<<4, tcpSYN
	src, dst, ip := "10.2.1.1", "10.2.1.2", ipv4Len
	if v6 {
		src, dst, ip = "fd00::1", "fd00::2", ipv6Len
	}
	f := packetFrame(src, dst, protoTCP, append(head, options...), ip+tcpLen+len(options), true)
	binary.BigEndian.PutUint16(f.Payload()[ip+tcpSum:], tcpSumOf(f, ip))
	return f
}

// tcpSumOf is the checksum that a TCP packet should have, 0 if that it has is right.
func tcpSumOf(f Frame, ip int) uint16 {
	p := f.Payload()
	addresses := p[12:20]
	if ip == ipv6Len {
		addresses = p[8:40]
	}
	sum := uint32(len(p)-ip) + protoTCP
	for i := 0; i < len(addresses); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(addresses[i:]))
	}
	return checksum(sum, p[ip:])
}

func TestClampMSS(t *testing.T) {
	for _, c := range []struct {
		what    string
		v6      bool
		options []byte
		at      int // of the value, in the options; 0: there is none
		mtu     int
		want    uint16
	}{
		{"IPv4", false, []byte{2, 4, 1460 >> 8, 1460 & 0xff}, 2, 1300, 1260},
		{"IPv6", true, []byte{2, 4, 1440 >> 8, 1440 & 0xff}, 2, 1300, 1240},
		{"at an odd place", false, []byte{1, 2, 4, 1460 >> 8, 1460 & 0xff, 1, 1, 0}, 3, 1300, 1260},
		{"behind others", false, []byte{3, 3, 7, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 5, 0xb4}, 16, 1300, 1260},
		{"small enough", false, []byte{2, 4, 1200 >> 8, 1200 & 0xff}, 2, 1300, 1200},
		{"behind the end", false, []byte{0, 0, 0, 0, 2, 4, 5, 0xb4}, 6, 1300, 1460},
		{"a length of nothing", false, []byte{8, 0, 1, 1, 2, 4, 5, 0xb4}, 6, 1300, 1460},
		{"a length beyond the end", false, []byte{8, 40, 1, 1, 2, 4, 5, 0xb4}, 6, 1300, 1460},
		{"cut off", false, []byte{1, 1, 2, 4}, 0, 1300, 0},
		{"an MTU of nothing", false, []byte{2, 4, 5, 0xb4}, 2, 40, 1460},
	} {
		for len(c.options)%4 != 0 {
			c.options = append(c.options, 0)
		}
		for kind, f := range map[string]Frame{"plain": syn(c.v6, c.options...), "tagged": tagged(syn(c.v6, c.options...), EtherTypeVLAN, 7)} {
			before, ip := string(f), ipv4Len
			if c.v6 {
				ip = ipv6Len
			}
			lowered := ClampMSS(f, c.mtu)
			if lowered != (string(f) != before) || tcpSumOf(f, ip) != 0 {
				t.Errorf("%s, %s: lowered=%v, sum %x", c.what, kind, lowered, tcpSumOf(f, ip))
			}
			if c.at == 0 {
				continue
			}
			if got := binary.BigEndian.Uint16(f.Payload()[ip+tcpLen+c.at:]); got != c.want {
				t.Errorf("%s, %s: %d, not %d", c.what, kind, got, c.want)
			}
		}
	}
}

func TestOpensTCP(t *testing.T) {
	later := syn(false, 2, 4, 5, 0xb4)
	later.Payload()[ipv4Len+tcpFlags] = 0x10
	fragment := syn(false, 2, 4, 5, 0xb4)
	fragment.Payload()[7] = 1
	udp := packetFrame("10.2.1.1", "10.2.1.2", 17, []byte{13: tcpSYN, 19: 0}, 40, true)
	for what, f := range map[string]Frame{"a later packet": later, "a fragment": fragment, "UDP": udp} {
		if OpensTCP(f) || ClampMSS(f, 600) {
			t.Errorf("%s opens a connection", what)
		}
	}
	if !OpensTCP(syn(false)) || !OpensTCP(syn(true)) {
		t.Error("a SYN does not open a connection")
	}
}

// Whatever comes, the length of the frame stays, and a checksum that was right is right.
func FuzzClampMSS(f *testing.F) {
	f.Add([]byte(syn(false, 2, 4, 5, 0xb4)), 1300)
	f.Add([]byte(syn(true, 1, 2, 4, 5, 0xb4, 0, 0, 0)), 1300)
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		frame := Frame(b)
		ip := ipv6Len
		if frame.EtherType() == EtherTypeIPv4 && len(frame.Payload()) > 0 {
			ip = int(frame.Payload()[0]&15) * 4
		}
		if !OpensTCP(frame) {
			if ClampMSS(frame, mtu) {
				t.Error("a frame was changed that opens nothing")
			}
			return
		}
		before := tcpSumOf(frame, ip)
		if ClampMSS(frame, mtu) && before == 0 && tcpSumOf(frame, ip) != 0 {
			t.Errorf("the checksum is off by %x", tcpSumOf(frame, ip))
		}
	})
}
