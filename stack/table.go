package stack

import (
	"fmt"
	"sync/atomic"
)

// maxProbes bounds the walk of one lookup. At half load the longest run of a table of 131,072 slots is about a hundred.
const maxProbes = 256

// slot is one place of the table. An entry is MAC(48) | port(16):
//
//	 0           never used, or given back: a walk ends here
//	 MAC | port  live
//	 MAC | 0     dead: aged out or its port removed; a walk goes on, any newcomer may take it
//
//	      learn              Age, forget
//	0 ───────────► MAC|port ─────────────► MAC|0 ──► 0   (the Age after, and only at the end of a run)
//	                   ▲                     │
//	                   └──── learn, any MAC ─┘
type slot struct {
	entry atomic.Uint64
	seen  atomic.Uint32 // Stamp of the last frame
	_     uint32        // four slots to a cache line
}

// macTable maps MACs to ports: open addressing, linear probing, no locks. Any number of goroutines may call learn and lookup; age
// and forget may run beside them, one at a time.
//
// Two learners of one new MAC race for the first free slot of its walk, and the loser finds the winner's entry. Only when a slot
// earlier in the walk comes free between the two can the MAC be entered twice. The later copy is then out of reach, stops being
// refreshed, and age removes it.
type macTable struct {
	slots     []slot
	mask      uint64
	seed      uint64
	capacity  int64
	behind    []atomic.Int32 // how many live entries name each port; nil where nobody counts
	maxAge    Stamp
	live      atomic.Int64
	moved     atomic.Uint64
	notLearnt atomic.Uint64
}

func (t *macTable) init(capacity int, maxAge Stamp, seed uint64) {
	n := 16
	for n < 2*capacity {
		n *= 2
	}
	t.slots = make([]slot, n)
	t.mask = uint64(n - 1)
	t.seed = seed
	t.capacity = int64(capacity)
	t.maxAge = maxAge
}

// home is where the walk for a MAC begins. The mixer is the 64-bit finaliser of MurmurHash3 (public domain); the seed keeps
// a container from choosing addresses that collide.
func (t *macTable) home(mac uint64) uint64 {
	h := mac ^ t.seed
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h
}

// lookup gives the port a MAC was last seen on, 0 when it is unknown or too old.
func (t *macTable) lookup(mac uint64, now Stamp) Port {
	h := t.home(mac)
	for i := range uint64(maxProbes) {
		s := &t.slots[(h+i)&t.mask]
		e := s.entry.Load()
		if e == 0 {
			return 0
		}
		if e>>16 == mac {
			if now.since(Stamp(s.seen.Load())) >= t.maxAge {
				return 0
			}
			return Port(e)
		}
	}
	return 0
}

// learn notes that a MAC, not zero, was seen on a port, not zero, unless bound others were; a bound of 0 is none.
func (t *macTable) learn(mac uint64, port Port, now Stamp, bound int32) {
	want := mac<<16 | uint64(port)
	h := t.home(mac)
	for i := range uint64(maxProbes) {
		s := &t.slots[(h+i)&t.mask]
		e := s.entry.Load()
		if e == want {
			// One store a second, not one a frame: the line stays shared between cores.
			if s.seen.Load() != uint32(now) {
				s.seen.Store(uint32(now))
			}
			return
		}
		if e == 0 || e>>16 == mac {
			break
		}
	}
	if bound > 0 && t.behind[port].Load() >= bound {
		t.notLearnt.Add(1)
		return
	}
	for !t.insert(mac, want, now) {
		// A slot changed hands under us; somebody else got on, we look again.
	}
}

// insert enters, moves or revives a MAC; false means that it has to be tried again.
func (t *macTable) insert(mac, want uint64, now Stamp) bool {
	var free *slot
	var was uint64
	h := t.home(mac)
	for i := range uint64(maxProbes) {
		s := &t.slots[(h+i)&t.mask]
		e := s.entry.Load()
		if e != 0 && e>>16 == mac {
			return t.take(s, e, want, now)
		}
		if free == nil && Port(e) == 0 {
			free, was = s, e
		}
		if e == 0 {
			break
		}
	}
	if free == nil {
		t.notLearnt.Add(1)
		return true
	}
	return t.take(free, was, want, now)
}

// take changes a slot from what it was seen to hold. The stamp goes first, so that nobody finds the new entry with an old one.
func (t *macTable) take(s *slot, was, want uint64, now Stamp) bool {
	grows := Port(was) == 0
	if grows && t.live.Add(1) > t.capacity {
		t.live.Add(-1)
		t.notLearnt.Add(1)
		return true
	}
	s.seen.Store(uint32(now))
	if s.entry.CompareAndSwap(was, want) {
		if !grows && was != want {
			t.moved.Add(1)
		}
		t.count(was, -1)
		t.count(want, 1)
		return true
	}
	if grows {
		t.live.Add(-1)
	}
	return false
}

// count notes that a port has an entry more, or less.
func (t *macTable) count(entry uint64, change int32) {
	if port := Port(entry); port != 0 && t.behind != nil {
		t.behind[port].Add(change)
	}
}

// kill ends a live entry, unless it changed since it was read.
func (t *macTable) kill(s *slot, e uint64) {
	if s.entry.CompareAndSwap(e, e&^0xffff) {
		t.live.Add(-1)
		t.count(e, -1)
	}
}

// age gives back slots that were dead already, then ends what is too old or out of reach. Giving back waits for the next call
// so that no learner is still walking past a slot it saw alive.
func (t *macTable) age(now Stamp) {
	next := t.slots[0].entry.Load()
	for i := len(t.slots) - 1; i >= 0; i-- {
		s := &t.slots[i]
		e := s.entry.Load()
		if e != 0 && Port(e) == 0 && next == 0 && s.entry.CompareAndSwap(e, 0) {
			e = 0
		}
		next = e
	}
	for i := range t.slots {
		s := &t.slots[i]
		e := s.entry.Load()
		if Port(e) == 0 {
			continue
		}
		if now.since(Stamp(s.seen.Load())) >= t.maxAge || t.first(e>>16) != s {
			t.kill(s, e)
		}
	}
}

// first is the slot at which the walk for a MAC finds it, nil when it does not.
func (t *macTable) first(mac uint64) *slot {
	h := t.home(mac)
	for i := range uint64(maxProbes) {
		s := &t.slots[(h+i)&t.mask]
		e := s.entry.Load()
		if e == 0 {
			return nil
		}
		if e>>16 == mac {
			return s
		}
	}
	return nil
}

// forget ends every entry of a port.
func (t *macTable) forget(port Port) {
	for i := range t.slots {
		s := &t.slots[i]
		if e := s.entry.Load(); Port(e) == port {
			t.kill(s, e)
		}
	}
}

// check tells a broken invariant. Nobody else may use the table meanwhile.
func (t *macTable) check() error {
	live, behind := int64(0), map[Port]int32{}
	for i := range t.slots {
		e := t.slots[i].entry.Load()
		if Port(e) == 0 {
			continue
		}
		live++
		behind[Port(e)]++
		if mac := macFromBits(e >> 16); mac.IsMulticast() || e>>16 == 0 {
			return fmt.Errorf("table: learnt %v, which is no station", mac)
		}
		if t.first(e>>16) != &t.slots[i] {
			return fmt.Errorf("table: %v is out of reach", macFromBits(e>>16))
		}
	}
	if n := t.live.Load(); n != live || n > t.capacity {
		return fmt.Errorf("table: %d entries, counted as %d, room for %d", live, n, t.capacity)
	}
	for p := range t.behind {
		if n := t.behind[p].Load(); n != behind[Port(p)] {
			return fmt.Errorf("table: %d entries behind port %d, counted as %d", behind[Port(p)], p, n)
		}
	}
	return nil
}
