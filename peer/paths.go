package peer

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// WayKind is how messages of a data session reach a peer.
type WayKind uint8

// Kinds of ways, in the order of their worth.
const (
	WayDirect WayKind = iota + 1 // UDP to an address of the peer
	WayRelay                     // sealed once more, to a neighbour that passes them on
	WayStream                    // inside the control connection, where UDP does not pass
)

// String names the kind for users.
func (k WayKind) String() string {
	switch k {
	case WayDirect:
		return "direct"
	case WayRelay:
		return "relayed"
	case WayStream:
		return "tcp"
	}
	return "none"
}

// Way is one way to a peer. The zero Way is none.
type Way struct {
	Kind WayKind
	Addr netip.AddrPort // of a direct one
}

// IsZero reports whether w is no way at all.
func (w Way) IsZero() bool { return w.Kind == 0 }

// Times of Paths.
const (
	// beatFast is the interval of heartbeats on a way that is looked for, that
	// owes us an answer, or that carries traffic; beatIdle on one that is in use
	// and quiet, beatSpare on one that works and is not used.
	beatFast  = 500 * time.Millisecond
	beatIdle  = 5 * time.Second
	beatSpare = 15 * time.Second
	// A way that answered nothing to this many heartbeats in a row, and at least
	// for lostAfter, is down. Where loss was measured it may take more of them.
	lostBeats    = 3
	lostBeatsMax = 12
	lostAfter    = 1400 * time.Millisecond
	// lostHeard is that time while the peer's own messages still come this way:
	// under load answers are late.
	lostHeard = 4 * time.Second
	// roamAfter is how long the way in use must be silent before an address that
	// the peer is heard from takes its place unmeasured.
	roamAfter = time.Second
	// fastTries heartbeats on a way that never answered are fast; from then on
	// each wait is twice the last, up to retryWay.
	fastTries = 6
	retryWay  = 30 * time.Second
	// maxWays bounds the ways to one peer that are remembered.
	maxWays = 24
	// tooRare is the chance of losing every heartbeat of a way that is fine at
	// which it counts as down.
	tooRare = 1e-4
	// unmeasured stands for the round-trip time of a way that was seen to work
	// and not measured yet.
	unmeasured = time.Second
	// A relay must save this much of a direct way's time to be preferred, and so
	// must any way that takes the place of another while that works: a tenth of it,
	// or a millisecond.
	switchSlack    = time.Millisecond
	switchSlackPer = 10
	// leastWindow is how far back the least round-trip time may be: one that has grown is told after half of it to all of it.
	leastWindow = time.Minute
)

// Paths decides by which way a peer is reached. All that is known are tried,
// those that answer are measured, and the best carries the traffic:
//
//	          answer, or seen                     no answer: lostBeats, lostAfter
//	trying ────────────────────► up (RTT, loss) ──────────────────────────────────► trying
//	   │  tried often: slower                                                         ▲
//	   └──────────────────────────────────────────────────────────────────────────────┘
//
// A direct way is better than a relay unless the relay saves time; a stream is
// used where nothing else answers. Paths is pure; it belongs to one goroutine.
// The zero value knows no way.
type Paths struct {
	ways   []*wayState // in the order they became known
	best   Way
	active bool
}

// wayState is what is known of one way.
type wayState struct {
	way        Way
	up         bool
	offered    bool          // the mesh tells of it
	rtt        time.Duration // smoothed; 0 = not measured
	least      least
	loss       float64   // smoothed share of heartbeats without an answer
	sent       time.Time // last heartbeat
	answered   time.Time // last answer, or when it was seen to work
	heard      time.Time // last message of the peer that came this way
	unanswered int       // heartbeats since the last answer
	MTU        PathMTU
}

// Offer says which ways the mesh knows now. An address that is not among them any
// more is kept while it answers.
func (p *Paths) Offer(ways []Way) {
	for _, s := range p.ways {
		s.offered = slices.Contains(ways, s.way)
	}
	for _, w := range ways {
		if s := p.get(w); s == nil {
			p.add(w).offered = true
		}
	}
	p.ways = slices.DeleteFunc(p.ways, func(s *wayState) bool { return !s.offered && s.way.Kind != WayDirect })
	p.settleBest()
}

func (p *Paths) get(w Way) *wayState {
	for _, s := range p.ways {
		if s.way == w {
			return s
		}
	}
	return nil
}

// add makes a way known; if there are too many, the one that helps least gives
// way.
func (p *Paths) add(w Way) *wayState {
	if len(p.ways) >= maxWays {
		least := slices.MinFunc(p.ways, func(a, b *wayState) int {
			return cmp.Or(order(a.way == p.best, b.way == p.best), order(a.up, b.up), order(a.offered, b.offered))
		})
		p.ways = slices.DeleteFunc(p.ways, func(s *wayState) bool { return s == least })
	}
	s := &wayState{way: w}
	p.ways = append(p.ways, s)
	return s
}

// order puts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Again forgets how often ways were tried, for a peer that may have moved or
// restarted. What is up stays so until it proves otherwise.
func (p *Paths) Again() {
	for _, s := range p.ways {
		s.unanswered, s.sent = 0, time.Time{}
	}
}

// Proven notes that a handshake was answered this way: it works, whatever its
// round-trip time is.
func (p *Paths) Proven(now time.Time, w Way) {
	s := p.get(w)
	if s == nil {
		s = p.add(w)
	}
	s.heard = now
	if !s.up {
		s.up, s.unanswered, s.answered, s.sent, s.loss = true, 0, now, time.Time{}, 0
	}
	p.settleBest()
}

// Seen notes that an authentic message of the peer came this way. A way that
// was not known is tried from now on, and used if there is no other.
func (p *Paths) Seen(now time.Time, w Way) {
	if s := p.get(w); s != nil && s.up {
		s.heard = now
		return
	}
	if p.best.IsZero() {
		p.Proven(now, w)
		return
	}
	s := p.get(w)
	if s == nil {
		s = p.add(w)
	}
	s.heard = now
	if b := p.get(p.best); w.Kind == WayDirect && b.way.Kind == WayDirect && now.Sub(b.heard) > roamAfter {
		p.Proven(now, w) // it moved: what was good is silent, and this speaks
		p.best = w
	}
}

// Heard notes when an authentic message came last by a way.
func (p *Paths) Heard(w Way, at time.Time) {
	if s := p.get(w); s != nil && at.After(s.heard) {
		s.heard = at
	}
}

// Answered notes the answer to a heartbeat.
func (p *Paths) Answered(now time.Time, w Way, rtt time.Duration) {
	s := p.get(w)
	if s == nil || rtt < 0 {
		return
	}
	if s.rtt == 0 || !s.up {
		s.rtt, s.least = rtt, least{}
	}
	s.rtt += (rtt - s.rtt) / 8 // smoothed as RFC 6298 does
	s.rtt = max(s.rtt, time.Microsecond)
	s.least.add(now, max(rtt, time.Microsecond))
	for range s.unanswered - 1 { // those before were lost
		s.loss += (1 - s.loss) / 16
	}
	s.loss -= s.loss / 16
	s.up, s.unanswered, s.answered = true, 0, now
	p.settleBest()
}

// Sent notes a heartbeat on a way.
func (p *Paths) Sent(now time.Time, w Way) {
	s := p.get(w)
	if s == nil {
		return
	}
	s.sent = now
	s.unanswered++
}

// Tick judges the ways, and returns those on which a heartbeat is due. active
// says that frames are exchanged with the peer, or passed on by it.
func (p *Paths) Tick(now time.Time, active bool) []Way {
	p.active = active
	for _, s := range p.ways {
		if s.up && s.lost(now) {
			s.up, s.unanswered = false, 0
		}
	}
	p.ways = slices.DeleteFunc(p.ways, func(s *wayState) bool {
		return !s.offered && !s.up && s.unanswered > 2*fastTries
	})
	p.settleBest()
	var due []Way
	link := p.Link()
	for _, s := range p.ways {
		if now.Sub(s.sent) >= s.interval(s.way == p.best || s.way == link, active) {
			due = append(due, s.way)
		}
	}
	return due
}

// Best is the way that traffic takes; zero if none ever worked.
func (p *Paths) Best() Way { return p.best }

// Link is the best way that needs no relay; zero if none works. Messages that a
// neighbour is to pass on take it, and the mesh calls it a link.
func (p *Paths) Link() Way {
	if s := p.get(p.best); s != nil && s.up && s.way.Kind == WayDirect {
		return p.best
	}
	var pick *wayState
	for _, s := range p.ways {
		if s.up && s.way.Kind != WayRelay && (pick == nil || s.beats(pick)) {
			pick = s
		}
	}
	if pick == nil {
		return Way{}
	}
	return pick.way
}

// least is the least round-trip time of the last while, which is the network's alone: what a busy host adds comes and goes.
type least struct {
	now, before time.Duration // of this half of the window and the one before; 0 = none
	since       time.Time     // when this half began
}

func (l *least) add(now time.Time, rtt time.Duration) {
	if l.now == 0 || now.Sub(l.since) >= leastWindow/2 {
		l.now, l.before, l.since = rtt, l.now, now
		return
	}
	l.now = min(l.now, rtt)
}

func (l *least) get() time.Duration {
	if l.before == 0 {
		return l.now
	}
	return min(l.now, l.before)
}

// WayReport is one way as users see it.
type WayReport struct {
	Way   Way
	Up    bool
	RTT   time.Duration // smoothed; 0 = not measured
	Least time.Duration // the least of the last half minute or minute; 0 = not measured
	Loss  float64       // 0 to 1, of heartbeats
}

// Report describes a way; false if it is not known.
func (p *Paths) Report(w Way) (WayReport, bool) {
	s := p.get(w)
	if s == nil {
		return WayReport{}, false
	}
	return WayReport{Way: w, Up: s.up, RTT: s.rtt, Least: s.least.get(), Loss: s.loss}, true
}

// Tried counts the direct ways, and those of them that answer.
func (p *Paths) Tried() (known, up int) {
	for _, s := range p.ways {
		if s.way.Kind == WayDirect {
			known++
			if s.up {
				up++
			}
		}
	}
	return known, up
}

// MTU is the search for the size of datagrams that a way carries; nil if the way
// is not known. It is valid until the next call of Offer, Proven, Seen or Tick.
func (p *Paths) MTU(w Way) *PathMTU {
	if s := p.get(w); s != nil {
		return &s.MTU
	}
	return nil
}

// Len is how many ways are known.
func (p *Paths) Len() int { return len(p.ways) }

// At is one of the ways that are known, by its place in the order of All.
func (p *Paths) At(i int) Way { return p.ways[i].way }

// All lists the ways that are known, in the order they became so.
func (p *Paths) All() []Way {
	out := make([]Way, len(p.ways))
	for i, s := range p.ways {
		out[i] = s.way
	}
	return out
}
