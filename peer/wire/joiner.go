package wire

import (
	"encoding/binary"
)

// Sink takes the packets a Joiner puts together.
type Sink interface {
	// Packet is given one packet in one or two parts, to be written with one writev. parts[0] begins with the virtio-net
	// header, and holds the whole frame if that is a super-frame, a chain of some, or no longer than 2 KB, else at least the first 256 bytes
	// or all headers. The parts are valid only during the call, and the Joiner must not be called from it.
	Packet(source uint32, parts [][]byte)
}

const (
	maxRuns = 8    // stretches of super-frames that can be pending
	scratch = 2048 // bytes; frames up to this size reach the sink in one part
	eager   = 256  // bytes of longer frames that are copied to the first part
)

// Opener decrypts the data messages of a session; *session.Keypair is one.
type Opener interface {
	// OpenTo authenticates a data message and appends its plaintext to dst, whose free space shares no memory with the
	// message, or begins where the message's ciphertext does.
	OpenTo(dst, msg []byte) ([]byte, error)
}

// Joiner turns plaintexts back into packets, one batch of datagrams at a time. It belongs to one goroutine.
//
// FRAMEs go to the sink at once, but for acknowledgements of TCP, of which the last of several is enough. SEGMENTs that
// continue each other become one run, which goes to the sink as one packet:
//
//	            first SEGMENT           next index, same headers; first of the next super-frame, see Chain
//	(free) ----------------> (pending) -------------+
//	   ^                      |   ^                 |
//	   |                      |   +-----------------+
//	   +----------------------+ last index arrived, a FRAME or whole packet of this source, room needed, Flush
//
// Runs of one source leave in the order in which they began. Nothing of a run outlives the batch; only FRAGMENTs do,
// in a reassembler with bounds.
type Joiner struct {
	sink  Sink
	plain bool
	takes func(frame []byte) bool // see Chain; nil: nobody does

	runs  [maxRuns]run
	order [maxRuns]*run // the pending ones, oldest first, then the free ones
	used  int           // how many are pending

	pieces reassembler

	ack      acknowledgement
	outdated uint64
	parts    [2][]byte
	room     [VnetLen + scratch]byte
	saved    [segmentLen + maxHeaders]byte // what a segment covers while it is opened
}

// NewJoiner makes a Joiner for a sink. plain is for a TAP without offloads: every packet is then one frame with all its
// checksums, at most as long as the sender's MTU, and its virtio-net header is zero.
func NewJoiner(sink Sink, plain bool) *Joiner {
	j := &Joiner{sink: sink, plain: plain}
	for i := range j.runs {
		j.order[i] = &j.runs[i]
	}
	return j
}

// Open opens a data message of a source, of at least DataOverhead bytes. The SEGMENT that comes next is decrypted to where
// its payload continues the packet that is being joined, so that it need not be copied, and is done with: joined is true.
// All other plaintexts lie in the message then, for Add. An error is the opener's.
func (j *Joiner) Open(source uint32, by Opener, msg []byte) (plaintext []byte, joined bool, err error) {
	home := msg[DataHeaderLen : len(msg)-TagLen]
	var r *run
	if j.used > 0 {
		r = j.order[j.used-1]
	}
	if r == nil || !r.expects(source, len(home)) {
		plaintext, err = by.OpenTo(home[:0], msg)
		return plaintext, false, err
	}
	spot := r.buf[r.end-r.lead:][:len(home):len(home)]
	saved := j.saved[:copy(j.saved[:], spot[:r.lead])]
	plaintext, err = by.OpenTo(spot[:0], msg)
	joined = err == nil && r.matches(plaintext)
	if !joined && err == nil {
		plaintext = home[:copy(home, plaintext)]
	}
	copy(spot, saved)
	if joined {
		r.extend(len(home))
		j.grown(r)
	}
	return plaintext, joined, err
}

// Add takes one opened plaintext from a source. In plain mode it may be written to; it is not kept.
//
// It returns the plaintext's (first) kind. KindHeartbeat, KindRelay, KindFlood and KindFast are the caller's to handle, KindEnd is a
// keepalive, all others have been dealt with. With a fault the plaintext, or in a bundle the rest of it, is dropped.
func (j *Joiner) Add(source uint32, plaintext []byte) (Kind, Fault) {
	if len(plaintext) == 0 {
		return KindEnd, FaultNone
	}
	kind := Kind(plaintext[0])
	switch kind {
	case KindEnd, KindHeartbeat, KindRelay, KindFlood, KindFast:
		return kind, FaultNone
	case KindFrame:
		return kind, j.addFrames(source, plaintext)
	case KindSegment:
		return kind, j.addSegment(source, plaintext)
	case KindFragment:
		return kind, j.addFragment(source, plaintext)
	}
	return kind, FaultKind
}

// Flush ends a batch: all that is pending goes to the sink.
func (j *Joiner) Flush() {
	for j.used > 0 {
		j.emit(0)
	}
	j.release()
}

// Evicted is how many packets that had arrived in part were given up to make room for others.
func (j *Joiner) Evicted() uint64 { return j.pieces.evicted }

// Forget drops what is kept of a source, which is gone.
func (j *Joiner) Forget(source uint32) { j.pieces.forget(source) }

func (j *Joiner) addFrames(source uint32, b []byte) Fault {
	j.flushSource(source)
	for len(b) > 0 && Kind(b[0]) != KindEnd {
		if Kind(b[0]) != KindFrame {
			return FaultKind
		}
		if len(b) < frameLen {
			return FaultShort
		}
		n := frameLen + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) || n < frameLen+EthernetLen {
			return FaultShort
		}
		v := vnet{csumStart: binary.BigEndian.Uint16(b[4:]), csumOffset: binary.BigEndian.Uint16(b[6:])}
		if b[1]&frameCsumValid != 0 {
			v.flags = vnetDataValid
		}
		if b[1]&frameNeedsCsum != 0 {
			v.flags |= vnetNeedsCsum
		} else {
			v.csumStart, v.csumOffset = 0, 0
		}
		if fault := j.frame(source, &v, b[frameLen:n]); fault != FaultNone {
			return fault
		}
		b = b[n:]
	}
	return FaultNone
}

// frame checks a frame that is no super-frame, and emits it.
func (j *Joiner) frame(source uint32, v *vnet, frame []byte) Fault {
	if v.flags&vnetNeedsCsum != 0 {
		if !csumFits(v.csumStart, v.csumOffset, len(frame)) {
			return FaultOffload
		}
		if j.plain {
			l4 := frame[v.csumStart:]
			binary.BigEndian.PutUint16(l4[v.csumOffset:], complete(sum(l4, 0)))
		}
	}
	if j.plain {
		*v = vnet{}
	}
	if !j.keep(source, v, frame) {
		j.release()
		j.give(source, v, frame)
	}
	return FaultNone
}

// give hands a frame that is no super-frame to the sink.
func (j *Joiner) give(source uint32, v *vnet, frame []byte) {
	v.put(j.room[:])
	n := len(frame)
	if n > scratch {
		n = eager
	}
	copy(j.room[VnetLen:], frame[:n])
	j.parts[0], j.parts[1] = j.room[:VnetLen+n], frame[n:]
	if n == len(frame) {
		j.sink.Packet(source, j.parts[:1])
	} else {
		j.sink.Packet(source, j.parts[:2])
	}
	j.parts = [2][]byte{}
}

// addSegment puts a segment at the end of the run it continues, or begins one.
func (j *Joiner) addSegment(source uint32, b []byte) Fault {
	if len(b) < segmentLen {
		return FaultShort
	}
	for i := j.used - 1; i >= 0; i-- {
		if r := j.order[i]; r.continues(source, b) {
			r.add(b)
			j.grown(r)
			return FaultNone
		}
	}
	s, h, fault := checkSegment(b)
	if fault != FaultNone {
		return fault
	}
	if r := j.latest(source); r != nil && r.follows(&s, &h, b) {
		r.chain(h, b)
		j.grown(r)
		return FaultNone
	}
	j.flushComplete(source)
	if j.used == maxRuns {
		j.emit(0)
	}
	r := j.order[j.used]
	j.used++
	r.begin(source, &s, h, b)
	j.grown(r)
	return FaultNone
}

// latest is the run of a source that began last, nil if none is pending.
func (j *Joiner) latest(source uint32) *run {
	for i := j.used - 1; i >= 0; i-- {
		if j.order[i].source == source {
			return j.order[i]
		}
	}
	return nil
}

// grown emits what can be when a segment was added to a run.
func (j *Joiner) grown(r *run) {
	if !r.complete() {
		return
	}
	if r.awaiting = j.mayChain(r); !r.awaiting {
		j.flushComplete(r.source)
	}
}

// flushSource emits all runs of a source, before something else of it.
func (j *Joiner) flushSource(source uint32) {
	for i := 0; i < j.used; {
		if j.order[i].source == source {
			j.emit(i)
		} else {
			i++
		}
	}
}

// flushComplete emits the runs of a source that are complete, up to the first that is not: its rest may yet come.
func (j *Joiner) flushComplete(source uint32) {
	for i := 0; i < j.used; {
		switch r := j.order[i]; {
		case r.source != source:
			i++
		case r.complete():
			j.emit(i)
		default:
			return
		}
	}
}

// emit gives the run at order[i] to the sink and frees it.
func (j *Joiner) emit(i int) {
	r := j.order[i]
	j.release()
	if j.plain {
		for k := range r.count {
			j.plainSegment(r.source, &r.head, r.same[segmentLen:r.lead], r.first+k, r.payload(k))
		}
	} else {
		j.parts[0] = r.assemble()
		j.sink.Packet(r.source, j.parts[:1])
	}
	j.used--
	copy(j.order[i:], j.order[i+1:j.used+1])
	j.order[j.used] = r
}

// plainSegment emits segment number index of a super-frame as a frame of its own with all checksums.
func (j *Joiner) plainSegment(source uint32, s *shape, head []byte, index int, payload []byte) {
	v := vnet{}
	v.put(j.room[:])
	b := append(j.room[:VnetLen], head...)[VnetLen:]
	s.rewrite(b, stretch{
		first: index, last: index == s.count-1, gsoSize: s.gsoSize, payload: len(payload),
	})
	l4 := b[s.l4:]
	csum := udpCsum
	if s.tcp {
		csum = tcpCsum
	}
	binary.BigEndian.PutUint16(l4[csum:], complete(sum(payload, sum(l4, 0))))
	j.parts[0], j.parts[1] = j.room[:VnetLen+len(b)], payload
	j.sink.Packet(source, j.parts[:])
	j.parts = [2][]byte{}
}

// addFragment emits the packet that a fragment completes.
func (j *Joiner) addFragment(source uint32, b []byte) Fault {
	packet, fault := j.pieces.add(source, b)
	if packet == nil {
		return fault
	}
	j.flushSource(source)
	j.release()
	var v vnet
	v.get(packet)
	frame := packet[VnetLen:]
	if v.gsoType == gsoNone {
		v.flags &= vnetNeedsCsum | vnetDataValid
		v.hdrLen, v.gsoSize = 0, 0
		return j.frame(source, &v, frame)
	}
	h, fault := checkSuper(frame, &v)
	if fault != FaultNone {
		return fault
	}
	if !j.plain {
		v.flags, v.hdrLen = vnetNeedsCsum, uint16(h.end)
		v.put(packet)
		j.parts[0] = packet
		j.sink.Packet(source, j.parts[:1])
		j.parts = [2][]byte{}
		return FaultNone
	}
	if h.end > maxHeaders {
		return FaultOffload
	}
	head, payload, size := frame[:h.end], frame[h.end:], int(v.gsoSize)
	s := shape{headers: h, gsoSize: size, count: (len(payload) + size - 1) / size}
	for i := range s.count {
		j.plainSegment(source, &s, head, i, payload[i*size:min((i+1)*size, len(payload))])
	}
	return FaultNone
}
