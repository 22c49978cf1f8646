package server

import "encoding/binary"

// Numbers of RFC 1035 and 6891.
const (
	headerLen  = 12
	maxUDP     = 512  // bytes of an answer to who does not say that it takes more
	ownUDP     = 1232 // bytes of a query that we take (DNS flag day 2020)
	capUDP     = 4096 // of an answer, whatever the client says
	maxMessage = 65535
	typeOPT    = 41
	classINET  = 1

	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImpl  = 4
	rcodeRefused  = 5
	rcodeBadVers  = 16 // the upper bits go into the OPT record
)

// query is a query's parts. It points into the message.
//
//	 0      2       4        6         8         10       12
//	+------+-------+--------+---------+---------+--------+----------+------+-------+------
//	|  id  | flags | 1      | answers | authori-| addi-  | name     | type | class | OPT
//	|      |       |        | 0       | ties 0  | tional |          |      |       |
//	+------+-------+--------+---------+---------+--------+----------+------+-------+------
type query struct {
	head     [headerLen]byte
	question []byte // name, type, class as they came
	name     []byte // lower case, without the dot at its end; in text
	qtype    uint16
	qclass   uint16
	edns     bool
	do       bool
	size     int // of an answer over UDP, bytes
	text     [256]byte
}

// fate is what to do with a message.
type fate uint8

const (
	fateAnswer fate = iota
	fateDrop        // not a query
	fateFail        // answer with the code only
)

// parse reads a query. With fateFail code says how to fail.
func (q *query) parse(msg []byte) (f fate, code byte) {
	if len(msg) < headerLen || msg[2]&0x80 != 0 {
		return fateDrop, 0
	}
	copy(q.head[:], msg)
	q.question, q.edns, q.do, q.size = nil, false, false, maxUDP
	if msg[2]>>3&15 != 0 {
		return fateFail, rcodeNotImpl
	}
	count := func(at int) uint16 { return binary.BigEndian.Uint16(msg[at:]) }
	if count(4) != 1 || count(6) != 0 || count(8) != 0 || msg[2]&2 != 0 {
		return fateFail, rcodeFormErr
	}
	end, ok := q.readName(msg)
	if !ok || end+4 > len(msg) {
		return fateFail, rcodeFormErr
	}
	q.qtype, q.qclass = count(end), count(end+2)
	end += 4
	q.question = msg[headerLen:end]
	if code := q.readExtra(msg[end:], int(count(10))); code != 0 {
		return fateFail, code
	}
	return fateAnswer, 0
}

// readName makes text of the name at the end of the header, which cannot be a
// compressed one.
func (q *query) readName(msg []byte) (end int, ok bool) {
	n, at := 0, headerLen
	for {
		if at >= len(msg) {
			return 0, false
		}
		l := int(msg[at])
		at++
		if l == 0 {
			break
		}
		if l > 63 || at+l > len(msg) || n+l+1 > 254 {
			return 0, false
		}
		for _, b := range msg[at : at+l] {
			switch {
			case b >= 'A' && b <= 'Z':
				b += 'a' - 'A'
			case b == '.':
				b = 0 // no name of ours has it
			}
			q.text[n] = b
			n++
		}
		q.text[n] = '.'
		n++
		at += l
	}
	q.name = q.text[:max(n-1, 0)]
	return at, true
}

// readExtra looks for the OPT record (RFC 6891); others are skipped. code is not
// 0 if the query cannot be answered.
func (q *query) readExtra(rest []byte, count int) (code byte) {
	for ; count > 0; count-- {
		if len(rest) < 11 {
			return rcodeFormErr
		}
		if rest[0] != 0 {
			return code // signatures and the like: nobody here has use for them, nor for what follows
		}
		l := int(binary.BigEndian.Uint16(rest[9:]))
		if len(rest) < 11+l {
			return rcodeFormErr
		}
		if binary.BigEndian.Uint16(rest[1:]) == typeOPT {
			if q.edns {
				return rcodeFormErr // only one (RFC 6891, 6.1.1)
			}
			q.edns, q.do = true, rest[7]&0x80 != 0
			q.size = min(max(int(binary.BigEndian.Uint16(rest[3:])), maxUDP), capUDP)
			if rest[6] != 0 {
				code = rcodeBadVers // ours is version 0 (RFC 6891, 6.1.3)
			}
		}
		rest = rest[11+l:]
	}
	return code
}

// replyHead begins an answer: header and question. code is not 0 for errors,
// which are not authoritative.
func (q *query) replyHead(out []byte, code byte) []byte {
	out = append(out[:0], q.head[:]...)
	out[2] = 0x80 | q.head[2]&0x79 // an answer; opcode and "recursion desired" as they came
	out[3] = 0x80 | code&0x0f      // recursion available
	if code == 0 {
		out[2] |= 0x04 // authoritative
	}
	clear(out[4:])
	if q.question != nil {
		out[5] = 1
		out = append(out, q.question...)
	}
	return out
}

// optLen is the size of appendOPT's record.
const optLen = 11

// appendOPT ends an answer to a query that had an OPT record, which has the
// upper bits of the code.
func (q *query) appendOPT(out []byte, code byte) []byte {
	if !q.edns || q.question == nil {
		return out
	}
	binary.BigEndian.PutUint16(out[10:], binary.BigEndian.Uint16(out[10:])+1)
	var do byte
	if q.do {
		do = 0x80
	}
	return append(out, 0, 0, typeOPT, ownUDP>>8, ownUDP&0xff, code>>4, 0, do, 0, 0, 0)
}

// fail is an answer that says only why there is none.
func (q *query) fail(out []byte, code byte) []byte {
	return q.appendOPT(q.replyHead(out, code), code)
}

// addresses answers with as many addresses as fit in limit bytes, in the order
// given, which has a place for each. Their number is bounded by what a message
// can hold.
func (q *query) addresses(out, addrs []byte, ttl uint32, limit int, order []uint16) []byte {
	width := 4
	if q.qtype != 1 {
		width = 16
	}
	out = q.replyHead(out, 0)
	room := limit - len(out)
	if q.edns {
		room -= optLen
	}
	count, fits := len(addrs)/width, max(room, 0)/(12+width)
	if fits < count {
		out[2] |= 0x02 // truncated
		count = fits
	}
	binary.BigEndian.PutUint16(out[6:], uint16(count))
	for _, i := range order[:count] {
		// a pointer to the name of the question, then type, class, TTL, length
		out = append(out, 0xc0, headerLen, byte(q.qtype>>8), byte(q.qtype), 0, classINET,
			byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), 0, byte(width))
		out = append(out, addrs[int(i)*width:int(i+1)*width]...)
	}
	return q.appendOPT(out, 0)
}
