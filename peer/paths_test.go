package peer

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func direct(n byte) Way {
	return Way{Kind: WayDirect, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 6783)}
}

var (
	relay  = Way{Kind: WayRelay}
	stream = Way{Kind: WayStream}
)

// world plays the ways to a peer: each answers after its round trip, or not.
type world struct {
	p      Paths
	now    time.Time
	active bool
	rtts   map[Way]time.Duration // of those that answer
	beats  map[Way]int
	owed   []owed
}

type owed struct {
	at  time.Time
	way Way
	rtt time.Duration
}

func newWorld(ways ...Way) *world {
	w := &world{now: epoch, active: true, rtts: map[Way]time.Duration{}, beats: map[Way]int{}}
	w.p.Offer(ways)
	return w
}

// run lets time pass in ticks of 250 ms, as the driver does.
func (w *world) run(d time.Duration) {
	const tick = 250 * time.Millisecond
	for end := w.now.Add(d); w.now.Before(end); {
		for _, way := range w.p.Tick(w.now, w.active) {
			w.p.Sent(w.now, way)
			w.beats[way]++
			if rtt, ok := w.rtts[way]; ok {
				w.owed = append(w.owed, owed{w.now.Add(rtt), way, rtt})
			}
		}
		next := w.now.Add(tick)
		slices.SortFunc(w.owed, func(a, b owed) int { return a.at.Compare(b.at) })
		for len(w.owed) > 0 && !w.owed[0].at.After(next) {
			w.now = w.owed[0].at
			w.p.Answered(w.now, w.owed[0].way, w.owed[0].rtt)
			w.owed = w.owed[1:]
		}
		w.now = next
	}
}

func TestPathsChoice(t *testing.T) {
	ms := func(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
	for what, c := range map[string]struct {
		rtts map[Way]time.Duration
		best Way
		link Way
	}{
		"nothing answers":           {nil, Way{}, Way{}},
		"only the second address":   {map[Way]time.Duration{direct(2): ms(1)}, direct(2), direct(2)},
		"the first of equals":       {map[Way]time.Duration{direct(1): ms(1), direct(2): ms(0.8)}, direct(1), direct(1)},
		"the faster by far":         {map[Way]time.Duration{direct(1): ms(50), direct(2): ms(5)}, direct(2), direct(2)},
		"direct before a relay":     {map[Way]time.Duration{direct(1): ms(5), relay: ms(4.5)}, direct(1), direct(1)},
		"a relay that saves time":   {map[Way]time.Duration{direct(1): ms(50), relay: ms(10)}, relay, direct(1)},
		"a relay before TCP":        {map[Way]time.Duration{relay: ms(40), stream: ms(1)}, relay, stream},
		"TCP where nothing else is": {map[Way]time.Duration{stream: ms(1)}, stream, stream},
	} {
		w := newWorld(direct(1), direct(2), relay, stream)
		w.rtts = c.rtts
		w.run(5 * time.Second)
		if w.p.Best() != c.best || w.p.Link() != c.link {
			t.Errorf("%s: best %v link %v, want %v and %v", what, w.p.Best(), w.p.Link(), c.best, c.link)
		}
	}
}

// What a busy host adds to round trips does not show in the least of them; what the network adds does, some time later.
func TestLeastRoundTrip(t *testing.T) {
	const way, network = 5 * time.Millisecond, 80 * time.Millisecond
	w := newWorld(direct(1))
	least := func() time.Duration {
		r, _ := w.p.Report(direct(1))
		return r.Least
	}
	w.rtts = map[Way]time.Duration{direct(1): way}
	w.run(5 * time.Second)
	for i := range 40 {
		w.rtts[direct(1)] = way + time.Duration(i%4)*7*time.Millisecond
		w.run(2 * time.Second)
		if least() != way {
			t.Fatalf("after %d changes of load: %v", i+1, least())
		}
	}
	w.rtts[direct(1)] = network
	w.run(leastWindow + 5*time.Second)
	if least() != network {
		t.Errorf("a minute after the network became slower: %v", least())
	}
	w.rtts[direct(1)] = way
	w.run(5 * time.Second)
	if least() != way {
		t.Errorf("once it is fast again: %v", least())
	}
}

// The traffic that a way takes makes it slower, and would do so with any other. A network that became slower is left.
func TestLoadIsNoReasonToTakeAnotherWay(t *testing.T) {
	w := newWorld(direct(1), direct(2))
	w.rtts = map[Way]time.Duration{direct(1): time.Millisecond, direct(2): time.Millisecond}
	w.run(20 * time.Second)
	for i := range 30 {
		w.rtts[direct(1)] = 30 * time.Millisecond
		w.run(9 * time.Second)
		w.rtts[direct(1)] = time.Millisecond // the queue is empty for a moment
		w.run(time.Second)
		if w.p.Best() != direct(1) {
			t.Fatalf("left for %v after %d loads", w.p.Best(), i+1)
		}
	}
	w.rtts[direct(1)] = 30 * time.Millisecond
	w.run(leastWindow + 5*time.Second)
	if w.p.Best() != direct(2) {
		t.Errorf("still %v a minute after its network became slower", w.p.Best())
	}
}

func TestPathsFailOverAndReturn(t *testing.T) {
	w := newWorld(direct(1), stream)
	w.rtts = map[Way]time.Duration{direct(1): time.Millisecond, stream: 2 * time.Millisecond}
	w.run(time.Minute)
	delete(w.rtts, direct(1))
	w.run(2 * time.Second)
	if w.p.Best() != stream || w.p.Link() != stream {
		t.Fatalf("after 2 s of silence: best %v, link %v", w.p.Best(), w.p.Link())
	}
	w.rtts[direct(1)] = time.Millisecond
	w.run(retryWay)
	if w.p.Best() != direct(1) {
		t.Errorf("best %v after the address answers again", w.p.Best())
	}
	clear(w.rtts)
	w.run(10 * time.Second)
	if w.p.Best().IsZero() || !w.p.Link().IsZero() {
		t.Errorf("with nothing left: best %v must stay for want of another, link %v must be none", w.p.Best(), w.p.Link())
	}
}

// Heartbeats are few where nothing happens and nothing answers.
func TestPathsAreFrugal(t *testing.T) {
	w := newWorld(direct(1), direct(2), direct(3))
	w.rtts = map[Way]time.Duration{direct(1): time.Millisecond, direct(2): time.Millisecond}
	w.p.MTU(direct(1)).Begin(1500)
	w.active = false
	w.p.MTU(direct(1)).search = false // found
	w.run(10 * time.Minute)
	idle, spare, dead := w.beats[direct(1)], w.beats[direct(2)], w.beats[direct(3)]
	if idle > 125 || spare > 45 || dead > 35 {
		t.Errorf("%d heartbeats on the way in use, %d on a spare one, %d on a dead one in 10 min", idle, spare, dead)
	}
}

func TestPathsFollowAPeerThatMoves(t *testing.T) {
	w := newWorld(direct(1))
	w.rtts = map[Way]time.Duration{direct(1): time.Millisecond}
	w.run(5 * time.Second)
	w.p.Heard(direct(1), w.now)
	w.p.Seen(w.now.Add(time.Second/2), direct(9))
	if w.p.Best() != direct(1) {
		t.Error("left an address that was alive a moment ago")
	}
	w.run(2 * time.Second)
	clear(w.rtts)
	w.p.Seen(w.now, direct(8))
	if w.p.Best() != direct(8) {
		t.Errorf("best %v, though only the new address speaks", w.p.Best())
	}
}

// A way that loses a fifth of what goes there, and of what comes back, is not
// given up for it once its loss is known.
func TestPathsUnderLoss(t *testing.T) {
	downs := 0
	for seed := range uint64(50) {
		var p Paths
		p.Offer([]Way{direct(1)})
		rng := rand.New(rand.NewPCG(seed, 1))
		now, up := epoch, false
		for i := range 1200 { // five minutes
			for _, w := range p.Tick(now, true) {
				p.Sent(now, w)
				if rng.Float64() < 0.8*0.8 {
					p.Answered(now, w, time.Millisecond)
				}
			}
			was := up
			if up = !p.Link().IsZero(); was && !up && i > 240 {
				downs++
			}
			now = now.Add(250 * time.Millisecond)
		}
		if r, _ := p.Report(direct(1)); r.Loss < 0.1 || r.Loss > 0.7 {
			t.Errorf("seed %d: measured %.2f of 0.36", seed, r.Loss)
		}
	}
	if downs > 10 {
		t.Errorf("went down %d times in 200 minutes", downs)
	}
}

// Whatever happens, what is chosen is known and the books are bounded.
func TestPathsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Paths
		now := epoch
		way := rapid.Custom(func(t *rapid.T) Way {
			switch n := rapid.IntRange(0, 40).Draw(t, "way"); n {
			case 39:
				return relay
			case 40:
				return stream
			default:
				return direct(byte(n))
			}
		})
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			w := way.Draw(t, "w")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				p.Offer(rapid.SliceOfN(way, 0, 30).Draw(t, "offer"))
			case 1:
				p.Seen(now, w)
			case 2:
				p.Proven(now, w)
			case 3:
				p.Answered(now, w, time.Duration(rapid.IntRange(-1, 1000).Draw(t, "rtt"))*time.Millisecond)
			case 4:
				p.Again()
			default:
				for _, w := range p.Tick(now, rapid.Bool().Draw(t, "active")) {
					p.Sent(now, w)
				}
			}
			if len(p.ways) > maxWays {
				t.Fatalf("%d ways", len(p.ways))
			}
			if b := p.Best(); !b.IsZero() && p.get(b) == nil {
				t.Fatalf("best is %v, which is not known", b)
			}
			if r, ok := p.Report(p.Link()); !p.Link().IsZero() && (!ok || !r.Up || r.Way.Kind == WayRelay) {
				t.Fatalf("link is %+v", r)
			}
		}
	})
}
