package wire

import "encoding/binary"

// A super-frame is as long as the length field of IPv4 can say, and of a stream in bulk the next one is often in the same
// batch. Linux takes longer TCP packets than that from a device: their length field is zero ("BIG TCP", since Linux 6.3:
// iph_totlen in include/linux/ip.h). Super-frames that follow each other go to the sink as one such packet, a chain, where
// the receiver takes it: that saves a write, a way through the bridge and the container's stack, and an acknowledgement for
// each but the first.

const (
	// maxChain is how many super-frames one packet holds at most: Linux takes no longer ones
	// (GSO_MAX_SIZE of include/linux/netdevice.h, 8 · 65,535 bytes).
	maxChain = 7
	// LongestPacket is the most bytes of a packet for the sink that is a chain.
	LongestPacket = VnetLen + MaxFrame + (maxChain-1)*maxIP
)

// Chain has super-frames of TCP over IPv4 that follow each other joined further, to packets longer than 64 KB, where takes says
// that the receiver of a frame, of which it is given the headers at least, takes them. It must be called before the first batch.
// The function must not call the Joiner.
func (j *Joiner) Chain(takes func(frame []byte) bool) {
	if !j.plain {
		j.takes = takes
	}
}

// mayChain tells whether a run that is complete is worth keeping until the super-frame that comes next has begun.
func (j *Joiner) mayChain(r *run) bool {
	h := &r.head
	return j.takes != nil && h.gsoType == gsoTCPv4 && h.ip == EthernetLen && r.chained+1 < maxChain &&
		r.size()%h.gsoSize == 0 && r.buf[segmentLen+h.l4+tcpFlags]&^tcpPSH == tcpACK && j.takes(r.buf[segmentLen:r.lead])
}

// follows tells whether b, the first segment of a super-frame, continues the stream of a run that awaits one, so that the
// segments of both are those of one longer super-frame. All headers are the same but for what counts up, and PSH, which
// stays on the last segment if any had it.
func (r *run) follows(s *segment, h *shape, b []byte) bool {
	if !r.awaiting || s.index != 0 || h.gsoType != gsoTCPv4 || h.headers != r.head.headers || h.gsoSize != r.head.gsoSize {
		return false
	}
	x, y := r.buf[segmentLen:r.lead], b[segmentLen:r.lead]
	return h.sameStream(x, y) && binary.BigEndian.Uint16(x[h.ip+4:])+uint16(r.segments()) == binary.BigEndian.Uint16(y[h.ip+4:]) &&
		binary.BigEndian.Uint32(x[h.l4+tcpSeq:])+uint32(r.segments()*h.gsoSize) == binary.BigEndian.Uint32(y[h.l4+tcpSeq:])
}

// segments is how many there are from the one on that the headers of the run, as they came, are for.
func (r *run) segments() int { return r.origin + r.size()/r.head.gsoSize }

// sameStream holds the headers of two super-frames against each other, which are at the same places in both: all but lengths,
// IPv4 identification and checksum, TCP sequence number and PSH. The partial checksums may differ by the lengths only.
func (h *headers) sameStream(x, y []byte) bool {
	if string(x[:h.ip+2]) != string(y[:h.ip+2]) || string(x[h.ip+6:h.ip+10]) != string(y[h.ip+6:h.ip+10]) ||
		string(x[h.ip+12:h.l4+tcpSeq]) != string(y[h.ip+12:h.l4+tcpSeq]) {
		return false
	}
	u, v := x[h.l4:], y[h.l4:]
	if string(u[tcpAckAt:tcpFlags]) != string(v[tcpAckAt:tcpFlags]) || u[tcpFlags]|tcpPSH != v[tcpFlags]|tcpPSH ||
		string(u[tcpFlags+1:tcpCsum]) != string(v[tcpFlags+1:tcpCsum]) || string(u[tcpUrgent:]) != string(v[tcpUrgent:]) {
		return false
	}
	partial := func(l4 []byte, length int) uint16 {
		return fold(uint64(binary.BigEndian.Uint16(l4[tcpCsum:])) + uint64(^uint16(length)))
	}
	return partial(u, h.ipLength(x)) == partial(v, h.ipLength(y))
}

// chain appends the first segment of a super-frame that follows.
func (r *run) chain(h shape, b []byte) {
	if len(r.buf) < chainBuffer {
		long := make([]byte, chainBuffer)
		copy(long, r.buf[:r.end])
		r.buf = long
	}
	r.head, r.first, r.count, r.awaiting = h, 0, 0, false
	r.chained++
	copy(r.same[:], b[:r.lead])
	r.buf[segmentLen+h.l4+tcpFlags] |= b[segmentLen+h.l4+tcpFlags]
	r.add(b)
}
