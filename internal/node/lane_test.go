package node

import (
	"testing"

	"weave/stack"
	"weave/tun/tuntest"
)

// countedQueue counts how often a lane has looked at it.
type countedQueue struct {
	*tuntest.End
	looks int
}

func (q *countedQueue) TryRead(buf []byte) (int, error) {
	q.looks++
	return q.End.TryRead(buf)
}

// laneOfPorts is a lane of several local ports, and the far ends of their queues.
func laneOfPorts(t *testing.T, n int) (l *lane, queues []*countedQueue, users []*tuntest.End) {
	t.Helper()
	var s *side
	for i := range n {
		user, tap := tuntest.Pipe(64)
		q := &countedQueue{End: tap}
		t.Cleanup(func() { _ = tap.Close() })
		if i == 0 {
			s = newSide(t, q)
			t.Cleanup(s.dp.closeSockets)
		} else {
			s.dp.addLocal(&localPort{port: tapPort + stack.Port(i), queues: []tapQueue{q}})
		}
		queues, users = append(queues, q), append(users, user)
	}
	lanes, err := newLanes(s.dp, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	return lanes[0], queues, users
}

// works has a port send a frame, and the lane take a turn.
func works(t *testing.T, l *lane, by *tuntest.End) {
	t.Helper()
	if err := by.WriteFrame(frame(0xff, 1, make([]byte, 46))); err != nil {
		t.Fatal(err)
	}
	if _, err := l.turn(); err != nil {
		t.Fatal(err)
	}
}

// While one of many ports is busy, the others cost no system call each turn, and yet are heard soon.
func TestQuietPorts(t *testing.T) {
	const ports, turns = 20, 200
	l, queues, users := laneOfPorts(t, ports)
	for range quietAfter {
		works(t, l, users[0])
	}
	for _, q := range queues {
		q.looks = 0
	}
	for range turns {
		works(t, l, users[0])
	}
	for i, q := range queues {
		if busy := i == 0; busy && q.looks < turns || !busy && q.looks > 0 {
			t.Errorf("port %d was looked at %d times in %d turns", i, q.looks, turns)
		}
	}
	for i := 1; i < ports; i++ {
		if err := users[i].WriteFrame(frame(0xff, 2, make([]byte, 46))); err != nil {
			t.Fatal(err)
		}
		for range quietEvery + 1 {
			works(t, l, users[0])
		}
		if queues[i].looks == 0 {
			t.Errorf("port %d has something for %d turns, and was not looked at", i, quietEvery+1)
		}
	}
}

// A turn in which a quiet port was not asked does not say that all ports are empty, as drain would have it.
func TestQuietPortsAreNotCalledEmpty(t *testing.T) {
	l, _, users := laneOfPorts(t, 2)
	for range 2 * quietAfter {
		works(t, l, users[0])
	}
	emptied := 0
	for range 10 * quietEvery {
		before := l.waiter.emptied.Load()
		works(t, l, users[0])
		if l.waiter.emptied.Load() != before {
			emptied++
			if l.turns-l.looked > 1 {
				t.Fatalf("called empty %d turns after the last look", l.turns-l.looked)
			}
		}
	}
	if emptied == 0 {
		t.Error("a busy lane was never seen to have emptied its ports, so that drain waits in vain")
	}
}

// A lane goes on with the other ports when some are closed, also while it begins to wait for them, and tells of those.
func TestPortsAreClosed(t *testing.T) {
	l, queues, users := laneOfPorts(t, 4)
	for range 2 * quietAfter {
		works(t, l, users[3])
	}
	_ = queues[1].Close()
	_ = queues[2].Close()
	l.watch() // as when ports come and go
	if err := users[0].WriteFrame(frame(0xff, 2, make([]byte, 46))); err != nil {
		t.Fatal(err)
	}
	queues[0].looks, queues[3].looks = 0, 0
	for range 2 * quietAfter {
		works(t, l, users[3])
	}
	if len(l.inlets) != 2 || queues[0].looks == 0 || queues[3].looks < 2*quietAfter {
		t.Errorf("%d ports are left; the open ones were looked at %d and %d times", len(l.inlets), queues[0].looks, queues[3].looks)
	}
	for range 2 {
		select {
		case p := <-l.dp.gone:
			if p != tapPort+1 && p != tapPort+2 {
				t.Errorf("port %d is said to be gone", p)
			}
		default:
			t.Error("a port that is closed is not said to be gone")
		}
	}
}
