package node

import "time"

const (
	// spinLimit is how long a lane looks again before it sleeps. Waking a thread
	// on a processor that sleeps takes about a third of it on a virtual machine.
	spinLimit = 100 * time.Microsecond
	// bulkBytes moved in one turn say that throughput matters, not latency: then
	// the next turn finds enough anyhow, and spinning only costs.
	bulkBytes = 4096
	// dozeLimit is how long a lane sleeps at once without Go's scheduler knowing.
	// It is well below the 10 ms after which that would interrupt it.
	dozeLimit = 2 * time.Millisecond
	// spinCredit is how often in a row looking again may find nothing before it
	// is given up; every spinProbe-th time it is tried all the same.
	spinCredit = 4
	spinProbe  = 32
	// yieldEvery is how often at most a lane that looks again offers its processor,
	// at once to begin with: the application that has the answer, or asks next, may
	// wait for just that one, as may the one that the lane has just woken. An offer
	// that was taken for longer than yieldLost went to somebody who has much to do;
	// none is made for yieldPause then.
	yieldEvery = 10 * time.Microsecond
	yieldLost  = 1500 * time.Microsecond
	yieldPause = 300 * time.Millisecond
)

// spin decides whether a lane that found nothing to do looks again or sleeps.
// Looking again makes a quick exchange of small frames several times faster, and
// is done only while it pays: where answers take longer than spinLimit, it stops.
// Each look is a few system calls, at whose end the kernel may run somebody else,
// but need not: so now and then the lane says that it may (sched_yield(2)). Linux
// since 6.18 takes that as giving up a whole turn of some milliseconds, if somebody
// uses it, so it is not said where somebody does. Somebody of another scheduling
// group (a control group, the autogroup of a session) has the processor by an offer
// only if the turn is that group's by then.
//
//	          work                     nothing
//	busy ◄───────────── spinning ──────────────────► asleep
//	  │   credit + 1       ▲        credit - 1          ▲
//	  └────────────────────┘ small frames, credit left  │
//	  └─────────────────────────────────────────────────┘ else
type spin struct {
	spinning bool
	bulk     bool
	loaded   bool // the last turn that found anything moved bulkBytes
	since    time.Time
	credit   int
	empty    uint      // times nothing was found after work
	yield    time.Time // when to offer the processor next
}

// worked says that a turn moved bytes.
func (s *spin) worked(bytes int) {
	if s.spinning {
		s.credit = min(s.credit+1, spinCredit)
	}
	s.loaded = bytes >= bulkBytes
	s.spinning, s.bulk = false, s.loaded
}

// again says whether to look again after a turn that found nothing.
func (s *spin) again(now time.Time) bool {
	if s.spinning {
		if now.Sub(s.since) < spinLimit {
			return true
		}
		s.spinning, s.bulk = false, true // asleep: not again before there was work
		s.credit = max(s.credit-1, 0)
		return false
	}
	s.empty++
	if s.bulk || s.credit == 0 && s.empty%spinProbe != 0 {
		return false
	}
	s.spinning, s.since = true, now
	return true
}

// yields says whether to offer the processor before the next look.
func (s *spin) yields(now time.Time) bool { return !now.Before(s.yield) }

// yielded says that the processor was offered, and when it was had again.
func (s *spin) yielded(from, to time.Time) {
	s.yield = to.Add(yieldEvery)
	if to.Sub(from) > yieldLost {
		s.yield = to.Add(yieldPause)
	}
}
