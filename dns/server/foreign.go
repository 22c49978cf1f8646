package server

import (
	"encoding/binary"
	"errors"
	"time"

	mdns "github.com/miekg/dns"
)

// question is what answers of other servers are kept under.
type question struct {
	text string // name in lower case, type and class, as on the wire
	bits byte   // which of DO, AD, CD the client set: the answer may differ
}

const (
	bitAD = 0x20 // of the header's fourth byte
	bitCD = 0x10
	bitDO = 0x01 // of ours
)

// key is the question that a query asks.
func (q *query) key() question {
	var room [headerLen + 256]byte
	text := append(room[:0], q.question...)
	for i, b := range text[:len(text)-4] { // lengths are below 'A'
		if b >= 'A' && b <= 'Z' {
			text[i] = b + 'a' - 'A'
		}
	}
	k := question{text: string(text), bits: q.head[3] & (bitAD | bitCD)}
	if q.do {
		k.bits |= bitDO
	}
	return k
}

// message is a query for other servers to answer. It has no number yet.
func (q *query) message() (*mdns.Msg, error) {
	var m mdns.Msg
	if err := m.Unpack(q.replyHead(nil, 0)); err != nil {
		return nil, err
	}
	ask := &mdns.Msg{Question: m.Question}
	ask.RecursionDesired = true
	ask.CheckingDisabled, ask.AuthenticatedData = q.head[3]&bitCD != 0, q.head[3]&bitAD != 0
	ask.SetEdns0(ownUDP, q.do)
	return ask, nil
}

// foreign is an answer of another server. It never changes.
type foreign struct {
	wire []byte   // the message, without OPT
	ttls []uint16 // where in it are times to live
	at   time.Time
	ends time.Time // when it must be forgotten
}

var errTooLarge = errors.New("an answer that does not fit a message")

// newForeign takes an answer to a question that came in at a time. It changes
// the message.
func newForeign(m *mdns.Msg, asked []mdns.Question, now time.Time) (*foreign, error) {
	extra := m.Extra[:0:0]
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != mdns.TypeOPT {
			extra = append(extra, rr)
		}
	}
	m.Extra, m.Question, m.Compress = extra, asked, true
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	if len(wire) > maxMessage {
		return nil, errTooLarge
	}
	f := &foreign{wire: append([]byte(nil), wire...), at: now, ends: now.Add(lifetime(m))}
	_, at, err := mdns.UnpackDomainName(wire, headerLen)
	for at += 4; err == nil && at < len(wire); {
		var rr mdns.RR
		if rr, at, err = mdns.UnpackRR(wire, at); err == nil {
			f.ttls = append(f.ttls, uint16(at-int(rr.Header().Rdlength)-6)) // 4 bytes, then the 2 of the length
		}
	}
	return f, err
}

// reply makes the answer a client's: its number, its spelling, the time that
// passed taken off, an OPT record if it has one, and limit bytes at most.
func (f *foreign) reply(q *query, out []byte, now time.Time, limit int) []byte {
	out = append(out[:0], f.wire...)
	copy(out, q.head[:2])
	copy(out[headerLen:], q.question)
	out[2] = 0x80 | q.head[2]&0x01 | out[2]&0x02 // an answer, not our own; "recursion desired" as it came, "truncated" stays
	out[3] = 0x80 | out[3]&0x3f                  // recursion available
	age := uint32(max(now.Sub(f.at), 0) / time.Second)
	for _, at := range f.ttls {
		ttl := binary.BigEndian.Uint32(out[at:])
		binary.BigEndian.PutUint32(out[at:], ttl-min(age, ttl))
	}
	if out = q.appendOPT(out, 0); len(out) <= limit {
		return out
	}
	var m mdns.Msg
	if m.Unpack(out) != nil { // longer than a message with the OPT record
		return q.fail(out, rcodeServFail)
	}
	m.Compress = true
	return pack(&m, limit)
}
