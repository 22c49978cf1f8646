package peer

import "time"

// MTUs are IP-level sizes in bytes, without the underlay's link header.
const (
	// MinMTU is what every IPv4 path carries after fragmentation rules (RFC 791,
	// section 3.1); no search goes below it.
	MinMTU = 576

	mtuRounds = 3                // rounds a search or a suspicion lasts
	mtuRaise  = 10 * time.Minute // PMTU_RAISE_TIMER of RFC 8899, section 5.1.1
)

// plateaus are sizes that paths are known to have: Ethernet, PPPoE, tunnels of
// various kinds, IPv6's minimum, and some below.
var plateaus = [...]int{1492, 1480, 1472, 1460, 1440, 1420, 1400, 1380, 1340, 1280, 1200, 1024, 768, MinMTU}

// PathMTU finds how large a datagram a path carries, and notices when it
// carries less: datagram packetization-layer path MTU discovery (RFC 8899) with
// all sizes probed at once, because a round trip costs more than a few
// datagrams. Probes ride beside heartbeats; a round is what is sent between two.
//
//	          largest answered, or 3 rounds over
//	search ─────────────────────────────────────► steady
//	  ▲         3 rounds without an answer to        │
//	  └──────── the current size, or 10 min ─────────┘
//
// A round counts only if its heartbeat was answered: a dead path has no MTU.
// PathMTU is pure; its methods belong to one goroutine.
type PathMTU struct {
	ceiling  int // what the kernel says
	floor    int // no search goes below
	current  int
	search   bool
	rounds   int  // of this search, or of this suspicion
	best     int  // largest answered in this search or round
	alive    bool // the round's heartbeat was answered
	begun    bool
	searched time.Time
}

// Begin starts over for a path whose first hop takes ceiling bytes. Until
// something else is known, that is taken for the path's MTU. A ceiling below
// MinMTU, as relays have on the smallest paths, is all there is to find.
func (m *PathMTU) Begin(ceiling int) {
	*m = PathMTU{ceiling: ceiling, floor: min(ceiling, MinMTU), current: ceiling, search: true}
}

// Ceiling is what Begin was given last.
func (m *PathMTU) Ceiling() int { return m.ceiling }

// Current is the MTU to use now, in bytes.
func (m *PathMTU) Current() int { return m.current }

// Settled tells whether rounds may follow each other slowly.
func (m *PathMTU) Settled() bool { return !m.search && m.rounds == 0 }

// Round judges the last round and says which sizes to probe in the next.
func (m *PathMTU) Round(now time.Time) []int {
	if m.begun && m.alive {
		m.judge(now)
	}
	m.begun, m.alive = true, false
	if !m.search {
		m.best = 0
		return []int{m.current}
	}
	sizes := []int{m.ceiling}
	for _, p := range plateaus {
		if p < m.ceiling && p > m.best {
			sizes = append(sizes, p)
		}
	}
	return sizes
}

func (m *PathMTU) judge(now time.Time) {
	m.rounds++
	switch {
	case m.search && (m.best == m.ceiling || m.rounds >= mtuRounds):
		m.current = max(m.best, m.floor)
		m.search, m.rounds, m.searched = false, 0, now
	case m.search:
	case m.best >= m.current || m.current <= m.floor:
		m.rounds = 0
		if m.current < m.ceiling && now.Sub(m.searched) >= mtuRaise {
			m.search, m.best = true, 0
		}
	case m.rounds >= mtuRounds:
		m.search, m.rounds, m.best = true, 0, 0
	}
}

// Heard notes that the round's heartbeat was answered.
func (m *PathMTU) Heard() { m.alive = true }

// Answered notes that a probe of size bytes arrived.
func (m *PathMTU) Answered(size int) {
	m.alive = true
	m.best = max(m.best, size)
}
