package stack

import (
	"encoding/binary"
	"fmt"
)

// MAC is an Ethernet address, in the order of its bytes on the wire (IEEE 802.3 section 3.2.3).
type MAC [6]byte

// String shows the address as six pairs of hex digits with colons.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// IsMulticast says whether the group bit is set; it is for the broadcast address too.
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

// MACs travel inside the package as the low 48 bits of an integer, first byte on the wire highest.
const (
	macBroadcast = 0xffff_ffff_ffff
	macGroupBit  = 1 << 40
)

func (m MAC) bits() uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
}

func macFromBits(v uint64) MAC {
	return MAC{byte(v >> 40), byte(v >> 32), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
}

// EtherTypes the switch looks at (IANA "IEEE 802 Numbers").
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeVLAN = 0x8100 // customer tag, IEEE 802.1Q
	EtherTypeIPv6 = 0x86dd
	EtherTypeQinQ = 0x88a8 // service tag, IEEE 802.1ad
)

// HeaderLen is the length of an untagged Ethernet header; the check sequence never reaches us.
const HeaderLen = 14

const (
	tagLen  = 4 // a VLAN tag: type (2), priority and identifier (2)
	maxTags = 2
)

// VLAN names the segment a frame belongs to: the identifiers of up to two tags, the outer one in the upper 12 of 24 bits.
// Zero is untagged; a tag that only carries a priority (identifier 0) counts as untagged, as IEEE 802.1Q says.
type VLAN uint32

// Frame is a view on the bytes of one Ethernet frame. It copies nothing, owns nothing and never panics: where the bytes
// do not reach, an accessor gives the zero value. Any number of goroutines may read one.
//
//	0        6        12     (+4 per tag)
//	+--------+--------+------+----------------+
//	| dst    | src    | type | payload ...    |
//	+--------+--------+------+----------------+
type Frame []byte

// Valid says whether the header is there whole, tags included.
func (f Frame) Valid() bool {
	if len(f) < HeaderLen {
		return false
	}
	if t := binary.BigEndian.Uint16(f[12:]); t != EtherTypeVLAN && t != EtherTypeQinQ {
		return true
	}
	return f.PayloadOffset() > 0
}

// Dst is the address the frame is for.
func (f Frame) Dst() MAC {
	if len(f) < HeaderLen {
		return MAC{}
	}
	return MAC(f[0:6])
}

// Src is the address the frame says it is from.
func (f Frame) Src() MAC {
	if len(f) < HeaderLen {
		return MAC{}
	}
	return MAC(f[6:12])
}

// IsMulticast says whether the frame is for a group; broadcast is one.
func (f Frame) IsMulticast() bool { return len(f) >= HeaderLen && f[0]&1 != 0 }

// IsBroadcast says whether the frame is for everybody.
func (f Frame) IsBroadcast() bool { return len(f) >= HeaderLen && f.dstBits() == macBroadcast }

// EtherType is the type behind up to two VLAN tags, 0 when the header is cut short. Values up to 1500 are an IEEE 802.3
// length, not a type. With three tags or more it is the third tag's type.
func (f Frame) EtherType() uint16 {
	t, _, _ := f.header()
	return t
}

// VLAN gives the identifiers of up to two tags.
func (f Frame) VLAN() VLAN {
	_, v, _ := f.header()
	return v
}

// PayloadOffset is where the payload starts, behind up to two tags; 0 when the header is cut short.
func (f Frame) PayloadOffset() int {
	_, _, n := f.header()
	return n
}

// Payload is what follows the header, nil when the header is cut short. It shares the frame's memory.
func (f Frame) Payload() []byte {
	_, _, n := f.header()
	if n == 0 {
		return nil
	}
	return f[n:]
}

// header walks the tags. The offset is 0 when the bytes end before the header does.
func (f Frame) header() (etherType uint16, vlan VLAN, offset int) {
	if len(f) < HeaderLen {
		return 0, 0, 0
	}
	offset = HeaderLen
	etherType = binary.BigEndian.Uint16(f[12:])
	for range maxTags {
		if etherType != EtherTypeVLAN && etherType != EtherTypeQinQ {
			break
		}
		if len(f) < offset+tagLen {
			return 0, 0, 0
		}
		vlan = vlan<<12 | VLAN(binary.BigEndian.Uint16(f[offset:])&0xfff)
		etherType = binary.BigEndian.Uint16(f[offset+2:])
		offset += tagLen
	}
	return etherType, vlan, offset
}

// dstBits and srcBits need a frame of HeaderLen bytes or more.
func (f Frame) dstBits() uint64 { return binary.BigEndian.Uint64(f[0:8]) >> 16 }
func (f Frame) srcBits() uint64 { return binary.BigEndian.Uint64(f[6:14]) >> 16 }
