package wire

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

// run is a stretch of consecutive segments of one super-frame, all of them in the receive buffers of one batch.
type run struct {
	source uint32
	first  int // index of the first segment
	size   int // bytes of payload so far
	head   shape
	csum   uint16   // offset of the checksum from headers.l4
	lead   []byte   // the first segment up to its payload
	parts  [][]byte // [0] is kept free for the headers; payload follows
}

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

func (r *run) begin(source uint32, s *segment, h shape, b []byte) {
	r.source, r.first, r.size = source, int(s.index), 0
	r.head, r.csum = h, s.csumOffset
	r.lead = b[:segmentLen+h.end]
	r.add(b)
}

// add appends the payload of a segment that continues the run.
func (r *run) add(b []byte) {
	payload := b[len(r.lead):]
	r.size += len(payload)
	r.parts = append(r.parts, payload)
}

func (r *run) headers() []byte { return r.lead[segmentLen:] }

// complete tells whether the last segment is there; nothing can continue the run then.
func (r *run) complete() bool { return r.first+len(r.parts)-1 == r.head.count }

// assemble writes virtio-net header and headers of the run's packet to the start of room.
func (r *run) assemble(room []byte) []byte {
	h := &r.head
	v := vnet{flags: vnetNeedsCsum, csumStart: uint16(h.l4), csumOffset: r.csum}
	if len(r.parts) > 2 {
		v.gsoType, v.hdrLen, v.gsoSize = h.gsoType, uint16(h.end), uint16(h.gsoSize)
		if r.first != 0 {
			v.gsoType &^= gsoECN
		}
	}
	v.put(room)
	b := append(room[:VnetLen], r.headers()...)
	h.rewrite(b[VnetLen:], stretch{
		first: r.first, last: r.complete(), gsoSize: h.gsoSize, payload: r.size,
	})
	return b
}

// reset lets go of the batch's buffers.
func (r *run) reset() {
	clear(r.parts)
	r.parts, r.lead = r.parts[:1], nil
}
