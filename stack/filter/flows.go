package filter

import (
	"hash/maphash"
	"sync/atomic"
)

// Stamp is a time in whole seconds since some start of the caller's, the same for the life of Flows.
type Stamp uint32

// How long a flow is remembered without a packet in the direction of its first one, in seconds. TCP's connections last longer
// than its keep-alives are apart (RFC 1122, section 4.2.3.6) unless one of the ends has ended it.
const (
	FlowAsked  = 30 // of TCP, until the one who asks has an answer
	FlowOnce   = 60 // of others, until there is a second packet
	FlowNew    = 180
	FlowTCP    = 3 * 3600
	FlowClosed = 60
	FlowPieces = 30
)

const (
	flowWays    = 4
	flowBuckets = 1 << 15 // 131,072 flows, 2 MiB
)

// flowSlot is one flow. The tag is a keyed hash of its tuple: two of one tag are one flow, which has a chance of 2^-47 in a full table, and
// nobody outside can look for.
//
//	state   expiry (32) | closing (1) | generation (31)
type flowSlot struct {
	tag   atomic.Uint64
	state atomic.Uint64
}

const (
	closingBit = 1 << 31
	genMask    = closingBit - 1
)

// Flows remembers flows that were allowed, with the generation of the filter that said so. A full bucket forgets what would be forgotten
// first.
type Flows struct {
	seed    maphash.Seed
	gen     atomic.Uint32
	evicted atomic.Uint64
	buckets [][flowWays]flowSlot
}

// NewFlows remembers nothing.
func NewFlows(seed maphash.Seed) *Flows {
	return &Flows{seed: seed, buckets: make([][flowWays]flowSlot, flowBuckets)}
}

// Evicted counts flows that were forgotten before their time.
func (f *Flows) Evicted() uint64 { return f.evicted.Load() }

// tag is never 0.
func (f *Flows) tag(t tuple) uint64 {
	var b [37]byte
	src, dst := t.src.As16(), t.dst.As16()
	copy(b[:], src[:])
	copy(b[16:], dst[:])
	b[32], b[33], b[34], b[35], b[36] = t.proto, byte(t.sport>>8), byte(t.sport), byte(t.dport>>8), byte(t.dport)
	return maphash.Bytes(f.seed, b[:]) | 1
}

// pieceTag is that of the fragments of one packet: RFC 791, section 3.2; RFC 8200, section 4.5, where the protocol does not count.
func (f *Flows) pieceTag(p *packet) uint64 {
	var b [38]byte
	src, dst := p.tuple.src.As16(), p.tuple.dst.As16()
	copy(b[:], src[:])
	copy(b[16:], dst[:])
	if p.tuple.src.Is4() {
		b[32] = p.tuple.proto
	}
	b[33], b[34], b[35], b[36] = byte(p.piece>>24), byte(p.piece>>16), byte(p.piece>>8), byte(p.piece)
	return maphash.Bytes(f.seed, b[:]) | 1
}

func (f *Flows) bucket(tag uint64) *[flowWays]flowSlot {
	return &f.buckets[tag>>1%flowBuckets]
}

// find gives a flow that has not expired, and its state.
func (f *Flows) find(now Stamp, tag uint64) (*flowSlot, uint64) {
	b := f.bucket(tag)
	for i := range b {
		s := &b[i]
		if s.tag.Load() != tag {
			continue
		}
		state := s.state.Load()
		if s.tag.Load() == tag && expiry(state) > now { // else the slot changed hands meanwhile
			return s, state
		}
	}
	return nil, 0
}

func expiry(state uint64) Stamp { return Stamp(state >> 32) }

func flowState(until Stamp, closing bool, gen uint32) uint64 {
	state := uint64(until)<<32 | uint64(gen&genMask)
	if closing {
		state |= closingBit
	}
	return state
}

// put remembers a flow.
func (f *Flows) put(now Stamp, tag, state uint64) {
	b := f.bucket(tag)
	worst := &b[0]
	for i := range b {
		s := &b[i]
		if t := s.tag.Load(); t == tag || t == 0 {
			worst = s
			break
		}
		if expiry(s.state.Load()) < expiry(worst.state.Load()) {
			worst = s
		}
	}
	if worst.tag.Load() != tag {
		if expiry(worst.state.Load()) > now {
			f.evicted.Add(1)
		}
		worst.state.Store(0) // so that the new tag is never seen with the old state
		worst.tag.Store(tag)
	}
	worst.state.Store(state)
}
