package stack

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What a Config field of zero means.
const (
	DefaultMaxAge    = 10 * time.Minute
	DefaultCapacity  = 65536
	DefaultMaxGroups = 1024
)

// Config is what a Switch is made with. The zero value is good but for Seed.
type Config struct {
	MaxAge    time.Duration // how long a silent MAC is remembered, in whole seconds
	Capacity  int           // how many MACs are remembered
	MaxGroups int           // how many multicast groups are followed; more are flooded
	Seed      uint64        // any random number: keeps others from choosing MACs that collide in the table
}

// Switch is a learning Ethernet switch with a horizon: see Decide. Every method may be called from any goroutine at any time,
// but for Check.
type Switch struct {
	table macTable
	plan  atomic.Pointer[plan]

	drops         [DropReasons]atomic.Uint64
	badIGMP       atomic.Uint64
	badMLD        atomic.Uint64
	groupsRefused atomic.Uint64

	mu    sync.Mutex // held to replace plan, never to read it
	snoop snooper
}

// NewSwitch makes a switch without ports.
func NewSwitch(cfg Config) *Switch {
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	if cfg.Capacity <= 0 {
		cfg.Capacity = DefaultCapacity
	}
	if cfg.MaxGroups <= 0 {
		cfg.MaxGroups = DefaultMaxGroups
	}
	s := &Switch{snoop: newSnooper(cfg.MaxGroups)}
	s.table.init(cfg.Capacity, Stamp(max(cfg.MaxAge/time.Second, 1)), cfg.Seed)
	s.plan.Store(newPlan(nil, nil))
	return s
}

// AddPort makes a port known. Adding one that is there changes nothing, unless the kind differs: then it is a new port. The port
// must not be 0. Frames may go to it at once.
func (s *Switch) AddPort(p Port, kind PortKind) {
	if p == 0 || (kind != Local && kind != Remote) {
		panic(fmt.Sprintf("stack: add port %d of kind %d", p, kind))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan.Load().kind(p) != kind {
		s.setPort(p, kind)
	}
}

// RemovePort makes a port unknown and forgets the MACs and group members behind it. Frames already decided on may still name it,
// as may, for one call, Decides that are running.
func (s *Switch) RemovePort(p Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan.Load().kind(p) != 0 {
		s.setPort(p, 0)
	}
}

// setPort lays out the ports anew. What an earlier port of this number left is forgotten when the number goes out of use, and
// once more when it comes back, for a learner that was under way in between.
func (s *Switch) setPort(p Port, kind PortKind) {
	kinds := slices.Clone(s.plan.Load().kinds)
	for len(kinds) <= int(p) {
		kinds = append(kinds, 0)
	}
	kinds[p] = kind
	bypassed := maps.Clone(s.plan.Load().bypassed)
	delete(bypassed, p)
	s.lay(p, kinds, bypassed)
	s.table.forget(p)
}

// lay publishes a plan in which a port is new or other than it was: who is a member behind it has to be found out again.
func (s *Switch) lay(p Port, kinds []PortKind, bypassed map[Port]bool) {
	next := newPlan(kinds, bypassed)
	s.snoop.forget(p)
	for key, d := range s.snoop.domains {
		next.segments[key] = d.segment(next)
	}
	s.plan.Store(next)
}

// Bypass says that frames to groups, broadcast included, reach what is behind a remote port in another way, or do so no longer.
// All others still go to it.
func (s *Switch) Bypass(p Port, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.plan.Load()
	if at.kind(p) != Remote || at.bypassed[p] == on {
		return
	}
	bypassed := maps.Clone(at.bypassed)
	if on && bypassed == nil {
		bypassed = map[Port]bool{}
	}
	if on {
		bypassed[p] = true
	} else {
		delete(bypassed, p)
	}
	s.lay(p, at.kinds, bypassed)
}

// Decide learns where the frame's source is and says where the frame goes:
//
//	from \ to      local ports                    remote ports
//	local          all but the one it came from   all
//	remote         all                            none: every peer has had its own copy
//
// less, for frames to groups, the ports that Bypass takes out. A learnt address narrows that to one port, a multicast group
// with known members to theirs. Whatever is unknown, unreadable or beyond a bound is flooded. The frame is read, neither kept nor changed. Decide takes no lock and allocates nothing, but
// for the rare frame that changes what is known of multicast: queries, reports, PIM.
func (s *Switch) Decide(now Stamp, frame []byte, in Port) Verdict {
	p := s.plan.Load()
	kind := p.kind(in)
	if kind == 0 {
		return s.drop(DropUnknownPort)
	}
	f := Frame(frame)
	if !f.Valid() {
		return s.drop(DropMalformed)
	}
	dst, src := f.dstBits(), f.srcBits()
	if src == 0 || src&macGroupBit != 0 {
		return s.drop(DropBadSource)
	}
	if dst&^0xf == reservedMAC {
		return s.drop(DropReserved)
	}
	s.table.learn(src, in, now)
	if dst&macGroupBit != 0 {
		return s.multicast(p, now, f, in)
	}
	out := s.table.lookup(dst, now)
	if out == in {
		return s.drop(DropSamePort)
	}
	switch outKind := p.kind(out); {
	case outKind == 0: // not learnt, or the port went away this moment
		return s.spread(p.flood.from(in, kind), Flood, DropNoPort)
	case kind == Remote && outKind == Remote:
		return s.drop(DropHorizon)
	}
	return Verdict{Action: Unicast, Out: out}
}

// reservedMAC is 01:80:C2:00:00:00, the first of sixteen.
const reservedMAC = 0x0180_c200_0000

func (s *Switch) drop(why DropReason) Verdict {
	s.drops[why].Add(1)
	return Verdict{Action: Drop, Reason: why}
}

// spread forwards to a set, or drops for the reason given if that is empty.
func (s *Switch) spread(set *PortSet, action Action, otherwise DropReason) Verdict {
	if set.Len() == 0 {
		return s.drop(otherwise)
	}
	return Verdict{Action: action, Ports: set}
}

// Age forgets what is too old. The owner calls it every few seconds, in no case less often than once a minute: new knowledge of
// multicast comes into force here, and slots of the MAC table become free.
func (s *Switch) Age(now Stamp) {
	s.table.age(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, d := range s.snoop.domains {
		changed := s.snoop.age(d, now)
		if d.idle() {
			delete(s.snoop.domains, key)
			s.publish(key, nil)
		} else if changed {
			s.publish(key, d)
		}
	}
}

// Entry is one learnt MAC.
type Entry struct {
	MAC  MAC
	Port Port
	Seen Stamp // the last frame from it
}

// MACs lists what is learnt, in no order. Those too old are in it until the next Age.
func (s *Switch) MACs() []Entry {
	var out []Entry
	for i := range s.table.slots {
		e := s.table.slots[i].entry.Load()
		if Port(e) != 0 {
			out = append(out, Entry{MAC: macFromBits(e >> 16), Port: Port(e), Seen: Stamp(s.table.slots[i].seen.Load())})
		}
	}
	return out
}

// Counters gives what was counted so far.
func (s *Switch) Counters() Counters {
	c := Counters{
		Moved:         s.table.moved.Load(),
		NotLearnt:     s.table.notLearnt.Load(),
		BadIGMP:       s.badIGMP.Load(),
		BadMLD:        s.badMLD.Load(),
		GroupsRefused: s.groupsRefused.Load(),
	}
	for i := range s.drops {
		c.Drops[i] = s.drops[i].Load()
	}
	return c
}

// Check tells the first broken invariant. It is for tests: nobody else may use the switch meanwhile.
func (s *Switch) Check() error {
	if err := s.table.check(); err != nil {
		return err
	}
	if err := s.plan.Load().check(); err != nil {
		return err
	}
	return s.snoop.check()
}
