package stack

import "encoding/binary"

// messageKind sorts the messages of IGMP and MLD by what they mean to a switch.
type messageKind uint8

const (
	msgOther        messageKind = iota // of no concern: group-specific queries, types we do not know
	msgGeneralQuery                    // from now on every member answers within resp seconds
	msgReport                          // one member of one group; others that hear it hold their tongue
	msgLeave                           // a member leaves; nobody but a router may hear that
	msgRecords                         // IGMPv3 or MLDv2 report: many groups, heard by all
	msgRouter                          // none of the two but PIM: there is a router
)

// message is one IGMP or MLD message, checked whole.
type message struct {
	kind    messageKind
	resp    Stamp     // of a general query: seconds hosts may take to answer, rounded up
	group   groupAddr // of a report
	records []byte    // of msgRecords: group records, count and lengths checked
	width   int       // of msgRecords: bytes of an address
}

// IGMP types: RFC 1112 appendix I, RFC 2236 section 2, RFC 3376 section 4.
const (
	igmpQuery    = 0x11
	igmpReportV1 = 0x12
	igmpReportV2 = 0x16
	igmpLeave    = 0x17
	igmpReportV3 = 0x22
)

// parseIGMP reads an IGMP message; false means that it must not be trusted.
//
//	v1, v2  type (1) | response time (1) | checksum (2) | group (4)
//	v3      query: then flags (1) | interval (1) | number of sources (2) | sources, 4 each
//	        report: type (1) | - (1) | checksum (2) | - (2) | number of records (2) | records
func parseIGMP(p *packet) (message, bool) {
	b := p.body
	if !p.whole || len(b) < 8 || checksum(0, b) != 0 {
		return message{}, false
	}
	switch b[0] {
	case igmpQuery:
		return parseIGMPQuery(p)
	case igmpReportV1, igmpReportV2:
		g, ok := readGroup(b[4:], 4)
		return message{kind: msgReport, group: g}, ok
	case igmpLeave:
		_, ok := readGroup(b[4:], 4)
		return message{kind: msgLeave}, ok
	case igmpReportV3:
		records, ok := cutRecords(b[8:], int(binary.BigEndian.Uint16(b[6:])), 4)
		return message{kind: msgRecords, records: records, width: 4}, ok
	}
	return message{}, true
}

// parseIGMPQuery tells the versions apart by length (RFC 3376 section 7.1). A general query counts only when it went to all hosts and
// from a querier that has an address: 0.0.0.0 is a switch asking for itself (RFC 4541 section 2.1.1 point 1b).
func parseIGMPQuery(p *packet) (message, bool) {
	b := p.body
	tenths := uint32(b[1])
	switch {
	case len(b) == 8 && tenths == 0:
		tenths = 100 // IGMPv1
	case len(b) == 8:
	case len(b) < 12 || len(b) < 12+4*int(binary.BigEndian.Uint16(b[10:])):
		return message{}, false
	default:
		tenths = expandFloat(tenths, 4)
	}
	if binary.BigEndian.Uint32(b[4:]) != 0 {
		_, ok := readGroup(b[4:], 4)
		return message{}, ok
	}
	if len(b) > 8 && binary.BigEndian.Uint16(b[10:]) != 0 {
		return message{}, false // sources of no group: hosts do not answer that
	}
	allHosts := group4([]byte{224, 0, 0, 1})
	if p.dst != allHosts || p.src == group4(make([]byte, 4)) {
		return message{}, true
	}
	return message{kind: msgGeneralQuery, resp: Stamp(tenths+9) / 10}, true
}

// MLD types, carried in ICMPv6: RFC 2710 section 3.1, RFC 3810 section 5.
const (
	mldQuery    = 130
	mldReportV1 = 131
	mldDone     = 132
	mldReportV2 = 143
)

func isMLD(icmpType byte) bool {
	return icmpType >= mldQuery && icmpType <= mldDone || icmpType == mldReportV2
}

// parseMLD reads an MLD message; false means that it must not be trusted.
//
//	v1  type (1) | code (1) | checksum (2) | response time, ms (2) | - (2) | group (16)
//	v2  query: then flags (1) | interval (1) | number of sources (2) | sources, 16 each
//	    report: type (1) | - (1) | checksum (2) | - (2) | number of records (2) | records
func parseMLD(p *packet) (message, bool) {
	b := p.body
	if !p.whole || len(b) < 8 || checksum(p.pseudoSum(len(b)), b) != 0 {
		return message{}, false
	}
	if b[0] == mldReportV2 {
		records, ok := cutRecords(b[8:], int(binary.BigEndian.Uint16(b[6:])), 16)
		return message{kind: msgRecords, records: records, width: 16}, ok
	}
	if len(b) < 24 {
		return message{}, false
	}
	switch b[0] {
	case mldQuery:
		return parseMLDQuery(p)
	case mldReportV1:
		g, ok := readGroup(b[8:], 16)
		return message{kind: msgReport, group: g}, ok
	case mldDone:
		_, ok := readGroup(b[8:], 16)
		return message{kind: msgLeave}, ok
	}
	return message{}, true
}

// parseMLDQuery tells the versions apart by length (RFC 3810 section 8.1). A general query counts only when hosts must answer it:
// to all nodes, from a link-local address, hop limit 1, with a Router Alert (sections 5.1.14 and 6.2).
func parseMLDQuery(p *packet) (message, bool) {
	b := p.body
	ms := uint32(binary.BigEndian.Uint16(b[4:]))
	switch {
	case len(b) == 24:
	case len(b) < 28 || len(b) < 28+16*int(binary.BigEndian.Uint16(b[26:])):
		return message{}, false
	default:
		ms = expandFloat(ms, 12)
	}
	if g, ok := readGroup(b[8:], 16); g != (groupAddr{}) {
		return message{}, ok
	}
	if len(b) > 24 && binary.BigEndian.Uint16(b[26:]) != 0 {
		return message{}, false // sources of no group: hosts do not answer that
	}
	allNodes := groupAddr{0: 0xff, 1: 0x02, 15: 1}
	linkLocal := p.src[0] == 0xfe && p.src[1]&0xc0 == 0x80
	if p.dst != allNodes || !linkLocal || p.hopLimit != 1 || !p.alert {
		return message{}, true
	}
	return message{kind: msgGeneralQuery, resp: Stamp(ms+999) / 1000}, true
}

// expandFloat gives the value of a response code: itself, or with the top bit set a float of 3 bits of exponent and some of mantissa
// (RFC 3376 section 4.1.1, RFC 3810 section 5.1.3).
func expandFloat(code uint32, mantissaBits int) uint32 {
	if code>>(mantissaBits+3) == 0 {
		return code
	}
	mantissa := code&(1<<mantissaBits-1) | 1<<mantissaBits
	return mantissa << (code>>mantissaBits&7 + 3)
}

// Group record types: RFC 3376 section 4.2.12, RFC 3810 section 5.2.12.
const (
	recordIsInclude = 1
	recordIsExclude = 2
	recordToInclude = 3
	recordToExclude = 4
	recordAllow     = 5
)

// recordLen is the length of the record in front, 0 when it is cut short. Addresses are 4 or 16 bytes wide.
//
//	type (1) | auxiliary length in words (1) | number of sources (2) | group (w) | sources (w each) | auxiliary
func recordLen(b []byte, width int) int {
	if len(b) < 4+width {
		return 0
	}
	n := 4 + width + width*int(binary.BigEndian.Uint16(b[2:])) + 4*int(b[1])
	if n > len(b) {
		return 0
	}
	return n
}

// cutRecords gives so many records without what lies behind them; false means that they are not all there, or not for groups.
func cutRecords(b []byte, count, width int) ([]byte, bool) {
	rest := b
	for range count {
		n := recordLen(rest, width)
		if n == 0 {
			return nil, false
		}
		if _, ok := readGroup(rest[4:], width); !ok {
			return nil, false
		}
		rest = rest[n:]
	}
	return b[:len(b)-len(rest)], true
}

// joined lists the groups whose records tell of a member.
func (m *message) joined() []groupAddr {
	var out []groupAddr
	for b := m.records; len(b) > 0; b = b[recordLen(b, m.width):] {
		if joins(b) {
			g, _ := readGroup(b[4:], m.width)
			out = append(out, g)
		}
	}
	return out
}

// joins says whether the record in front tells of a member: one that wants all but some sources, or some at all. Which sources
// is not followed; a member gets everything sent to the group.
func joins(b []byte) bool {
	switch b[0] {
	case recordIsExclude, recordToExclude:
		return true
	case recordIsInclude, recordToInclude, recordAllow:
		return binary.BigEndian.Uint16(b[2:]) > 0
	}
	return false
}
