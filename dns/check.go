package dns

import (
	"fmt"

	"weave/peer"
)

// Check verifies the invariants of the catalogue.
func (c *Catalogue) Check() error {
	alive := 0
	for n, o := range c.origins {
		if err := o.known.check(); err != nil {
			return fmt.Errorf("spans of %s: %w", n, err)
		}
		bytes, versions := 0, map[uint64]bool{}
		for k, e := range o.entries {
			switch {
			case keyOf(e.Record) != k:
				return fmt.Errorf("%s: entry %v under key %v", n, e, k)
			case !o.known.has(e.Version) || versions[e.Version]:
				return fmt.Errorf("%s: version %d of %v is not known, or there twice", n, e.Version, k)
			case !e.Dead && !c.index.holds(n, e):
				return fmt.Errorf("%s: %v cannot be found", n, k)
			}
			versions[e.Version] = true
			bytes += weight(e)
			if !e.Dead {
				alive++
			}
		}
		if bytes != o.bytes {
			return fmt.Errorf("%s: %d bytes counted as %d", n, bytes, o.bytes)
		}
	}
	if alive != c.index.Len() {
		return fmt.Errorf("%d entries are alive, the index has %d", alive, c.index.Len())
	}
	return nil
}

func (x *Index) holds(n peer.Name, e *Entry) bool {
	s := x.Name([]byte(Canonical(e.Name)))
	if s == nil {
		return false
	}
	at, _ := x.addresses.get(e.Addr.AsSlice())
	return contains(s.Entries, Owned{n, e}) && contains(at, Owned{n, e})
}

func contains(list []Owned, o Owned) bool {
	for _, have := range list {
		if have == o {
			return true
		}
	}
	return false
}

func (s spans) check() error {
	for i, p := range s {
		if p.since >= p.version || (i > 0 && p.since <= s[i-1].version) {
			return fmt.Errorf("span %d of %v", i, s)
		}
	}
	return nil
}

// Check verifies the invariants; tests and simulations call it after each Step.
func (c *Core) Check() error {
	if err := c.cat.Check(); err != nil {
		return err
	}
	me := c.cat.origins[c.cfg.Name]
	if me.known.first() != c.own.version || len(me.known) > 1 {
		return fmt.Errorf("own version is %d, known are %v", c.own.version, me.known)
	}
	alive := 0
	for _, e := range me.entries {
		if !e.Dead {
			alive++
		}
	}
	if alive != c.own.alive {
		return fmt.Errorf("%d own entries counted as %d", alive, c.own.alive)
	}
	last := uint64(0)
	for _, e := range c.own.log {
		if e.Version <= last {
			return fmt.Errorf("log has version %d after %d", e.Version, last)
		}
		last = e.Version
	}
	for n, o := range c.behind {
		if c.cat.origins[n] != o {
			return fmt.Errorf("%s is to be asked and not there", n)
		}
	}
	return nil
}
