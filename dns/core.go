package dns

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"weave/peer"
)

// Config says whose core it is. It is not changed later.
type Config struct {
	Name   peer.Name
	Run    uint64 // as the mesh tells others
	Domain Domain
	Rand   rand.Source
}

// Core is one peer's part in the catalogue.
type Core struct {
	cfg  Config
	rand *rand.Rand
	cat  *Catalogue
	own  own

	now      time.Time
	digestAt time.Time
	behind   map[peer.Name]*origin // who is to be asked
	others   []peer.Name           // reachable, sorted
	answered map[peer.Name]answered
	counters Counters
	fx       Effects
	changed  bool
}

// asking is how far an origin has been asked.
type asking struct {
	head uint64 // newest version that anybody told of
	met  bool   // it has told us something
	next time.Time
	wait time.Duration
}

// answered is what a peer was last answered.
type answered struct {
	at    time.Time
	since uint64
}

// New makes a Core that knows nothing.
func New(cfg Config) *Core {
	r := rand.New(cfg.Rand)
	c := &Core{
		cfg: cfg, rand: r, cat: NewCatalogue(cfg.Domain, r.Uint64()),
		behind: map[peer.Name]*origin{}, answered: map[peer.Name]answered{},
	}
	c.cat.Admit(cfg.Name, cfg.Run)
	c.own.held = map[string][]*Entry{}
	c.changed = true
	return c
}

// Index is where everybody may look names up.
func (c *Core) Index() *Index { return c.cat.index }

// Step takes one input and returns what to do about it. now must not go back
// between calls.
func (c *Core) Step(now time.Time, in Input) Effects {
	c.now = now
	switch in := in.(type) {
	case Tick:
	case Add:
		c.add(in)
	case Remove:
		c.remove(in)
	case Reachable:
		c.reachable(in)
	case Message:
		c.receive(in)
	default:
		panic(fmt.Sprintf("dns: unknown input %T", in))
	}
	c.tell()
	c.bury()
	c.askAll()
	c.compare()
	if c.changed {
		c.fx.Publish = &View{Own: c.own.alive, Counters: c.counters}
	}
	fx := c.fx
	c.fx, c.changed = Effects{}, false
	return fx
}

// Deadline is when the core wants a Tick at the latest; zero if never.
func (c *Core) Deadline() time.Time {
	at := c.digestAt
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, o := range c.behind {
		sooner(o.ask.next)
	}
	for _, o := range c.cat.origins {
		if len(o.graves) > 0 {
			sooner(o.graves[0].at.Add(tombstoneTime))
		}
	}
	return at
}

func (c *Core) send(to peer.Name, m *WireMessage) {
	c.fx.Send = append(c.fx.Send, Send{To: to, Data: marshal(m)})
}

// reachable follows the network's view: who is not in it has no names, and who
// is new is asked.
func (c *Core) reachable(in Reachable) {
	c.changed = true
	for n, o := range c.cat.origins {
		if run, ok := in.Peers[n]; n != c.cfg.Name && (!ok || run != o.run) {
			c.cat.Expel(n)
			delete(c.behind, n)
			delete(c.answered, n)
		}
	}
	c.others = c.others[:0]
	for n, run := range in.Peers {
		if n == c.cfg.Name {
			continue
		}
		c.others = append(c.others, n)
		if c.cat.origins[n] == nil {
			c.cat.Admit(n, run)
			c.wake(n)
		}
	}
	slices.SortFunc(c.others, peer.Name.Compare)
	if c.digestAt.IsZero() && len(c.others) > 0 {
		c.digestAt = c.now.Add(c.jitter(digestEvery))
	}
}

// jitter is between half of d and one and a half.
func (c *Core) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(c.rand.Int64N(int64(d)))
}

// wake has an origin asked now if something of it is missing, or else no more.
func (c *Core) wake(n peer.Name) {
	o := c.cat.origins[n]
	if o == nil || n == c.cfg.Name {
		return
	}
	if o.ask.met && o.known.first() >= o.ask.head {
		delete(c.behind, n)
		return
	}
	if c.behind[n] == nil {
		c.behind[n] = o
		o.ask.wait = askAgain
		if o.ask.next.Before(c.now) {
			o.ask.next = c.now
		}
	}
}

// askAll asks those whose turn it is, a few at a time: when a network forms
// everybody is new to everybody.
func (c *Core) askAll() {
	if len(c.behind) == 0 {
		return
	}
	var due []peer.Name
	for n, o := range c.behind {
		if !o.ask.next.After(c.now) {
			due = append(due, n)
		}
	}
	slices.SortFunc(due, peer.Name.Compare)
	for i, n := range due {
		o := c.behind[n]
		if i >= burst {
			o.ask.next = c.now.Add(pace * time.Duration(i/burst))
			continue
		}
		c.counters.Asked++
		c.send(n, &WireMessage{Ask: &WireAsk{Run: o.run, Since: o.known.first()}})
		o.ask.next = c.now.Add(c.jitter(o.ask.wait))
		o.ask.wait = min(2*o.ask.wait, askSlow)
	}
}

// bury forgets entries that have been dead for long.
func (c *Core) bury() {
	for n, o := range c.cat.origins {
		if newest := c.cat.bury(c.now, n, o); n == c.cfg.Name {
			c.own.floor = max(c.own.floor, newest)
		}
	}
}
