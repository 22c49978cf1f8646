package node

import "time"

const (
	// spinLimit is how long a lane looks again before it sleeps. Waking a thread
	// on a processor that sleeps takes about a third of it on a virtual machine.
	spinLimit = 100 * time.Microsecond
	// bulkBytes moved in one turn say that throughput matters, not latency: then
	// the next turn finds enough anyhow, and spinning only costs.
	bulkBytes = 4096
	// spinCredit is how often in a row looking again may find nothing before it
	// is given up; every spinProbe-th time it is tried all the same.
	spinCredit = 4
	spinProbe  = 32
)

// spin decides whether a lane that found nothing to do looks again or sleeps.
// Looking again makes a quick exchange of small frames several times faster, and
// is done only while it pays: where answers take longer than spinLimit, it stops.
// Each look is a few system calls, at whose end the kernel may run somebody else;
// sched_yield(2) on top of that would be taken by Linux since 6.18 as giving up a
// whole turn of some milliseconds, and made the tail of round trips longer.
//
//	          work                     nothing
//	busy ◄───────────── spinning ──────────────────► asleep
//	  │   credit + 1       ▲        credit - 1          ▲
//	  └────────────────────┘ small frames, credit left  │
//	  └─────────────────────────────────────────────────┘ else
type spin struct {
	spinning bool
	bulk     bool
	since    time.Time
	credit   int
	empty    uint // times nothing was found after work
}

// worked says that a turn moved bytes.
func (s *spin) worked(bytes int) {
	if s.spinning {
		s.credit = min(s.credit+1, spinCredit)
	}
	s.spinning, s.bulk = false, bytes >= bulkBytes
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
