package dns

import (
	"fmt"
	"slices"

	"weave/peer"
)

// own is what only the origin itself keeps.
type own struct {
	version uint64 // of the last change
	told    uint64 // everybody was sent all up to this one
	floor   uint64 // dead entries up to this version may be forgotten
	alive   int
	held    map[string][]*Entry // living entries by ident
	log     []*Entry            // by ascending version; those that a later one replaced may stay for a while
}

func (c *Core) add(in Add) {
	r := Reply{ID: in.ID}
	for _, rec := range in.Records {
		rec.Name = trimDot(rec.Name)
		if !c.cfg.Domain.Holds(Canonical(rec.Name)) {
			continue
		}
		if err := rec.check(); err != nil {
			r.Fault = err.Error()
			break
		}
		me := c.cat.origins[c.cfg.Name]
		if len(me.entries) >= MaxEntries || me.bytes > maxBytes/2 {
			r.Fault = fmt.Sprintf("this peer has %d names, and no room for more", len(me.entries))
			break
		}
		e := me.entries[keyOf(rec)]
		if e != nil && !e.Dead && e.Name == rec.Name && slices.Equal(e.Services, rec.Services) {
			continue
		}
		if e == nil || e.Dead {
			c.own.alive++
		}
		c.change(me, Entry{Record: rec})
		r.Count++
	}
	c.fx.Replies = append(c.fx.Replies, r)
}

func trimDot(name string) string {
	if n := len(name); n > 0 && name[n-1] == '.' {
		return name[:n-1]
	}
	return name
}

func (c *Core) remove(in Remove) {
	r := Reply{ID: in.ID}
	name := Canonical(in.Name)
	var doomed []Entry
	c.candidates(in, func(e *Entry) {
		if !e.Dead && (in.Ident == "" || e.Ident == in.Ident) && (!in.Addr.IsValid() || e.Addr == in.Addr) && (name == "" || Canonical(e.Name) == name) {
			doomed = append(doomed, *e)
		}
	})
	me := c.cat.origins[c.cfg.Name]
	sortByVersion(doomed)
	for _, e := range doomed {
		e.Dead, e.Services = true, nil
		c.own.alive--
		c.change(me, e)
		r.Count++
	}
	c.fx.Replies = append(c.fx.Replies, r)
}

// candidates are entries of ours among which are all that a Remove is about: few
// unless it is about an address or everything.
func (c *Core) candidates(in Remove, visit func(*Entry)) {
	me := c.cat.origins[c.cfg.Name]
	switch {
	case in.Name != "":
		if s := c.cat.index.Name([]byte(Canonical(in.Name))); s != nil {
			for _, o := range s.Entries {
				if o.Origin == c.cfg.Name {
					visit(o.Entry)
				}
			}
		}
	case in.Ident != "":
		for _, e := range c.own.held[in.Ident] {
			visit(e)
		}
	default:
		for _, e := range me.entries {
			visit(e)
		}
	}
}

// hold notes what an ident has, for removal by ident.
func (o *own) hold(was, e *Entry) {
	list := o.held[e.Ident]
	if was != nil {
		list = slices.DeleteFunc(list, func(h *Entry) bool { return h == was })
	}
	if !e.Dead {
		list = append(list, e)
	}
	if o.held[e.Ident] = list; len(list) == 0 {
		delete(o.held, e.Ident)
	}
}

// change makes a new version of an entry of ours.
func (c *Core) change(me *origin, e Entry) {
	c.own.version++
	e.Version = c.own.version
	k := keyOf(e.Record)
	was := me.entries[k]
	c.cat.put(c.now, c.cfg.Name, me, e)
	me.known.add(e.Version-1, e.Version)
	c.own.hold(was, me.entries[k])
	c.own.log = append(c.own.log, me.entries[k])
	if len(c.own.log) > 2*len(me.entries)+64 {
		c.own.log = slices.DeleteFunc(c.own.log, func(e *Entry) bool { return !me.current(e) })
	}
	c.changed = true
}

// current tells that nothing came after an entry.
func (o *origin) current(e *Entry) bool { return o.entries[keyOf(e.Record)] == e }

// tell tells everybody what has changed.
func (c *Core) tell() {
	if c.own.told == c.own.version {
		return
	}
	for c.own.told < c.own.version {
		d := c.chunk(c.own.told)
		c.own.told = d.Version
		c.send(peer.Name{}, d.wire())
	}
}

// chunk is what changed after a version, as much as one message may carry. Its
// cost does not depend on how many entries there are.
func (c *Core) chunk(since uint64) Delta {
	me := c.cat.origins[c.cfg.Name]
	d := Delta{Origin: c.cfg.Name, Run: c.cfg.Run, Since: since, Version: c.own.version, Head: c.own.version}
	at, _ := slices.BinarySearchFunc(c.own.log, since+1, func(e *Entry, v uint64) int { return compare(e.Version, v) })
	size := 0
	for _, e := range c.own.log[at:] {
		if !me.current(e) {
			continue
		}
		if size += weight(e) + 32; size > chunkBytes && len(d.Entries) > 0 {
			d.Version = d.Entries[len(d.Entries)-1].Version
			break
		}
		d.Entries = append(d.Entries, *e)
	}
	return d
}
