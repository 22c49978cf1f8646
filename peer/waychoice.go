package peer

import (
	"math"
	"slices"
	"time"
)

// interval is how long a way's next heartbeat waits after its last.
func (s *wayState) interval(used, active bool) time.Duration {
	switch {
	case !s.up && s.unanswered <= fastTries:
		return beatFast
	case !s.up:
		return min(beatFast<<min(s.unanswered-fastTries, 16), retryWay)
	case s.unanswered > 0 || (used && (active || !s.MTU.Settled())):
		return beatFast
	case used:
		return beatIdle
	}
	return beatSpare
}

// lost reports whether a way that worked does no longer.
func (s *wayState) lost(now time.Time) bool {
	silence := now.Sub(s.answered)
	wait := max(lostAfter, 4*s.rtt)
	if !s.heard.IsZero() && now.Sub(s.heard) < time.Second {
		wait = lostHeard
	}
	return s.unanswered >= s.patience() && silence >= wait
}

// patience is how many heartbeats may go without an answer.
func (s *wayState) patience() int {
	if s.loss < 0.01 {
		return lostBeats
	}
	n := math.Ceil(math.Log(tooRare) / math.Log(min(s.loss, 0.9)))
	return max(lostBeats, min(int(n), lostBeatsMax))
}

// score orders ways that are up: less is better. It is the least of the last while: what traffic itself adds, on the way that
// takes it, is no reason to take another, which would be as busy then.
func (s *wayState) score() time.Duration {
	if s.rtt == 0 {
		return unmeasured
	}
	return s.least.get()
}

// settleBest chooses the way that traffic takes. While nothing works it stays
// with the one that worked last: nothing is lost by trying.
func (p *Paths) settleBest() {
	held, at := p.get(p.best), slices.Index(p.ways, p.get(p.best))
	if held == nil {
		p.best = Way{}
	}
	var pick *wayState
	for i, s := range p.ways {
		if s.up && s != held && (held == nil || !held.up || s.clearly(held, i < at)) && (pick == nil || s.beats(pick)) {
			pick = s
		}
	}
	if pick != nil {
		p.best = pick.way
	}
}

// beats reports whether s is to be preferred to o, which became known earlier, if
// neither is in use. The mesh names the likeliest address first.
func (s *wayState) beats(o *wayState) bool {
	if (s.way.Kind == WayStream) != (o.way.Kind == WayStream) {
		return o.way.Kind == WayStream
	}
	a, b := s.score(), o.score()
	if s.way.Kind != o.way.Kind { // a direct way and a relay
		if s.way.Kind == WayRelay {
			return a+slack(b) < b
		}
		return a <= b+slack(a)
	}
	return a+slack(b) < b
}

// clearly reports whether s is so much better than o, which is in use, that
// changing is worth it. Of two addresses the one that was named first is returned
// to when it is hardly slower.
func (s *wayState) clearly(o *wayState, first bool) bool {
	if s.way.Kind == WayDirect && o.way.Kind == WayDirect && first {
		return s.rtt > 0 && s.score() <= o.score()+slack(s.score())/2
	}
	return s.beats(o)
}

func slack(rtt time.Duration) time.Duration { return max(switchSlack, rtt/switchSlackPer) }
