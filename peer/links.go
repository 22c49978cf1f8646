package peer

import (
	"iter"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Link is one connection of the peer in whose record it stands.
type Link struct {
	Peer        Name
	Outbound    bool          // the record's peer dialled
	Established bool          // the data path answers
	RTT         time.Duration // of the data path, quantised; 0 = not measured
	Address     string        // remote address of the control connection, "ip:port"
	Observed    string        // where the data path reaches the peer, "ip:port", if the peer does not tell it itself
	Stream      bool          // the data path runs inside the control connection
	Trusted     bool          // the record's peer would send data there in clear
}

// Links are the links of a record. It is immutable. Everybody holds the records of everybody, and each names all of its
// peer's links, so that these are most of what a network takes in memory: hence a third of what a slice of Link takes.
type Links struct {
	rows []linkRow
	text string // what addresses are parts of: the record's bytes, if it came from the network
}

// linkRow is a Link without pointers.
type linkRow struct {
	rtt               uint32 // microseconds
	address, observed textSpan
	peer              Name
	flags             uint8
}

// textSpan is a part of the text, which is no longer than a record may be: maxRecordBytes.
type textSpan struct{ from, length uint16 }

// The flags of a linkRow.
const (
	linkOutbound = 1 << iota
	linkEstablished
	linkStream
	linkTrusted
)

// MakeLinks makes Links of a list. Times are cut to whole microseconds, and to what a record can tell. Addresses of more than 64 KiB
// in all would not fit a record; those that go beyond are left out.
func MakeLinks(list ...Link) Links {
	var text strings.Builder
	span := func(s string) textSpan {
		if text.Len()+len(s) > math.MaxUint16 {
			return textSpan{}
		}
		at := textSpan{uint16(text.Len()), uint16(len(s))}
		text.WriteString(s)
		return at
	}
	rows := make([]linkRow, 0, Ample(len(list)))
	for _, l := range list {
		row := linkRow{
			rtt: uint32(min(max(l.RTT.Microseconds(), 0), math.MaxUint32)), address: span(l.Address), observed: span(l.Observed), peer: l.Peer,
		}
		row.set(linkOutbound, l.Outbound)
		row.set(linkEstablished, l.Established)
		row.set(linkStream, l.Stream)
		row.set(linkTrusted, l.Trusted)
		rows = append(rows, row)
	}
	return Links{rows, text.String()}
}

// Len returns how many there are.
func (l Links) Len() int { return len(l.rows) }

// At returns link i. Its strings are parts of the record's bytes, see Signed.
func (l Links) At(i int) Link {
	r := &l.rows[i]
	return Link{
		Peer: r.peer, Outbound: r.is(linkOutbound), Established: r.is(linkEstablished), RTT: time.Duration(r.rtt) * time.Microsecond,
		Address: l.part(r.address), Observed: l.part(r.observed), Stream: r.is(linkStream), Trusted: r.is(linkTrusted),
	}
}

// Peer returns whom link i leads to.
func (l Links) Peer(i int) Name { return l.rows[i].peer }

// All goes through the links.
func (l Links) All() iter.Seq[Link] {
	return func(yield func(Link) bool) {
		for i := range l.rows {
			if !yield(l.At(i)) {
				return
			}
		}
	}
}

// Equal says whether two records name the same links in the same order.
func (l Links) Equal(o Links) bool {
	return l.equal(o, func(x, y uint32) bool { return x == y })
}

// equalButTimes is Equal for all but the round-trip times of links that were measured before.
func (l Links) equalButTimes(o Links) bool {
	return l.equal(o, func(x, y uint32) bool { return x == y || x != 0 && y != 0 })
}

func (l Links) equal(o Links, times func(x, y uint32) bool) bool {
	if len(l.rows) != len(o.rows) {
		return false
	}
	for i := range l.rows {
		x, y := &l.rows[i], &o.rows[i]
		if x.peer != y.peer || x.flags != y.flags || !times(x.rtt, y.rtt) ||
			l.part(x.address) != o.part(y.address) || l.part(x.observed) != o.part(y.observed) {
			return false
		}
	}
	return true
}

func (l Links) part(s textSpan) string { return l.text[s.from:][:s.length] }

func (r *linkRow) is(flag uint8) bool { return r.flags&flag != 0 }

func (r *linkRow) set(flag uint8, on bool) {
	r.flags &^= flag
	if on {
		r.flags |= flag
	}
}

// parse takes a marshalled Link apart, which is a part of the text; without a name of the right length the peer stays zero,
// which no peer's name is.
func (r *linkRow) parse(raw []byte, text string) error {
	return eachField(raw, func(f field) error {
		switch {
		case f.is(1, protowire.BytesType):
			r.peer, _ = nameFromBytes(f.bytes)
		case f.is(2, protowire.VarintType):
			r.set(linkOutbound, f.value != 0)
		case f.is(3, protowire.VarintType):
			r.set(linkEstablished, f.value != 0)
		case f.is(4, protowire.VarintType):
			r.rtt = uint32(f.value)
		case f.is(5, protowire.BytesType):
			return f.span(&r.address, text)
		case f.is(6, protowire.BytesType):
			return f.span(&r.observed, text)
		case f.is(7, protowire.VarintType):
			r.set(linkStream, f.value != 0)
		case f.is(8, protowire.VarintType):
			r.set(linkTrusted, f.value != 0)
		}
		return nil
	})
}
