package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"weave/peer"
)

// Limits of what one origin may tell.
const (
	MaxEntries = 1 << 17  // alive and dead
	maxBytes   = 32 << 20 // of names and idents
	maxSpans   = 64       // with gaps between
	// tombstoneTime is how long removed entries are shown, as in Weave Net.
	tombstoneTime = 30 * time.Minute
)

// Errors of Merge.
var (
	ErrStale = errors.New("of a run that is not the origin's current one")
	ErrLimit = errors.New("more than an origin may tell")
)

// key is what makes a record: there is one entry for each.
type key struct {
	name  string // canonical
	ident string
	addr  netip.Addr
}

func keyOf(r Record) key { return key{Canonical(r.Name), r.Ident, r.Addr} }

// Entry is a record as its origin last changed it.
type Entry struct {
	Record
	Version uint64
	Dead    bool      // removed
	Died    time.Time // when we learnt of that, by our clock
}

// Delta is what changed at an origin in the versions (Since, Version]: every
// entry whose last change is one of them, by ascending version. What was changed
// there and has no entry was changed again later.
type Delta struct {
	Origin  peer.Name
	Run     uint64
	Since   uint64
	Version uint64
	Head    uint64 // the origin's newest version when it told
	Entries []Entry
}

// origin is what is known of one peer's entries in one run.
type origin struct {
	run     uint64
	entries map[key]*Entry
	known   spans
	bytes   int
	graves  []grave // in the order of their times
	ask     asking
}

type grave struct {
	at      time.Time
	key     key
	version uint64
}

// Catalogue is everything known of names.
type Catalogue struct {
	domain  Domain
	origins map[peer.Name]*origin
	index   *Index
}

// NewCatalogue makes an empty catalogue of names in a domain. seed is random: it
// spreads the names in memory.
func NewCatalogue(d Domain, seed uint64) *Catalogue {
	return &Catalogue{domain: d, origins: map[peer.Name]*origin{}, index: newIndex(seed)}
}

// Index is where everybody may look names up.
func (c *Catalogue) Index() *Index { return c.index }

// Admit makes a run of a peer the one whose entries count; what other runs told
// is forgotten.
func (c *Catalogue) Admit(n peer.Name, run uint64) {
	if o := c.origins[n]; o != nil {
		if o.run == run {
			return
		}
		c.Expel(n)
	}
	c.origins[n] = &origin{run: run, entries: map[key]*Entry{}}
}

// Expel forgets a peer and all of its entries.
func (c *Catalogue) Expel(n peer.Name) {
	if o := c.origins[n]; o != nil {
		for _, e := range o.entries {
			c.index.remove(n, e)
		}
		delete(c.origins, n)
	}
}

// Merge takes what an origin told, and says whether there was any news. now is
// only for showing when entries died. After an error nothing has changed.
// Merging is commutative, associative and idempotent.
func (c *Catalogue) Merge(now time.Time, d Delta) (news bool, err error) {
	o := c.origins[d.Origin]
	if o == nil || o.run != d.Run {
		return false, ErrStale
	}
	if err := c.checkDelta(o, d); err != nil {
		return false, err
	}
	news = c.supersede(d, o)
	for i := range d.Entries {
		e := &d.Entries[i]
		if o.known.has(e.Version) {
			continue // we have it, or something later of its key
		}
		if was := o.entries[keyOf(e.Record)]; was == nil || was.Version < e.Version {
			c.put(now, d.Origin, o, *e)
			news = true
		}
	}
	return o.known.add(d.Since, d.Version) || news, nil
}

func (c *Catalogue) checkDelta(o *origin, d Delta) error {
	last, size := d.Since, o.bytes
	if d.Since > d.Version {
		return fmt.Errorf("%w: versions %d to %d", errMessage, d.Since, d.Version)
	}
	for i := range d.Entries {
		e := &d.Entries[i]
		if e.Version <= last || e.Version > d.Version {
			return fmt.Errorf("%w: version %d after %d", errMessage, e.Version, last)
		}
		if err := e.check(); err != nil {
			return err
		}
		if !c.domain.Holds(Canonical(e.Name)) {
			return fmt.Errorf("%w: %q is not in %s", ErrRecord, e.Name, c.domain)
		}
		last = e.Version
		size += weight(e)
	}
	// Counted as if all were new; who is near the limit is at it.
	if len(o.entries)+len(d.Entries) > MaxEntries+len(d.Entries)/2 || size > maxBytes || o.known.after(d.Since, d.Version) > maxSpans {
		return ErrLimit
	}
	return nil
}

func weight(e *Entry) int { return len(e.Name) + len(e.Ident) + 16*len(e.Services) }

// supersede removes entries with a version in the delta's span that it does not
// list: something later took their place. Only where part of the span was known
// can there be any.
func (c *Catalogue) supersede(d Delta, o *origin) (news bool) {
	if uint64(len(d.Entries)) == d.Version-d.Since || !o.known.overlaps(d.Since, d.Version) {
		return false
	}
	listed := make(map[uint64]bool, len(d.Entries))
	for i := range d.Entries {
		listed[d.Entries[i].Version] = true
	}
	for k, e := range o.entries {
		if e.Version > d.Since && e.Version <= d.Version && !listed[e.Version] {
			c.drop(d.Origin, o, k, e)
			news = true
		}
	}
	return news
}

// put makes an entry its key's.
func (c *Catalogue) put(now time.Time, n peer.Name, o *origin, e Entry) {
	k := keyOf(e.Record)
	if k.name == e.Name {
		k.name = e.Name // one copy of the text
	}
	if was := o.entries[k]; was != nil {
		c.drop(n, o, k, was)
	}
	if e.Dead {
		e.Died = now
		o.graves = append(o.graves, grave{at: now, key: k, version: e.Version})
	}
	o.entries[k] = &e
	o.bytes += weight(&e)
	c.index.add(n, &e)
}

func (c *Catalogue) drop(n peer.Name, o *origin, k key, e *Entry) {
	c.index.remove(n, e)
	o.bytes -= weight(e)
	delete(o.entries, k)
}

// bury forgets entries that have been dead for long. Those above a gap stay: an
// older entry of the same key may still be told.
func (c *Catalogue) bury(now time.Time, n peer.Name, o *origin) (newest uint64) {
	for len(o.graves) > 0 && now.Sub(o.graves[0].at) >= tombstoneTime {
		g := o.graves[0]
		o.graves = o.graves[1:]
		e := o.entries[g.key]
		switch {
		case e == nil || e.Version != g.version:
		case g.version > o.known.first():
			o.graves = append(o.graves, grave{at: now, key: g.key, version: g.version})
		default:
			c.drop(n, o, g.key, e)
			newest = max(newest, g.version)
		}
	}
	return newest
}

// Snapshot is everything known, as deltas. They share nothing with the
// catalogue but strings and services, which nobody changes.
func (c *Catalogue) Snapshot() []Delta {
	var out []Delta
	for n, o := range c.origins {
		for _, s := range o.known {
			out = append(out, Delta{Origin: n, Run: o.run, Since: s.since, Version: s.version, Head: s.version})
		}
		from := len(out) - len(o.known)
		for _, e := range o.entries {
			for i := range out[from:] {
				if d := &out[from+i]; e.Version > d.Since && e.Version <= d.Version {
					d.Entries = append(d.Entries, *e)
				}
			}
		}
	}
	for _, d := range out {
		sortByVersion(d.Entries)
	}
	slices.SortFunc(out, func(a, b Delta) int {
		return 2*a.Origin.Compare(b.Origin) + compare(a.Since, b.Since)
	})
	return out
}

func sortByVersion(list []Entry) {
	slices.SortFunc(list, func(a, b Entry) int { return compare(a.Version, b.Version) })
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
