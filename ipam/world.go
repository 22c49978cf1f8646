package ipam

import (
	"slices"
	"strings"
	"time"

	"weave/peer"
)

// world is what we know of the other peers.
type world struct {
	near     map[peer.Name]bool // can be reached
	nicks    map[peer.Name]string
	heard    map[peer.Name]*other    // those near with an allocator of our range
	away     map[peer.Name]time.Time // owners that cannot be reached: since when
	met      map[peer.Name]bool      // owners that could be reached once
	faults   map[peer.Name]string    // what we disagree about with those near
	rivals   map[peer.Name]Genesis   // of those that have another ring
	electors int                     // 0: not told yet
}

// other is an allocator as its last message showed it.
type other struct {
	genesis, sum uint64
	free         uint64
}

func newWorld() world {
	return world{
		near: map[peer.Name]bool{}, nicks: map[peer.Name]string{}, heard: map[peer.Name]*other{},
		away: map[peer.Name]time.Time{}, met: map[peer.Name]bool{}, faults: map[peer.Name]string{}, rivals: map[peer.Name]Genesis{},
	}
}

// reachable takes in who can be reached.
func (c *Core) reachable(in Reachable) {
	w := &c.world
	fresh := false
	for n, nick := range in.Peers {
		if n == c.cfg.Name {
			continue
		}
		fresh = fresh || !w.near[n]
		if !w.near[n] {
			c.gossip.greet = append(c.gossip.greet, n)
		}
		c.learnNick(n, nick)
	}
	for n := range w.near {
		if _, still := in.Peers[n]; !still {
			delete(w.near, n)
			delete(w.heard, n)
			delete(w.faults, n)
			delete(w.rivals, n)
		}
	}
	for n := range in.Peers {
		if n != c.cfg.Name {
			w.near[n] = true
			w.met[n] = true
			delete(w.away, n)
		}
	}
	if in.Electors != w.electors || fresh {
		w.electors = in.Electors
		c.work.woken = true
	}
	if fresh {
		c.gossip.soon(c.now)
	}
	c.out.stale, c.out.table = true, nil
	c.work.recheck = true
}

// learnNick keeps the nickname of a peer; those of owners also for the next run.
func (c *Core) learnNick(n peer.Name, nick string) {
	nick = printable(nick, maxNick)
	if nick == "" || c.world.nicks[n] == nick {
		return
	}
	if len(c.world.nicks) >= maxTombs {
		return
	}
	c.world.nicks[n] = nick
	c.save(nickPrefix+n.String(), []byte(nick))
	c.out.stale, c.out.table = true, nil
}

// isNear tells whether a peer can be reached; we ourselves always.
func (c *Core) isNear(n peer.Name) bool { return n == c.cfg.Name || c.world.near[n] }

// owners lists who owns part of the ring, sorted.
func (c *Core) owners() []peer.Name {
	seen := map[peer.Name]bool{}
	var out []peer.Name
	for _, s := range c.segs {
		if !seen[s.Owner.Name] {
			seen[s.Owner.Name] = true
			out = append(out, s.Owner.Name)
		}
	}
	slices.SortFunc(out, peer.Name.Compare)
	return out
}

// watchAbsence keeps since when owners are away.
func (c *Core) watchAbsence(owners []peer.Name) {
	for _, n := range owners {
		if c.isNear(n) {
			continue
		}
		if _, known := c.world.away[n]; !known {
			c.world.away[n] = c.now
		}
	}
}

// fenced tells whether we must not touch free space: most owners have been out
// of our reach for so long that they may be about to take over what is ours.
// Who has just started has not met them since it may have been removed.
func (c *Core) fenced() bool {
	if c.cfg.ReclaimAfter <= 0 || c.ring == nil {
		return false
	}
	owners := c.owners()
	lost := 0
	for _, n := range owners {
		if c.isNear(n) {
			continue
		}
		since, known := c.world.away[n]
		if !c.world.met[n] || known && c.now.Sub(since) >= c.cfg.ReclaimAfter*3/4 {
			lost++
		}
	}
	return lost > len(owners)/2
}

// incompatible begins what is said of a peer with another range.
const incompatible = "Incompatible IP allocation ranges"

// foreign counts the peers near that have another range: they will never vote
// on ours.
func (w *world) foreign() int {
	n := 0
	for _, f := range w.faults {
		if strings.HasPrefix(f, incompatible) {
			n++
		}
	}
	return n
}
