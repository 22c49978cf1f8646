package session

import (
	"io"
	"slices"
	"testing"
	"time"
)

func TestHandshakeAndData(t *testing.T) {
	for _, suite := range []Suite{SuiteWireGuard, SuiteAESGCM} {
		t.Run(suite.String(), func(t *testing.T) {
			a, b := newEnds(t, suite, Config{})
			ka, kb := connect(a, b)
			if ka.Suite() != suite || kb.Suite() != suite {
				t.Errorf("suites %v and %v", ka.Suite(), kb.Suite())
			}
			if ka.LocalIndex() != kb.RemoteIndex() || ka.RemoteIndex() != kb.LocalIndex() {
				t.Error("indexes do not match")
			}
			if !ka.Initiator() || kb.Initiator() {
				t.Error("roles are wrong")
			}
			a.deliver(b, "there")
			b.deliver(a, "and back")
		})
	}
}

// failing is a source of randomness that works a number of times.
type failing struct {
	left int
	from counting
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return f.from.Read(p)
}

// TestRandomnessFails lets the source fail at each place it is asked at; later everything works again.
func TestRandomnessFails(t *testing.T) {
	for works := range 8 {
		source := &failing{left: 1000}
		a, b := newEnds(t, SuiteWireGuard, Config{Rand: source})
		source.left = works
		a.step(Want{Key: b.m.PublicKey()})
		for _, m := range a.take() {
			b.step(Datagram{From: a.addr, Bytes: m, UnderLoad: works%2 == 1})
		}
		for _, m := range b.take() {
			a.step(Datagram{From: b.addr, Bytes: m})
		}
		for _, r := range append(a.dropped, b.dropped...) {
			if r != DropNoRandom && r != DropCookie {
				t.Errorf("after %d reads: dropped for %v", works, r)
			}
		}
		source.left = 1000
		if a.keysFor(b).Sending() != nil {
			continue
		}
		advance(6*time.Second, a, b)
		a.step(Tick{})
		b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
		a.step(Datagram{From: b.addr, Bytes: b.takeOne()})
		a.deliver(b, "works")
	}
}

// TestManyPeers: each has its own timers, effects come in the order the peers were added.
func TestManyPeers(t *testing.T) {
	a := newEnd(t, 1, addrA, Config{})
	var keys []PublicKey
	for i := range 20 {
		side, err := newNoiseSide(privateKey(byte(50+i)), nil)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, PublicKey(side.static.Public))
		a.step(AddPeer{Key: keys[i]})
		a.step(Want{Key: keys[i]})
		advance(10*time.Millisecond, a)
	}
	advance(6*time.Second, a)
	e := a.step(Tick{})
	var got []PublicKey
	for _, s := range e.Send {
		got = append(got, s.Peer)
	}
	if !slices.Equal(got, keys) {
		t.Errorf("%d initiations, or in another order", len(got))
	}
	a.step(RemovePeer{Key: keys[3]})
	steps := 0
	for ; !a.m.Deadline().IsZero(); steps++ {
		a.now = a.m.Deadline()
		a.step(Tick{})
	}
	if a.failed != 19 || steps > 19*20 {
		t.Errorf("%d peers given up in %d steps", a.failed, steps)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{Private: privateKey(1)}); err == nil {
		t.Error("a machine without randomness")
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{"": true, "unknown": true}
	for r := range dropReasons {
		if seen[r.String()] {
			t.Errorf("reason %d is called %q", r, r)
		}
		seen[r.String()] = true
	}
	if dropReasons.String() != "unknown" || Suite(7).String() != "unknown" {
		t.Error("what is unknown should say so")
	}
}
