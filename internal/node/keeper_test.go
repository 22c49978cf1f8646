package node

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clockwork is a keeper whose time and weights are made up; all processors are as idle.
type clockwork struct {
	*keeper
	now          time.Time
	moved        carried
	waited, idle time.Duration // so far
	broken       error
}

func newClockwork() *clockwork {
	c := &clockwork{keeper: newKeeper(), now: time.Unix(1e9, 0)}
	c.weigh = func() (weight, error) {
		w := weight{at: c.now, waited: c.waited, idle: make([]time.Duration, len(unix.CPUSet{})*bits.UintSize)}
		for i := range w.idle {
			w.idle[i] = c.idle
		}
		return w, c.broken
	}
	return c
}

// pass lets time pass in which the lane sends rate bytes a second, waits and has others idle for a share of it.
func (c *clockwork) pass(d time.Duration, rate, waited, idle float64) {
	c.carry(d, rate, 0, waited, idle)
}

// carry is pass for a lane that also receives.
func (c *clockwork) carry(d time.Duration, sent, received, waited, idle float64) {
	for end := c.now.Add(d); c.now.Before(end); {
		c.now = c.now.Add(time.Millisecond)
		c.moved.sent += uint64(sent / 1000)
		c.moved.received += uint64(received / 1000)
		c.waited += time.Duration(waited * float64(time.Millisecond))
		c.idle += time.Duration(idle * float64(time.Millisecond))
		if c.due(c.now) {
			c.look(c.now, c.moved)
		}
	}
}

// onTwo runs f on a thread that may run on two processors, or on the only one.
func onTwo(t *testing.T, f func(processors int)) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := allowed(t)
	var two unix.CPUSet
	for i := 0; i < len(two)*bits.UintSize && two.Count() < 2; i++ {
		if before.IsSet(i) {
			two.Set(i)
		}
	}
	if err := unix.SchedSetaffinity(0, &two); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if got := allowed(t); got != two {
			t.Errorf("the thread was left with processors %x of %x", got, two)
		}
		_ = unix.SchedSetaffinity(0, &before)
	}()
	f(two.Count())
}

func allowed(t *testing.T) (set unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	return set
}

const (
	fast = 4 * keepRate
	slow = keepRate / 4
)

// A lane that carries a stream stays on one processor, and goes free with the stream; without a choice it does nothing.
func TestKeeperStaysWhileThereIsAStream(t *testing.T) {
	onTwo(t, func(processors int) {
		before := allowed(t)
		c := newClockwork()
		c.pass(time.Second, slow, 0, 0)
		if c.kept {
			t.Error("a trickle made it stay")
		}
		c.pass(time.Second, fast, 0.5, 0.2)
		if c.kept != (processors > 1) {
			t.Fatalf("kept: %v, with %d processors", c.kept, processors)
		}
		if now := allowed(t); now.Count() != 1 || !now.IsSet(sending.processor(&before)) {
			t.Errorf("stays on %x of %x", now, before)
		}
		c.pass(2*keepEvery, slow, 0, 0)
		if c.kept || allowed(t) != before {
			t.Errorf("kept: %v, on %x of %x, after the stream", c.kept, allowed(t), before)
		}
		c.leave() // does nothing
	})
}

// A lane that receives stays on another processor than one that sends, and one with as much of both on none; it changes over
// when its streams do.
func TestKeeperGivesEachRoleAProcessor(t *testing.T) {
	onTwo(t, func(processors int) {
		if processors < 2 {
			return // it never stays, see the other test
		}
		before := allowed(t)
		c := newClockwork()
		defer c.leave()
		for _, step := range []struct {
			sent, received float64
			role           role
		}{
			{fast, 0, sending},
			{0, fast, receiving},
			{fast, fast, noRole},
			{fast / 4, fast, receiving},
			{fast, fast / 4, sending},
			{slow, fast, receiving},
			{fast, fast / 1.5, noRole},
			{slow, slow, noRole},
			{keepRate * 0.6, keepRate * 0.6, noRole},
			{keepRate, keepRate / 4, sending},
		} {
			c.carry(time.Second, step.sent, step.received, 0, 0)
			now := allowed(t)
			if step.role == noRole {
				if c.kept || now != before {
					t.Errorf("%+v: kept: %v, may run on %x", step, c.kept, now)
				}
				continue
			}
			if !c.kept || now.Count() != 1 || !now.IsSet(step.role.processor(&before)) {
				t.Errorf("%+v: kept: %v, may run on %x of %x", step, c.kept, now, before)
			}
		}
		if a, b := sending.processor(&before), receiving.processor(&before); a == b || !before.IsSet(a) || !before.IsSet(b) {
			t.Errorf("processors %d and %d of %x", a, b, before)
		}
	})
}

// Where the lane waits while another processor is idle it goes free, for longer each time, and where it does either alone it stays.
func TestKeeperLeavesTheWrongPlace(t *testing.T) {
	onTwo(t, func(processors int) {
		if processors < 2 {
			return // it never stays, see the other test
		}
		c := newClockwork()
		defer c.leave()
		c.pass(time.Second, fast, 0.9, 0.1)
		c.pass(time.Second, fast, 0.1, 0.9)
		if !c.kept {
			t.Fatal("left, though it waited or others were idle, but not both")
		}
		for want := keepRest; want < 4*keepRestMax; want *= 2 {
			c.pass(keepWeigh+2*keepEvery, fast, 0.6, 0.6)
			if c.kept {
				t.Fatal("stayed in the wrong place")
			}
			left, rest := c.now, min(want, keepRestMax)
			for !c.kept && c.now.Sub(left) < 2*rest {
				c.pass(keepEvery, fast, 0, 0)
			}
			if away := c.now.Sub(left); away < rest-keepWeigh || away > rest+keepWeigh {
				t.Fatalf("was away for %v, want %v", away, rest)
			}
		}
		c.pass(2*keepWeigh, fast, 0, 0) // a good stay: the next rest is the first again
		c.pass(keepWeigh+2*keepEvery, fast, 0.6, 0.6)
		if c.kept || c.rest != keepRest {
			t.Errorf("kept: %v, rests for %v, want %v", c.kept, c.rest, keepRest)
		}
		c.leave()
	})
}

// What cannot be weighed makes nobody stay, and who stays then leaves.
func TestKeeperWithoutWeights(t *testing.T) {
	onTwo(t, func(int) {
		c := newClockwork()
		c.broken = errors.New("no such file")
		c.pass(time.Second, fast, 0, 0)
		if c.kept {
			t.Error("stayed without knowing what that does")
		}
		c.broken = nil
		c.pass(keepRestMax+time.Second, fast, 0, 0)
		c.broken = errors.New("no such file")
		c.pass(2*keepWeigh, fast, 0, 0)
		if c.kept {
			t.Error("stayed though nothing is known any more")
		}
	})
}

// What somebody else says of where the thread may run holds.
func TestKeeperLeavesOthersAffinityAlone(t *testing.T) {
	onTwo(t, func(processors int) {
		before := allowed(t)
		c := newClockwork()
		c.pass(time.Second, fast, 0, 0)
		var first unix.CPUSet
		first.Set(receiving.processor(&before))
		if err := unix.SchedSetaffinity(0, &first); err != nil {
			t.Fatal(err)
		}
		c.leave()
		if now := allowed(t); now != first {
			t.Errorf("the thread may run on %x, want %x", now, first)
		}
		_ = unix.SchedSetaffinity(0, &before)
	})
}

// Two threads that share a processor wait for each other.
func TestWeighThreadSeesWaiting(t *testing.T) {
	onTwo(t, func(int) {
		set := allowed(t)
		home := sending.processor(&set)
		var stop atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			_ = pin(home)
			for !stop.Load() {
				continue
			}
		}()
		defer func() { stop.Store(true); <-done }()
		if err := pin(home); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.SchedSetaffinity(0, &set) }()
		from, err := weighThread()
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); ; {
			to, err := weighThread()
			if err != nil {
				t.Fatal(err)
			}
			if to.waited-from.waited > 50*time.Millisecond {
				return
			}
			if time.Now().After(end) {
				t.Fatal("waited for less than 50 ms in a minute")
			}
		}
	})
}

// The idle times are those of /proc/stat, whatever else is in it.
func TestIdleOf(t *testing.T) {
	text := "cpu  30 0 30 700 50 0 0 0 0 0\ncpu0 10 0 10 300 20 0 0 0 0 0\ncpu2 20 0 20 400 30 0 0 0 0 0\nintr 5 6 7 8 9 1\n" +
		"cpu99999999 1 2 3 4 5 6\ncpu-1 1 2 3 4 5 6\ncpux 1 2 3 4 5 6\ncpu1 1 2\nctxt 17\n"
	if got, want := fmt.Sprint(idleOf(text)), "[3.2s 0s 4.3s]"; got != want {
		t.Errorf("idle %s, want %s", got, want)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(idleOf(string(stat))), strings.Count(string(stat), "\ncpu"); got < want {
		t.Errorf("%d processors, want %d", got, want)
	}
}
