package wire

// Bounds of a reassembler. A source that does not keep to them hurts only itself; when there are too many sources, the
// one not heard for longest loses what it began.
const (
	maxSources   = 64
	maxInFlight  = 8          // packets begun, per source
	maxHeld      = 512 * 1024 // bytes of buffers, per source
	smallestHold = 2048       // bytes; buffers grow by doubling from here

	bitmapWords = (MaxPacket/fragmentUnit + 64) / 64
)

// reassembler puts packets together from FRAGMENTs, which may arrive in any order and over several batches. It keeps no
// time: what stays incomplete is given up when the room is needed. Buffers are kept for the packets that follow.
type reassembler struct {
	sources []*origin
	clock   uint64 // counts fragments; what is used least recently goes first
	evicted uint64
}

// origin is what one source has in flight.
type origin struct {
	source uint32
	used   uint64 // clock
	held   int    // bytes in the buffers of holds
	holds  [maxInFlight]hold
}

// hold is a packet of which some pieces have arrived. It is free when total is zero.
type hold struct {
	packet  uint32
	total   int
	arrived int    // bytes
	used    uint64 // clock
	buf     []byte
	seen    [bitmapWords]uint64 // one bit for each fragmentUnit bytes
}

// add takes a FRAGMENT. The packet is not nil when it is now whole; it is valid until the next call, and may be written
// to.
func (a *reassembler) add(source uint32, b []byte) (packet []byte, fault Fault) {
	if len(b) < fragmentLen {
		return nil, FaultShort
	}
	var f fragment
	f.get(b)
	piece := b[fragmentLen:]
	total, offset := int(f.total), int(f.offset)
	if total < minPacket || total > MaxPacket || len(piece) == 0 || f.offset >= f.total || offset+len(piece) > total ||
		offset%fragmentUnit != 0 || len(piece)%fragmentUnit != 0 && offset+len(piece) != total {
		return nil, FaultFragment
	}
	a.clock++
	o := a.origin(source)
	o.used = a.clock
	h := o.find(f.packet)
	if h == nil {
		h = a.start(o, total)
		h.packet, h.total, h.arrived = f.packet, total, 0
		clear(h.seen[:])
	}
	h.used = a.clock
	if h.total != total {
		return nil, FaultFragment
	}
	if !h.mark(offset/fragmentUnit, (offset+len(piece)+fragmentUnit-1)/fragmentUnit) {
		return nil, FaultDuplicate
	}
	copy(h.buf[offset:], piece)
	h.arrived += len(piece)
	if h.arrived < total {
		return nil, FaultNone
	}
	h.total = 0
	return h.buf[:total], FaultNone
}

func (a *reassembler) forget(source uint32) {
	for i, o := range a.sources {
		if o.source == source {
			last := len(a.sources) - 1
			a.sources[i] = a.sources[last]
			a.sources[last] = nil
			a.sources = a.sources[:last]
			return
		}
	}
}

// origin finds what a source has in flight; a new one takes the place of the one silent for longest if there are too many.
func (a *reassembler) origin(source uint32) *origin {
	var oldest *origin
	for _, o := range a.sources {
		if o.source == source {
			return o
		}
		if oldest == nil || o.used < oldest.used {
			oldest = o
		}
	}
	if len(a.sources) < maxSources {
		o := &origin{source: source}
		a.sources = append(a.sources, o)
		return o
	}
	for i := range oldest.holds {
		if oldest.holds[i].total != 0 {
			a.evicted++
			oldest.holds[i].total = 0
		}
	}
	oldest.source = source
	return oldest
}

// find returns the packet with that number, if it has been begun.
func (o *origin) find(packet uint32) *hold {
	for i := range o.holds {
		if h := &o.holds[i]; h.total != 0 && h.packet == packet {
			return h
		}
	}
	return nil
}

// start returns a free hold with a buffer of at least total bytes, and gives up the oldest packets until there is one.
func (a *reassembler) start(o *origin, total int) *hold {
	for {
		free, roomy, oldest := o.survey(total)
		if roomy != nil {
			return roomy
		}
		if free != nil && o.grow(free, total) {
			return free
		}
		oldest.total = 0
		a.evicted++
	}
}

// survey finds a free hold, a free one whose buffer is large enough, and the packet in flight not heard of for longest.
func (o *origin) survey(total int) (free, roomy, oldest *hold) {
	for i := range o.holds {
		h := &o.holds[i]
		switch {
		case h.total != 0:
			if oldest == nil || h.used < oldest.used {
				oldest = h
			}
		case len(h.buf) >= total:
			if roomy == nil || len(h.buf) < len(roomy.buf) {
				roomy = h
			}
		case free == nil || len(h.buf) < len(free.buf):
			free = h
		}
	}
	return free, roomy, oldest
}

// grow gives a free hold a buffer of at least total bytes, if need be in exchange for the buffers of the other free ones.
func (o *origin) grow(h *hold, total int) bool {
	size := smallestHold
	for size < total && size < MaxPacket {
		size *= 2
	}
	size = min(size, MaxPacket)
	o.held -= len(h.buf)
	h.buf = nil
	for i := 0; i < len(o.holds) && o.held+size > maxHeld; i++ {
		if other := &o.holds[i]; other.total == 0 {
			o.held -= len(other.buf)
			other.buf = nil
		}
	}
	if o.held+size > maxHeld {
		return false
	}
	h.buf = make([]byte, size)
	o.held += size
	return true
}

// mark notes that the units [from, to) have arrived, unless one of them already had.
func (h *hold) mark(from, to int) bool {
	for pass := range 2 {
		for at := from; at < to; {
			word, low := at/64, at%64
			n := min(64-low, to-at)
			bits := (^uint64(0) >> (64 - n)) << low
			if pass == 0 && h.seen[word]&bits != 0 {
				return false
			}
			if pass == 1 {
				h.seen[word] |= bits
			}
			at += n
		}
	}
	return true
}
