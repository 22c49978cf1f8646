package wire

import "encoding/binary"

// Kind is the first byte of a plaintext, or of each record in a bundle.
type Kind uint8

// All numbers in plaintexts are big endian. csum_start counts from the first byte of the Ethernet frame.
//
//	END         the rest is padding; an empty plaintext is a keepalive
//	 0
//	+------+- - -
//	| 0    | ignored
//	+------+- - -
//
//	FRAME       one or more per plaintext, back to back
//	 0      1       2..3   4..5         6..7          8..
//	+------+-------+------+------------+-------------+-----------------+
//	| 1    | flags | len  | csum_start | csum_offset | frame, len bytes|
//	+------+-------+------+------------+-------------+-----------------+
//	flags: bit 0 the checksum at csum_start+csum_offset is to be completed from csum_start on,
//	       bit 1 the checksums have been verified
//
//	SEGMENT     alone in its plaintext
//	 0      1          2..3      4..5       6..7         8..9          10..11   12..13  14..15  16..
//	+------+----------+---------+----------+------------+-------------+--------+-------+-------+---------+---------+
//	| 2    | gso_type | hdr_len | gso_size | csum_start | csum_offset | frame  | index | count | headers | payload |
//	+------+----------+---------+----------+------------+-------------+--------+-------+-------+---------+---------+
//	headers: the super-frame's, hdr_len bytes as they were; payload: gso_size bytes, the last segment's may be shorter
//
//	FRAGMENT    alone in its plaintext
//	 0      1..3     4..7    8..11    12..
//	+------+--------+-------+--------+-------------------------+
//	| 3    | total  | packet| offset | bytes of the packet     |
//	+------+--------+-------+--------+-------------------------+
//	a piece of a whole packet of total bytes, virtio-net header (little endian, as a TAP has it) included;
//	offset is a multiple of 8, and so is the length of all pieces but the last
//
//	HEARTBEAT   alone in its plaintext
//	 0      1       2..5   6..13       14..
//	+------+-------+------+-----------+- - - - - - -
//	| 4    | flags | seq  | timestamp | zero padding
//	+------+-------+------+-----------+- - - - - - -
//	flags: bit 0 this answers a heartbeat; seq and timestamp are then those of the question
//
//	RELAY       alone in its plaintext
//	 0      1      2..7          8..13    14..
//	+------+------+-------------+--------+----------------------------------------+
//	| 5    | hops | destination | source | a message of their session, type 1 to 4|
//	+------+------+-------------+--------+----------------------------------------+
//	names of peers; hops: how many more may pass it on
//
//	FLOOD       alone in its plaintext
//	 0      1      2..7     8..11   12..
//	+------+------+--------+-------+----------------------+
//	| 6    | hops | source | seq   | FRAMEs, back to back |
//	+------+------+--------+-------+----------------------+
const (
	KindEnd Kind = iota
	KindFrame
	KindSegment
	KindFragment
	KindHeartbeat
	KindRelay
	KindFlood
	KindFast // see FastReport
)

const (
	frameLen    = 8  // bytes of a FRAME record before its frame
	segmentLen  = 16 // bytes of a SEGMENT before the headers
	fragmentLen = 12 // bytes of a FRAGMENT before its piece

	frameNeedsCsum = 1 << 0
	frameCsumValid = 1 << 1

	fragmentUnit = 8 // bytes; offsets of fragments are multiples of it

	// HeartbeatLen is the size in bytes of a HEARTBEAT without padding.
	HeartbeatLen = 14

	heartbeatReply = 1 << 0
)

// DataHeartbeat asks a peer for a sign of life, or is that sign. Padded to a size it also proves that the path carries it.
type DataHeartbeat struct {
	Reply     bool
	Seq       uint32
	Timestamp int64 // means something only to the one who asked; echoed unchanged
}

// AppendHeartbeat appends the plaintext of h, padded with zeros to size bytes, if size is larger than HeartbeatLen.
func AppendHeartbeat(dst []byte, h DataHeartbeat, size int) []byte {
	var flags byte
	if h.Reply {
		flags |= heartbeatReply
	}
	dst = append(dst, byte(KindHeartbeat), flags)
	dst = binary.BigEndian.AppendUint32(dst, h.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Timestamp))
	for n := HeartbeatLen; n < size; n++ {
		dst = append(dst, 0)
	}
	return dst
}

// ParseHeartbeat reads a plaintext for which Joiner.Add returned KindHeartbeat. The length of the plaintext is the size
// that came through. Flags a later version may add are ignored.
func ParseHeartbeat(plaintext []byte) (DataHeartbeat, bool) {
	if len(plaintext) < HeartbeatLen || Kind(plaintext[0]) != KindHeartbeat {
		return DataHeartbeat{}, false
	}
	return DataHeartbeat{
		Reply:     plaintext[1]&heartbeatReply != 0,
		Seq:       binary.BigEndian.Uint32(plaintext[2:]),
		Timestamp: int64(binary.BigEndian.Uint64(plaintext[6:])),
	}, true
}

// segment is the fixed part of a SEGMENT.
type segment struct {
	gsoType    uint8
	hdrLen     uint16
	gsoSize    uint16
	csumStart  uint16
	csumOffset uint16
	frame      uint16
	index      uint16
	count      uint16
}

func (s *segment) put(b []byte) {
	b[0], b[1] = byte(KindSegment), s.gsoType
	binary.BigEndian.PutUint16(b[2:], s.hdrLen)
	binary.BigEndian.PutUint16(b[4:], s.gsoSize)
	binary.BigEndian.PutUint16(b[6:], s.csumStart)
	binary.BigEndian.PutUint16(b[8:], s.csumOffset)
	binary.BigEndian.PutUint16(b[10:], s.frame)
	putIndex(b, s.index)
	binary.BigEndian.PutUint16(b[14:], s.count)
}

func putIndex(b []byte, index uint16) { binary.BigEndian.PutUint16(b[12:], index) }
func getIndex(b []byte) uint16        { return binary.BigEndian.Uint16(b[12:]) }

// get reads the fixed part; b holds at least segmentLen bytes.
func (s *segment) get(b []byte) {
	_ = b[segmentLen-1]
	s.gsoType = b[1]
	s.hdrLen = binary.BigEndian.Uint16(b[2:])
	s.gsoSize = binary.BigEndian.Uint16(b[4:])
	s.csumStart = binary.BigEndian.Uint16(b[6:])
	s.csumOffset = binary.BigEndian.Uint16(b[8:])
	s.frame = binary.BigEndian.Uint16(b[10:])
	s.index = getIndex(b)
	s.count = binary.BigEndian.Uint16(b[14:])
}

// fragment is the fixed part of a FRAGMENT.
type fragment struct {
	total  uint32
	packet uint32
	offset uint32
}

func (f *fragment) put(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(KindFragment)<<24|f.total&0xffffff)
	binary.BigEndian.PutUint32(b[4:], f.packet)
	putOffset(b, f.offset)
}

func putOffset(b []byte, offset uint32) { binary.BigEndian.PutUint32(b[8:], offset) }

// get reads the fixed part; b holds at least fragmentLen bytes.
func (f *fragment) get(b []byte) {
	_ = b[fragmentLen-1]
	f.total = binary.BigEndian.Uint32(b) & 0xffffff
	f.packet = binary.BigEndian.Uint32(b[4:])
	f.offset = binary.BigEndian.Uint32(b[8:])
}
