package peer

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rounds runs rounds over a path that carries up to carried bytes and loses
// everything for which lost says so.
func rounds(m *PathMTU, now time.Time, count, carried int, lost func() bool) time.Time {
	for range count {
		sizes := m.Round(now)
		if !lost() {
			m.Heard()
		}
		for _, s := range sizes {
			if s <= carried && !lost() {
				m.Answered(s)
			}
		}
		now = now.Add(500 * time.Millisecond)
	}
	m.Round(now)
	return now
}

func lossless() bool { return false }

func TestPathMTUFindsTheLargestPlateau(t *testing.T) {
	for _, c := range []struct{ ceiling, carried, want int }{
		{1500, 1500, 1500},
		{9000, 9000, 9000},
		{9000, 1500, 1492},
		{1500, 1400, 1400},
		{1500, 700, 576},
		{1500, 100, 576},
		{400, 400, 400},
	} {
		var m PathMTU
		m.Begin(c.ceiling)
		rounds(&m, time.Unix(0, 0), 4, c.carried, lossless)
		if m.Current() != c.want || !m.Settled() {
			t.Errorf("ceiling %d, path %d: found %d (settled %v), want %d", c.ceiling, c.carried, m.Current(), m.Settled(), c.want)
		}
	}
}

func TestPathMTUNoticesABlackHoleAndItsEnd(t *testing.T) {
	var m PathMTU
	m.Begin(1500)
	now := rounds(&m, time.Unix(0, 0), 5, 1500, lossless)
	now = rounds(&m, now, 8, 1300, lossless)
	if m.Current() != 1280 {
		t.Fatalf("%d after the path shrank to 1300", m.Current())
	}
	now = rounds(&m, now, 8, 1500, lossless)
	if m.Current() != 1280 {
		t.Fatalf("%d: raised before its time", m.Current())
	}
	rounds(&m, now.Add(mtuRaise), 5, 1500, lossless)
	if m.Current() != 1500 {
		t.Errorf("%d long after the path grew", m.Current())
	}
}

func TestPathMTUOfADeadPathStays(t *testing.T) {
	var m PathMTU
	m.Begin(1500)
	now := rounds(&m, time.Unix(0, 0), 4, 1500, lossless)
	rounds(&m, now, 100, 1500, func() bool { return true })
	if m.Current() != 1500 {
		t.Errorf("%d: silence is no black hole", m.Current())
	}
}

// With loss the result may be smaller than the path carries, lossless larger once settled, and never below the minimum.
func TestPathMTUUnderLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m PathMTU
		ceiling := rapid.IntRange(MinMTU, 9000).Draw(t, "ceiling")
		carried := rapid.IntRange(MinMTU, ceiling).Draw(t, "carried")
		loss := rapid.IntRange(0, 40).Draw(t, "loss")
		m.Begin(ceiling)
		rounds(&m, time.Unix(0, 0), 40, carried, func() bool { return rapid.IntRange(0, 99).Draw(t, "die") < loss })
		if m.Current() < MinMTU || m.Settled() && m.Current() > carried {
			t.Fatalf("found %d on a path of %d", m.Current(), carried)
		}
	})
}
