package node

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"weave/peer/wire"
	"weave/runtime"
	"weave/stack"
)

const (
	// longLook is between two looks at who is sent long frames: what listens there may change.
	longLook = 3 * time.Second
	// longMost stations are remembered at most. Any peer's frames can ask for one.
	longMost = 1024
)

// longFrames remembers which stations on this host take TCP frames longer than 64 KB, see wire.Joiner.Chain: containers
// that we attached, at the address that they have from us, in which nothing looks at packets itself, and which forward none.
// Lanes ask, and its loop finds out; until then nobody takes them. It is safe for concurrent use.
type longFrames struct {
	asks  chan station
	known atomic.Pointer[map[station]*verdict] // replaced, never changed
	sent  atomic.Uint64                        // long frames that lanes made
}

// station is who a frame is for.
type station struct {
	mac  stack.MAC
	addr [4]byte
}

// stationOf reads it from the headers of a frame, IPv4 without tags.
func stationOf(frame []byte) station {
	return station{mac: stack.MAC(frame[:6]), addr: [4]byte(frame[wire.EthernetLen+16:])}
}

// verdict is what is known of a station.
type verdict struct {
	takes     bool
	forwarded uint64      // packets that the station had forwarded
	used      atomic.Bool // since the last look
}

// judge finds out about a station, and has the way to it take long frames if it does.
type judge func(station) (takes bool, forwarded uint64)

// again is the verdict on a station of which v was the last one. What has forwarded packets since is a router.
func (v *verdict) again(s station, by judge) *verdict {
	takes, forwarded := by(s)
	return &verdict{takes: takes && forwarded == v.forwarded, forwarded: forwarded}
}

func newLongFrames() *longFrames {
	l := &longFrames{asks: make(chan station, 16)}
	l.known.Store(&map[station]*verdict{})
	return l
}

// takes tells whether the receiver of a frame, IPv4 without tags, takes one that is longer.
func (l *longFrames) takes(frame []byte) bool {
	s := stationOf(frame)
	v, ok := (*l.known.Load())[s]
	if !ok {
		offer(l.asks, s)
		return false
	}
	if !v.used.Load() {
		v.used.Store(true)
	}
	return v.takes
}

// run finds out until ctx ends.
func (l *longFrames) run(ctx context.Context, by judge) error {
	tick := time.NewTicker(longLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-l.asks:
			l.learn(s, by)
		case <-tick.C:
			l.look(by)
		}
	}
}

// learn finds out about one station.
func (l *longFrames) learn(s station, by judge) {
	known := *l.known.Load()
	if _, ok := known[s]; ok || len(known) >= longMost {
		return
	}
	known = maps.Clone(known)
	known[s] = new(verdict).again(s, by)
	known[s].used.Store(true)
	l.known.Store(&known)
}

// look finds out again about all that were asked about since the last time, and forgets the others.
func (l *longFrames) look(by judge) {
	known := *l.known.Load()
	if len(known) == 0 {
		return
	}
	next := make(map[station]*verdict, len(known))
	for s, v := range known {
		if v.used.Load() {
			next[s] = v.again(s, by)
		}
	}
	l.known.Store(&next)
}

// longTaker is a wiring that can have a namespace be sent TCP packets longer than 64 KB.
type longTaker interface {
	// TakesLong tells whether a namespace takes TCP packets over IPv4 of size bytes, and has the way to it carry them.
	// forwarded is how many packets it has forwarded so far.
	TakesLong(t runtime.Target, size int) (takes bool, forwarded uint64, err error)
}

// sendLongFrames has lanes that start afterwards send them.
func (n *node) sendLongFrames(ctx context.Context, g *errgroup.Group) {
	if by, ok := n.host.(longTaker); ok {
		n.dp.long = newLongFrames()
		g.Go(func() error { return n.dp.long.run(ctx, n.attachments.takesLong(by, n.log)) })
	}
}

// takesLong is the judge of longFrames.
func (a *attachments) takesLong(by longTaker, log *slog.Logger) judge {
	return func(s station) (bool, uint64) {
		at, ok := a.at(s)
		if !ok {
			return false, 0
		}
		takes, forwarded, err := by.TakesLong(at, wire.LongestPacket)
		if err != nil {
			log.Debug("cannot find out whether long frames are taken", "target", at.Text, "err", err)
		}
		return takes && err == nil, forwarded
	}
}

// at finds the namespace to which we gave that MAC and that address.
func (a *attachments) at(s station) (runtime.Target, bool) {
	addr := netip.AddrFrom4(s.addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.list {
		if at.MAC != runtime.MAC(s.mac) {
			continue
		}
		for _, p := range at.Addresses {
			if p.Addr() == addr {
				return at.Target, true
			}
		}
	}
	return runtime.Target{}, false
}
