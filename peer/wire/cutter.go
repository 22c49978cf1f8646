package wire

// Headroom is how many bytes a caller keeps free in front of a packet it gives to a Cutter.
const Headroom = 32

// maxLimit is more than any packet needs, in bytes; a larger limit means nothing.
const maxLimit = MaxPacket + segmentLen

// Cutter turns packets into plaintexts of data messages without copying payload. One goroutine, one packet at a time:
//
//	            Start                Next: true               Next: false
//	(nothing) ---------> (cutting) ------------+  -------------------------> (nothing)
//	                         ^                 |
//	                         +-----------------+
//
// Each plaintext lies in the packet's own buffer, and the next one's headers are written over the end of its payload:
// seal it (for all receivers, if there are several) before asking for the next.
type Cutter struct {
	buf   []byte // the packet's buffer, from its start
	at    int    // first byte not handed out yet
	end   int    // first byte behind the packet
	step  int    // bytes of payload per plaintext
	first int    // where the payload begins; what fragments count from
	kind  Kind

	index   uint16 // of the next SEGMENT
	frame   uint16 // number of the last super-frame
	packet  uint32 // number of the last packet sent as fragments; the upper byte is the queue
	headLen int
	head    [segmentLen + maxHeaders]byte // what every plaintext begins with
}

// NewCutter makes a Cutter. queue tells it from the others of this process, whose plaintexts the same peers receive, and
// random makes it unlikely that the numbers of its fragments continue those from before a restart.
func NewCutter(queue uint8, random uint32) *Cutter {
	return &Cutter{packet: uint32(queue)<<24 | random&0xffffff, frame: uint16(random >> 16)}
}

// Start begins to cut the packet that lies in buf[Headroom:]; buf belongs to the Cutter until the last Next. limit is the
// length of the largest plaintext in bytes. Super-frames become SEGMENTs; one of TCP is cut smaller than the kernel asked
// where the limit demands it. A frame that fits becomes one FRAME record, everything else FRAGMENTs. After a fault there
// is nothing to cut.
func (c *Cutter) Start(buf []byte, limit int) Fault {
	c.at, c.end = 0, 0
	if len(buf) < Headroom+minPacket {
		return FaultShort
	}
	if len(buf) > Headroom+MaxPacket {
		return FaultLong
	}
	packet := buf[Headroom:]
	c.buf, limit = buf, max(0, min(limit, maxLimit))
	if IsSuper(packet) {
		return c.startSuper(packet, limit)
	}
	if RecordLen(packet) > limit || len(packet)-VnetLen > 0xffff {
		return c.startFragments(packet, limit)
	}
	if fault := putFrame(c.head[:frameLen], packet); fault != FaultNone {
		return fault
	}
	c.begin(KindFrame, frameLen, Headroom+VnetLen, len(packet))
	return FaultNone
}

// Left is how many plaintexts Next has yet.
func (c *Cutter) Left() int {
	if c.at >= c.end {
		return 0
	}
	return (c.end - c.at + c.step - 1) / c.step
}

// Next returns the next plaintext, and false when there is none. It is valid, and what it overlaps with is not yet
// overwritten, until the following call of Next or Start.
func (c *Cutter) Next() (plaintext []byte, ok bool) {
	if c.at >= c.end {
		return nil, false
	}
	start := c.at - c.headLen
	b := c.buf[start:]
	copy(b, c.head[:c.headLen])
	switch c.kind {
	case KindSegment:
		putIndex(b, c.index)
		c.index++
	case KindFragment:
		putOffset(b, uint32(c.at-c.first))
	}
	c.at = min(c.at+c.step, c.end)
	return c.buf[start:c.at], true
}

// begin cuts buf[first:] into pieces of step bytes, each behind headLen bytes of head.
func (c *Cutter) begin(kind Kind, headLen, first, step int) {
	c.kind, c.headLen, c.step, c.index = kind, headLen, step, 0
	c.first, c.at, c.end = first, first, len(c.buf)
}

func (c *Cutter) startSuper(packet []byte, limit int) Fault {
	var v vnet
	v.get(packet)
	frame := packet[VnetLen:]
	h, fault := checkSuper(frame, &v)
	if fault != FaultNone {
		return fault
	}
	payload, step, room := len(frame)-h.end, int(v.gsoSize), limit-segmentLen-h.end
	if room < step && room < payload && h.tcp && room >= minRecut {
		step = room
	}
	if min(step, payload) > room || h.end > maxHeaders {
		return c.startFragments(packet, limit)
	}
	c.frame++
	s := segment{
		gsoType: v.gsoType, hdrLen: uint16(h.end), gsoSize: uint16(step),
		csumStart: v.csumStart, csumOffset: v.csumOffset,
		frame: c.frame, count: uint16((payload + step - 1) / step),
	}
	s.put(c.head[:])
	copy(c.head[segmentLen:], frame[:h.end])
	c.begin(KindSegment, segmentLen+h.end, Headroom+VnetLen+h.end, step)
	return FaultNone
}

// checkSuper finds the headers of a whole super-frame. It refuses what could not be put together again: without payload,
// without the partial checksum the kernel always leaves, or with lengths that are not the frame's.
func checkSuper(frame []byte, v *vnet) (headers, Fault) {
	h, ok := parseHeaders(frame, v.gsoType, v.csumStart, v.csumOffset)
	if !ok || v.gsoSize == 0 || v.flags&vnetNeedsCsum == 0 {
		return h, FaultOffload
	}
	if h.ip+h.ipLength(frame) != len(frame) || h.end == len(frame) {
		return h, FaultOffload
	}
	return h, FaultNone
}

func (c *Cutter) startFragments(packet []byte, limit int) Fault {
	step := (limit - fragmentLen) &^ (fragmentUnit - 1)
	if step <= 0 {
		return FaultLimit
	}
	c.packet = c.packet&0xff000000 | (c.packet+1)&0x00ffffff
	f := fragment{total: uint32(len(packet)), packet: c.packet}
	f.put(c.head[:])
	c.begin(KindFragment, fragmentLen, Headroom, step)
	return FaultNone
}
