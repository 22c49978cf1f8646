package node

import (
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keepEvery is how often a lane asks whether it is to stay, and keepRate how
	// many bytes of super-frames a second make it stay: at a third of a Gbit/s who
	// runs where begins to matter.
	keepEvery = 50 * time.Millisecond
	keepRate  = 40 << 20
	keepTurns = 32 // between two looks at the clock
	// keepMore is how many times as much as the other way a lane must send, or
	// receive, to stay for it.
	keepMore = 2
	// keepWeigh is how long waiting and idling are added up before they are
	// compared: /proc/stat counts in hundredths of a second.
	keepWeigh = 200 * time.Millisecond
	// A lane that waited for its processor for this share of that time, while
	// another one was idle for that, has stayed in the wrong place. It goes where
	// the kernel wants for keepRest then, twice as long each time in a row.
	keepWaited  = 0.25
	keepIdle    = 0.4
	keepRest    = time.Second
	keepRestMax = 32 * time.Second
	// keepMost is up to how many processors a lane stays: up to so many there is one
	// lane unless somebody says otherwise. With more it was not measured.
	keepMost = 3
	statTick = 10 * time.Millisecond // USER_HZ, the same on all platforms that Go knows
)

// keeper has a lane stay on one processor while it carries streams on a host of
// few processors.
//
// A stream is a chain: the sender, its host's lane, the far lane, the receiver.
// Who wakes the next one in it often takes that one's processor or gives up its
// own, and Linux looks for a better place only when it wakes somebody. So two
// processors were idle for a sixth of the time, mostly one while two of the chain
// waited for the other. A lane that stays leaves the other processors to the
// applications: one that sends stays on the last, one that receives on the first.
// So the lanes of two hosts on one machine, as in tests, do not share a processor.
// A lane that sends about as much as it receives goes where the kernel wants.
//
// It belongs to the lane's goroutine.
type keeper struct {
	kept    bool
	role    role        // for which it stays, if kept
	home    int         // where it stays, if kept
	before  unix.CPUSet // where its thread could run before
	looked  time.Time
	carried carried // when it looked
	weighed weight
	rest    time.Duration // the last one; 0: the last stay was good
	rested  time.Time     // not again before

	weigh func() (weight, error) // weighThread; another one in tests
}

// weight is for how long a thread has waited for a processor, and for how long
// each processor has been idle, by its number.
type weight struct {
	at     time.Time
	waited time.Duration
	idle   []time.Duration
}

// carried is how many bytes of super-frames a lane has moved.
type carried struct{ sent, received uint64 }

// role is the end of a stream that a lane has.
type role uint8

const (
	noRole role = iota // no stream, or streams both ways
	sending
	receiving
)

// role says what the lane had to do since it had carried before, a while ago.
func (c carried) role(before carried, while time.Duration) role {
	sent, received := c.sent-before.sent, c.received-before.received
	switch {
	case float64(sent+received) < keepRate*while.Seconds():
		return noRole
	case sent >= keepMore*received:
		return sending
	case received >= keepMore*sent:
		return receiving
	}
	return noRole
}

func newKeeper() *keeper { return &keeper{weigh: weighThread} }

// due says whether it is time to look.
func (k *keeper) due(now time.Time) bool { return now.Sub(k.looked) >= keepEvery }

// look has the lane stay, or lets it go.
func (k *keeper) look(now time.Time, moved carried) {
	role := moved.role(k.carried, now.Sub(k.looked))
	k.looked, k.carried = now, moved
	switch {
	case k.kept && role != k.role:
		k.leave()
	case k.kept && now.Sub(k.weighed.at) >= keepWeigh:
		k.judge(now)
	case !k.kept && role != noRole && !now.Before(k.rested):
		k.stay(now, role)
	}
}

// stay locks the lane to its thread, and the thread to the processor for its role,
// of those that it may use. Where that cannot be, or there is no choice, it tries
// again much later.
func (k *keeper) stay(now time.Time, role role) {
	runtime.LockOSThread()
	k.role = role
	k.kept = k.settle()
	if !k.kept {
		runtime.UnlockOSThread()
		k.rested = now.Add(keepRestMax)
	}
}

func (k *keeper) settle() bool {
	if unix.SchedGetaffinity(0, &k.before) != nil {
		return false
	}
	if n := k.before.Count(); n < 2 || n > keepMost {
		return false
	}
	w, err := k.weigh()
	if err != nil {
		return false
	}
	k.home, k.weighed = k.role.processor(&k.before), w
	return pin(k.home) == nil
}

// leave is the opposite of stay, and does nothing if the lane does not stay.
func (k *keeper) leave() {
	if !k.kept {
		return
	}
	k.kept = false
	var now unix.CPUSet
	if unix.SchedGetaffinity(0, &now) == nil && now.Count() == 1 && now.IsSet(k.home) { // else somebody has said otherwise since
		_ = unix.SchedSetaffinity(0, &k.before)
	}
	runtime.UnlockOSThread()
}

// judge lets the lane go if it waited although it could have run elsewhere.
func (k *keeper) judge(now time.Time) {
	w, err := k.weigh()
	before := k.weighed
	k.weighed = w
	if err == nil && !k.misplaced(before, w) {
		k.rest = 0
		return
	}
	k.rest = min(max(2*k.rest, keepRest), keepRestMax)
	k.rested = now.Add(k.rest)
	k.leave()
}

// misplaced says whether the lane waited between two times although it could
// have run elsewhere.
func (k *keeper) misplaced(from, to weight) bool {
	long := to.at.Sub(from.at).Seconds()
	if (to.waited - from.waited).Seconds() < keepWaited*long {
		return false
	}
	for i := range min(len(from.idle), len(to.idle)) {
		if i != k.home && k.before.IsSet(i) && (to.idle[i]-from.idle[i]).Seconds() > keepIdle*long {
			return true
		}
	}
	return false
}

// processor is the one of a set where a lane stays: the last one if it sends,
// else the first.
func (r role) processor(set *unix.CPUSet) (cpu int) {
	for i := range len(set) * bits.UintSize {
		if !set.IsSet(i) {
			continue
		}
		if cpu = i; r != sending {
			break
		}
	}
	return cpu
}

// pin has the calling thread run on one processor only.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}

// weighThread weighs the calling thread, which must be locked. What it reads is
// described in the kernel's Documentation/scheduler/sched-stats.rst and in
// proc_stat(5).
func weighThread() (weight, error) {
	w := weight{at: time.Now()}
	text, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return w, err
	}
	var ran int64
	if _, err := fmt.Sscan(string(text), &ran, (*int64)(&w.waited)); err != nil {
		return w, fmt.Errorf("schedstat: %w", err)
	}
	text, err = os.ReadFile("/proc/stat")
	if err != nil {
		return w, err
	}
	w.idle = idleOf(string(text))
	return w, nil
}

// idleOf takes the idle times of all processors out of /proc/stat.
func idleOf(stat string) (idle []time.Duration) {
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		cpu, err := strconv.Atoi(f[0][len("cpu"):])
		if err != nil || cpu < 0 || cpu >= len(unix.CPUSet{})*bits.UintSize {
			continue // the sum of all
		}
		ticks, _ := strconv.ParseInt(f[4], 10, 64)
		waiting, _ := strconv.ParseInt(f[5], 10, 64)
		for len(idle) <= cpu {
			idle = append(idle, 0)
		}
		idle[cpu] = time.Duration(ticks+waiting) * statTick
	}
	return idle
}
