package wire

import "bytes"

// shape is what all segments of one super-frame have in common.
type shape struct {
	headers
	gsoType uint8
	gsoSize int // bytes
	count   int // segments
}

// fits tells whether segment number index may carry that many bytes of payload.
func (s *shape) fits(index, payload int) bool {
	if index == s.count-1 {
		return payload > 0 && payload <= s.gsoSize && index*s.gsoSize+payload <= s.maxPayload()
	}
	return payload == s.gsoSize
}

// run is a stretch of consecutive segments of one super-frame. It grows as the packet that it will be:
//
//	 0            6           16            lead           end
//	+------------+-----------+-------------+--------------+
//	| unused     | virtio    | headers     | payload  ... | buf
//	+------------+-----------+-------------+--------------+
//
// Until it is assembled the first sixteen bytes are those of the first SEGMENT.
type run struct {
	source  uint32
	first   int // index of the first segment, of the last super-frame of a chain
	count   int // segments of that so far
	head    shape
	csum    uint16                        // offset of the checksum from headers.l4
	lead    int                           // bytes of a segment up to its payload
	same    [segmentLen + maxHeaders]byte // what the first segment of the last super-frame had there
	buf     []byte                        // made when it is needed first, for a chain made anew, and kept
	end     int
	origin  int // index of the first segment of all
	chained int // super-frames before the last

	awaiting bool // complete, and the next super-frame may be added
}

const (
	// runBuffer holds the longest super-frames that checkSegment lets pass, and what a SEGMENT has before it.
	runBuffer = segmentLen + EthernetLen + 4*maxTags + 40 + maxIP
	// chainBuffer holds the longest chain. Many runs at once are those of many streams, which are seldom chains.
	chainBuffer = runBuffer + (maxChain-1)*maxIP
)

// checkSegment reads a SEGMENT of at least segmentLen bytes that does not continue a run.
func checkSegment(b []byte) (s segment, h shape, fault Fault) {
	s.get(b)
	if int(s.hdrLen) > maxHeaders || s.index >= s.count || s.gsoSize == 0 {
		return s, h, FaultSegment
	}
	if len(b) < segmentLen+int(s.hdrLen) {
		return s, h, FaultShort
	}
	head := b[segmentLen : segmentLen+int(s.hdrLen)]
	p, ok := parseHeaders(head, s.gsoType, s.csumStart, s.csumOffset)
	if !ok || p.end != len(head) || p.ipLength(head) < p.end-p.ip {
		return s, h, FaultOffload
	}
	h = shape{headers: p, gsoType: s.gsoType, gsoSize: int(s.gsoSize), count: int(s.count)}
	if (h.count-1)*h.gsoSize >= h.maxPayload() || !h.fits(int(s.index), len(b)-segmentLen-len(head)) {
		return s, h, FaultSegment
	}
	return s, h, FaultNone
}

// begin starts the run with a segment that checkSegment found good.
func (r *run) begin(source uint32, s *segment, h shape, b []byte) {
	if r.buf == nil {
		r.buf = make([]byte, runBuffer)
	}
	r.source, r.first, r.count = source, int(s.index), 1
	r.origin, r.chained, r.awaiting = r.first, 0, false
	r.head, r.csum, r.lead = h, s.csumOffset, segmentLen+h.end
	copy(r.same[:], b[:r.lead])
	r.end = copy(r.buf, b)
}

// add appends the payload of a segment that continues the run.
func (r *run) add(b []byte) {
	copy(r.buf[r.end:], b[r.lead:])
	r.extend(len(b))
}

// extend says that the payload of a segment, a plaintext of size bytes, is where add puts it.
func (r *run) extend(size int) {
	r.end += size - r.lead
	r.count++
}

// size is how many bytes of payload there are.
func (r *run) size() int { return r.end - r.lead }

// payload is that of segment number i of the run, which is no chain.
func (r *run) payload(i int) []byte {
	from := r.lead + i*r.head.gsoSize
	return r.buf[from:min(from+r.head.gsoSize, r.end)]
}

// complete tells whether the last segment is there; nothing can continue the run then.
func (r *run) complete() bool { return r.first+r.count == r.head.count }

// expects tells whether the segment that comes next may be a plaintext of size bytes.
func (r *run) expects(source uint32, size int) bool {
	return r.source == source && !r.complete() && size > r.lead && r.head.fits(r.first+r.count, size-r.lead)
}

// continues tells whether b is the segment that comes next.
func (r *run) continues(source uint32, b []byte) bool {
	return r.expects(source, len(b)) && r.matches(b)
}

// matches tells whether b, which is as long as the run expects, is the segment that comes next. The headers were checked with
// the first segment, so it is enough that they are the same bytes.
func (r *run) matches(b []byte) bool {
	n := r.lead
	return int(getIndex(b)) == r.first+r.count && bytes.Equal(b[:12], r.same[:12]) && bytes.Equal(b[14:n], r.same[14:n])
}

// assemble makes the run the packet that it is.
func (r *run) assemble() []byte {
	h, packet := &r.head, r.buf[segmentLen-VnetLen:r.end]
	v := vnet{flags: vnetNeedsCsum, csumStart: uint16(h.l4), csumOffset: r.csum}
	if r.size() > h.gsoSize {
		v.gsoType, v.hdrLen, v.gsoSize = h.gsoType, uint16(h.end), uint16(h.gsoSize)
		if r.origin != 0 {
			v.gsoType &^= gsoECN
		}
	}
	v.put(packet)
	h.rewrite(packet[VnetLen:], stretch{
		first: r.origin, last: r.complete(), gsoSize: h.gsoSize, payload: r.size(),
	})
	return packet
}
