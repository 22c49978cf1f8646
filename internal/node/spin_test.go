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
