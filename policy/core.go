package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"weave/peer"
)

// Config says whose core it is. It is not changed later.
type Config struct {
	Name peer.Name
	Run  uint64 // as the mesh tells others
	Rand rand.Source
}

// Core is one peer's part.
type Core struct {
	cfg     Config
	rand    *rand.Rand
	doc     Document
	own     own
	origins map[peer.Name]*origin // the others

	now      time.Time
	digestAt time.Time
	others   []peer.Name // reachable, sorted
	counters Counters
	fx       Effects
}

// own is what this peer tells of itself.
type own struct {
	version uint64 // of the last change
	told    uint64 // everybody was sent all up to this one
	floor   uint64 // graves up to this version are forgotten
	entries map[string]*entry
	graves  int
}

// entry is an endpoint of ours with the version of its last change. A dead one has no addresses.
type entry struct {
	Endpoint
	version uint64
}

// origin is what is known of another peer.
//
//	Reachable ──► asked ──► complete ──(a gap, a higher head)──► asked
//	                │           │
//	                └───────────┴── lost from sight: kept for linger ──► forgotten
type origin struct {
	run       uint64
	known     uint64          // all changes up to this version
	head      uint64          // the newest version that anybody told of
	met       bool            // it has told all of itself in this run
	fresh     map[string]bool // what it has told of, while it tells all of itself
	entries   map[string]Endpoint
	next      time.Time // when it is asked again; zero: nothing is missing
	wait      time.Duration
	lostSince time.Time // zero: it can be reached
}

// New makes a Core that knows nothing.
func New(cfg Config) *Core {
	return &Core{cfg: cfg, rand: rand.New(cfg.Rand), own: own{entries: map[string]*entry{}}, origins: map[peer.Name]*origin{}}
}

// Step takes one input and returns what to do about it. now must not go back between calls.
func (c *Core) Step(now time.Time, in Input) Effects {
	c.now = now
	switch in := in.(type) {
	case Tick:
	case Set:
		c.set(in)
	case Recall:
		c.recall(in)
	case Own:
		c.setOwn(in)
	case Reachable:
		c.reachable(in)
	case Message:
		c.receive(in)
	default:
		panic(fmt.Sprintf("policy: unknown input %T", in))
	}
	c.tell()
	c.forget()
	c.askAll()
	c.compare()
	fx := c.fx
	c.fx = Effects{}
	return fx
}

// Document is the policy as far as this peer knows.
func (c *Core) Document() Document { return c.doc }

// Endpoints lists what is known of another peer.
func (c *Core) Endpoints(of peer.Name) []Endpoint {
	var out []Endpoint
	if o := c.origins[of]; o != nil {
		for _, id := range slices.Sorted(maps.Keys(o.entries)) {
			out = append(out, o.entries[id])
		}
	}
	return out
}

// Counters counts messages.
func (c *Core) Counters() Counters { return c.counters }

// Deadline is when the core wants a Tick at the latest; zero if never.
func (c *Core) Deadline() time.Time {
	at := c.digestAt
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, o := range c.origins {
		sooner(o.next)
		if !o.lostSince.IsZero() {
			sooner(o.lostSince.Add(linger))
		}
	}
	return at
}

// set makes a new version, which everybody is told.
func (c *Core) set(in Set) {
	if len(in.Text) > MaxText {
		panic(fmt.Sprintf("policy: a text of %d bytes", len(in.Text)))
	}
	c.doc = Document{Version: c.doc.Version + 1, Author: c.cfg.Name, Text: in.Text, Time: c.now}
	c.adopt()
	c.send(peer.Name{}, &WireMessage{Document: c.doc.wire()})
}

func (c *Core) recall(in Recall) {
	if in.Document.newer(&c.doc) {
		c.doc = in.Document
	}
	for n, list := range in.Origins {
		if n == c.cfg.Name || c.origins[n] != nil {
			continue
		}
		o := &origin{entries: map[string]Endpoint{}, lostSince: c.now}
		c.origins[n] = o
		for _, e := range list {
			c.put(n, o, e)
		}
	}
}

func (c *Core) adopt() {
	d := c.doc
	c.fx.Save = &d
}

func (c *Core) send(to peer.Name, m *WireMessage) {
	c.fx.Send = append(c.fx.Send, Send{To: to, Data: marshal(m)})
}

// setOwn compares what this peer has with what it told.
func (c *Core) setOwn(in Own) {
	now := make(map[string]bool, len(in.Endpoints))
	for _, e := range in.Endpoints {
		e = trimmed(e)
		if len(e.Addrs) == 0 || now[e.ID] || len(now) == MaxEndpoints {
			continue
		}
		now[e.ID] = true
		if had := c.own.entries[e.ID]; had != nil && same(had.Endpoint, e) {
			continue
		}
		c.change(e)
	}
	for _, id := range slices.Sorted(maps.Keys(c.own.entries)) {
		if had := c.own.entries[id]; !now[id] && len(had.Addrs) > 0 {
			c.change(Endpoint{ID: id})
		}
	}
	c.bury()
}

func (c *Core) change(e Endpoint) {
	c.own.version++
	if had := c.own.entries[e.ID]; had != nil && len(had.Addrs) == 0 {
		c.own.graves--
	}
	if len(e.Addrs) == 0 {
		c.own.graves++
	}
	c.own.entries[e.ID] = &entry{e, c.own.version}
	c.fx.Changes = append(c.fx.Changes, Change{c.cfg.Name, e})
}

// bury forgets half of the graves when there are too many: whoever lacks them is told everything.
func (c *Core) bury() {
	if c.own.graves <= maxGraves {
		return
	}
	var dead []*entry
	for _, e := range c.own.entries {
		if len(e.Addrs) == 0 {
			dead = append(dead, e)
		}
	}
	slices.SortFunc(dead, func(a, b *entry) int { return int(int64(a.version - b.version)) })
	for _, e := range dead[:len(dead)/2] {
		delete(c.own.entries, e.ID)
		c.own.floor = e.version
		c.own.graves--
	}
}

// trimmed cuts what is too much for a letter.
func trimmed(e Endpoint) Endpoint {
	e.Names = e.Names[:min(len(e.Names), MaxNames)]
	e.Addrs = e.Addrs[:min(len(e.Addrs), MaxAddrs)]
	room := MaxBytes - len(e.ID)
	var names []string
	for _, n := range e.Names {
		if room -= len(n); room >= 0 {
			names = append(names, strings.ToValidUTF8(n, "?"))
		}
	}
	kept := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(e.Labels)) {
		if size := len(k) + len(e.Labels[k]); size <= room && len(kept) < MaxLabels {
			kept[strings.ToValidUTF8(k, "?")] = strings.ToValidUTF8(e.Labels[k], "?")
			room -= size
		}
	}
	e.Names, e.Labels = names, kept
	return e
}

func same(a, b Endpoint) bool {
	return a.ID == b.ID && slices.Equal(a.Names, b.Names) && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Addrs, b.Addrs)
}

// reachable follows the network's view.
func (c *Core) reachable(in Reachable) {
	c.others = c.others[:0]
	for n, run := range in.Peers {
		if n == c.cfg.Name {
			continue
		}
		c.others = append(c.others, n)
		o := c.origins[n]
		if o == nil {
			o = &origin{entries: map[string]Endpoint{}, lostSince: c.now}
			c.origins[n] = o
		}
		if o.run != run { // what it told before counts until it has told all anew
			o.run, o.known, o.head, o.met, o.fresh = run, 0, 0, false, nil
			o.lostSince = c.now
		}
		if !o.lostSince.IsZero() { // what it told meanwhile got lost
			o.lostSince, o.next, o.wait = time.Time{}, c.now, askAgain
		}
	}
	slices.SortFunc(c.others, peer.Name.Compare)
	for n, o := range c.origins {
		if _, there := in.Peers[n]; !there && o.lostSince.IsZero() {
			o.lostSince, o.next = c.now, time.Time{}
		}
	}
	if c.digestAt.IsZero() && len(c.others) > 0 {
		c.digestAt = c.now.Add(c.jitter(digestEvery))
	}
}

// forget drops origins that were lost from sight long ago.
func (c *Core) forget() {
	for n, o := range c.origins {
		if o.lostSince.IsZero() || c.now.Sub(o.lostSince) < linger {
			continue
		}
		delete(c.origins, n)
		for _, id := range slices.Sorted(maps.Keys(o.entries)) {
			c.fx.Changes = append(c.fx.Changes, Change{n, Endpoint{ID: id}})
		}
	}
}

// jitter is between half of d and one and a half.
func (c *Core) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(c.rand.Int64N(int64(d)))
}

// Check tells the first broken invariant.
func (c *Core) Check() error {
	graves := 0
	for id, e := range c.own.entries {
		if e.ID != id || e.version == 0 || e.version > c.own.version {
			return fmt.Errorf("policy: entry %q is %q in version %d of %d", id, e.ID, e.version, c.own.version)
		}
		if len(e.Addrs) == 0 {
			graves++
		}
	}
	if graves != c.own.graves {
		return fmt.Errorf("policy: %d graves, counted as %d", graves, c.own.graves)
	}
	for n, o := range c.origins {
		if n == c.cfg.Name || o.known > o.head {
			return fmt.Errorf("policy: origin %s is known up to %d of %d", n, o.known, o.head)
		}
	}
	return nil
}
