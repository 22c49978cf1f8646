package ipam

import (
	"cmp"
	"fmt"
	"net/netip"

	"weave/peer"
)

// Member is a peer in one of its lives. Life counts from 1; a peer that was
// removed returns with the next one. The zero Member is nobody.
type Member struct {
	Name peer.Name
	Life uint32
}

// IsZero reports whether m is nobody.
func (m Member) IsZero() bool { return m == Member{} }

// Compare orders members by name, then by life.
func (m Member) Compare(o Member) int {
	if c := m.Name.Compare(o.Name); c != 0 {
		return c
	}
	return cmp.Compare(m.Life, o.Life)
}

func (m Member) String() string { return fmt.Sprintf("%s@%d", m.Name, m.Life) }

// Entry says that the addresses from Start to Last, both included, belong to
// Owner, but only those before the start of the next entry. An address beyond
// the Last of the entry before it is nobody's, as far as is known: whoever knows
// a part of the ring must not take what it does not know for its own.
type Entry struct {
	Start, Last uint32
	Version     uint32 // of two entries with the same start the higher counts
	Owner       Member
}

// Versions grow by one with each change by the owner, and by a leap when an
// heir changes what it inherited, so that it wins over a former owner that has
// not heard of its removal. Higher ones than maxVersion are refused: nobody
// gets there, and there must be one above each.
const (
	versionLeap = 1 << 12
	maxVersion  = 1 << 31
)

// compare orders entries with the same start. The order is total, which makes
// the merge of rings a join; between equal versions, that only a conflict can
// make, it is arbitrary but the same everywhere.
func (e Entry) compare(o Entry) int {
	return cmp.Or(
		cmp.Compare(e.Version, o.Version),
		o.Owner.Compare(e.Owner),
		cmp.Compare(o.Last, e.Last),
	)
}

// span is a run of addresses, both ends included.
type span struct{ first, last uint32 }

func (s span) size() uint64 { return uint64(s.last) - uint64(s.first) + 1 }

func (s span) has(a uint32) bool { return s.first <= a && a <= s.last }

// meet is what two spans have in common; false if that is nothing.
func (s span) meet(o span) (span, bool) {
	m := span{max(s.first, o.first), min(s.last, o.last)}
	return m, m.first <= m.last
}

// Segment is a part of the ring as it is after everything was taken into
// account: the next entry, and removed owners.
type Segment struct {
	Start, Last uint32
	Version     uint32
	Owner       Member
}

// Size is the number of addresses.
func (s Segment) Size() uint64 { return span{s.Start, s.Last}.size() }

func (s Segment) span() span { return span{s.Start, s.Last} }

// spanOf is the addresses of an IPv4 prefix.
func spanOf(p netip.Prefix) span {
	first := toUint(p.Masked().Addr())
	return span{first, first | uint32(1<<(32-p.Bits())-1)}
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func toAddr(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}
