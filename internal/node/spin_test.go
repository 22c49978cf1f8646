package node

import (
	"testing"
	"time"
)

// exchange plays small frames that come gap apart and returns for how much of
// the time the lane was looking rather than asleep.
func exchange(s *spin, frames int, gap time.Duration, bytes int) float64 {
	const look = 5 * time.Microsecond
	now := time.Unix(0, 0)
	var looking time.Duration
	for range frames {
		s.worked(bytes)
		next := now.Add(gap)
		for now.Before(next) && s.again(now) {
			now, looking = now.Add(look), looking+look
		}
		now = next // asleep until then
	}
	return float64(looking) / float64(time.Duration(frames)*gap)
}

// A lane looks again as long as frames come soon, and sleeps when they do not.
func TestSpinPays(t *testing.T) {
	for _, c := range []struct {
		name     string
		gap      time.Duration
		bytes    int
		from, to float64
	}{
		{"quick answers", 60 * time.Microsecond, 100, 0.9, 1.1},
		{"slow answers", time.Millisecond, 100, 0, 0.01},
		{"bulk", 60 * time.Microsecond, 64 << 10, 0, 0},
	} {
		var s spin
		exchange(&s, 100, c.gap, c.bytes) // learns
		if got := exchange(&s, 10_000, c.gap, c.bytes); got < c.from || got > c.to {
			t.Errorf("%s: looking %.3f of the time, want %.2f to %.2f", c.name, got, c.from, c.to)
		}
	}
	var s spin
	exchange(&s, 1000, time.Millisecond, 100)
	exchange(&s, spinProbe*spinCredit, 60*time.Microsecond, 100)
	if got := exchange(&s, 100, 60*time.Microsecond, 100); got < 0.9 {
		t.Errorf("after slow answers quick ones are looked for %.2f of the time", got)
	}
}

// The processor is offered now and then, but not where that has cost a turn.
func TestSpinYields(t *testing.T) {
	var s spin
	now := time.Unix(0, 0)
	offers := func(d, taken time.Duration) (n int) {
		for end := now.Add(d); now.Before(end); now = now.Add(time.Microsecond) {
			s.worked(100)
			s.again(now)
			for range 20 { // microseconds until the next frame
				if s.again(now) && s.yields(now) {
					n++
					s.yielded(now, now.Add(taken))
					now = now.Add(taken)
				}
				now = now.Add(time.Microsecond)
			}
		}
		return n
	}
	if n := offers(10*time.Millisecond, time.Microsecond); n < 400 || n > 1000 {
		t.Errorf("%d offers in 10 ms", n)
	}
	now = now.Add(time.Millisecond)
	s.worked(100)
	if !s.again(now) || !s.yields(now) {
		t.Error("the first look that finds nothing does not offer the processor to whom the lane has woken")
	}
	if n := offers(time.Second, 3*time.Millisecond); n < 1 || n > 4 {
		t.Errorf("%d offers in a second, each of which costs a turn", n)
	}
	offers(yieldPause, time.Microsecond)
	if n := offers(10*time.Millisecond, time.Microsecond); n < 400 {
		t.Errorf("%d offers in 10 ms, once nobody else is busy", n)
	}
}

// Whether a lane had a stream is told from the last turn that found anything, not from those that found nothing since. Where
// this process has a TCP/IP stack, the lane dozes after such a turn only.
func TestLoaded(t *testing.T) {
	l, own := &lane{dp: &dataplane{}}, &lane{dp: &dataplane{ownStack: true}}
	now := time.Unix(0, 0)
	for _, c := range []struct {
		bytes int
		want  bool
	}{{100, false}, {bulkBytes, true}, {64 << 10, true}, {bulkBytes - 1, false}} {
		l.spin.worked(c.bytes)
		own.spin.worked(c.bytes)
		for range 3 {
			l.spin.again(now)
			own.spin.again(now)
			if !l.dozes() || own.dozes() != c.want {
				t.Errorf("after %d bytes: dozes: %v; with a stack of its own: %v, want %v", c.bytes, l.dozes(), own.dozes(), c.want)
			}
			now = now.Add(2 * spinLimit)
		}
	}
}
