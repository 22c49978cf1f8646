package main

import "math"

const (
	firstRate = 40_000.0 // datagrams per second
	slowest   = 1_000.0
	fastest   = 640_000.0
	closeness = 1.08 // of the rates between which the search ends
	patienceN = 2    // attempts before a rate counts as too fast: the machine may have been busy elsewhere
)

// attempt is what became of datagrams sent at one rate.
type attempt struct {
	rate, delivered float64 // per second
	lost            float64 // share
}

// search looks for highest rates and remembers what it tried: a later search
// with another limit begins there.
type search struct {
	try   func(rate float64) attempt
	tried []attempt
}

// highest is the best rate delivered with at most a share of limit lost, 0
// if there is none.
func (s *search) highest(limit float64) float64 {
	for {
		rate, again := s.next(limit)
		if !again {
			break
		}
		s.tried = append(s.tried, s.try(rate))
	}
	best := 0.0
	for _, a := range s.tried {
		if a.lost <= limit {
			best = max(best, a.delivered)
		}
	}
	return best
}

// next is the rate to try now: doubling or halving until there is one that
// holds below one that does not, then between the two.
func (s *search) next(limit float64) (rate float64, again bool) {
	low, high, retry := s.bracket(limit)
	switch {
	case retry > 0:
		return retry, true
	case len(s.tried) == 0:
		return firstRate, true
	case high == 0:
		return low * 2, low*2 <= fastest && !s.senderEnds(low)
	case low == 0:
		return high / 2, high/2 >= slowest
	default:
		return math.Sqrt(low * high), high/low > closeness
	}
}

// bracket finds the highest rate that held and the lowest above it that did
// not. A rate with too few attempts to tell is to be tried again.
func (s *search) bracket(limit float64) (low, high, retry float64) {
	for _, a := range s.tried {
		if a.lost <= limit {
			low = max(low, a.rate)
		}
	}
	count := map[float64]int{}
	for _, a := range s.tried {
		if a.rate <= low {
			continue
		}
		count[a.rate]++
		if high == 0 || a.rate < high {
			high = a.rate
		}
	}
	if high > 0 && count[high] < patienceN {
		retry = high
	}
	return low, high, retry
}

// senderEnds tells that the sender itself was not faster.
func (s *search) senderEnds(rate float64) bool {
	for _, a := range s.tried {
		if a.rate == rate && a.delivered < rate*0.95 {
			return true
		}
	}
	return false
}
