package node

import (
	"testing"

	"weave/tun/tuntest"
)

// watched is a local port's queue that counts looks.
type watched struct {
	*tuntest.End
	looks int
}

func (c *watched) TryRead(buf []byte) (int, error) {
	c.looks++
	return c.End.TryRead(buf)
}

// A device that has nothing for long is looked at in one of four turns, in all again once it had something, and while it
// is not looked at, nobody is told that local ports have nothing.
func TestQuietDevices(t *testing.T) {
	busyUser, busy := tuntest.Pipe(16)
	quietUser, end := tuntest.Pipe(16)
	s, still := newSide(t, busy), &watched{End: end}
	s.dp.addLocal(&localPort{port: tapPort + 1, queues: []tapQueue{still}})
	lanes, err := newLanes(s.dp, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	l := lanes[0]
	turns := func(n int) (looks int, emptied uint64) {
		looks, emptied = still.looks, l.waiter.emptied.Load()
		for range n {
			if err := busyUser.WriteFrame(frame(0xff, 1, make([]byte, 46))); err != nil {
				t.Fatal(err)
			}
			if _, err := l.turn(); err != nil {
				t.Fatal(err)
			}
		}
		return still.looks - looks, l.waiter.emptied.Load() - emptied
	}
	if looks, emptied := turns(quietAfter); looks != quietAfter || emptied != quietAfter {
		t.Errorf("in the first %d turns %d looks, %d without anything left", quietAfter, looks, emptied)
	}
	if looks, emptied := turns(10 * quietEvery); looks != 10 || emptied != 10 {
		t.Errorf("in %d turns with nothing %d looks, %d without anything left", 10*quietEvery, looks, emptied)
	}
	if err := quietUser.WriteFrame(frame(0xff, 2, make([]byte, 46))); err != nil {
		t.Fatal(err)
	}
	turns(quietEvery) // it is found in one of them
	if looks, _ := turns(quietEvery); looks != quietEvery {
		t.Errorf("after a frame %d looks in %d turns", looks, quietEvery)
	}
}
