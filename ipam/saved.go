package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"weave/peer"
)

// Keys of Save effects. Each entry, tombstone, holding and vote has its own, so
// that a change costs what it changes.
const (
	keyMeta       = "meta"
	entryPrefix   = "entry/" // start, eight hex digits
	tombPrefix    = "tomb/"  // NAME@LIFE
	holdingPrefix = "holding/"
	votePrefix    = "vote/" // NAME@LIFE of who is gone
	nickPrefix    = "nick/"
)

var errSaved = errors.New("damaged")

// Saved is what Save effects kept, for the next start.
type Saved struct {
	meta     *SavedMeta
	entries  []Entry
	tombs    map[Member]Member
	holdings []Holding
	votes    []*WireVote
	nicks    map[peer.Name]string
	keys     []string
}

// Restore reads back one saved pair. Keys it does not know are ignored; values
// it cannot read are reported and leave s unchanged.
func (s *Saved) Restore(key string, value []byte) error {
	s.keys = append(s.keys, key)
	var err error
	switch prefix, name, _ := strings.Cut(key, "/"); prefix + "/" {
	case keyMeta + "/":
		meta := &SavedMeta{}
		if err = proto.Unmarshal(value, meta); err == nil {
			s.meta = meta
		}
	case entryPrefix:
		err = s.restoreEntries(value)
	case tombPrefix:
		err = s.restoreTomb(value)
	case holdingPrefix:
		err = s.restoreHolding(name, value)
	case votePrefix:
		v := &WireVote{}
		if err = proto.Unmarshal(value, v); err == nil {
			s.votes = append(s.votes, v)
		}
	case nickPrefix:
		var n peer.Name
		if n, err = peer.ParseName(name); err == nil {
			if s.nicks == nil {
				s.nicks = map[peer.Name]string{}
			}
			s.nicks[n] = printable(string(value), maxNick)
		}
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", key, err)
	}
	return nil
}

// Empty reports whether nothing was saved.
func (s *Saved) Empty() bool { return len(s.keys) == 0 }

func (s *Saved) restoreEntries(value []byte) error {
	d, err := unmarshalDelta(value)
	if err != nil {
		return err
	}
	s.entries = append(s.entries, d.Entries...)
	return nil
}

func (s *Saved) restoreTomb(value []byte) error {
	d, err := unmarshalDelta(value)
	if err != nil {
		return err
	}
	if s.tombs == nil {
		s.tombs = map[Member]Member{}
	}
	for gone, heir := range d.Tombs {
		s.tombs[gone] = heir
	}
	return nil
}

func unmarshalDelta(value []byte) (Delta, error) {
	w := &WireDelta{}
	if err := proto.Unmarshal(value, w); err != nil {
		return Delta{}, err
	}
	d, _, err := w.delta(netip.Prefix{})
	return d, err
}

func (s *Saved) restoreHolding(name string, value []byte) error {
	v := &SavedHolding{}
	if err := proto.Unmarshal(value, v); err != nil {
		return err
	}
	a, err := netip.ParseAddr(name)
	if err != nil {
		return err
	}
	p := netip.PrefixFrom(a, int(v.GetBits()))
	if !p.IsValid() || v.GetIdent() == "" || len(v.GetIdent()) > maxIdent {
		return errSaved
	}
	s.holdings = append(s.holdings, Holding{Ident: v.GetIdent(), CIDR: p, Container: v.GetContainer()})
	return nil
}

// restore makes the core what it was, unless it had another name or range.
func (c *Core) restore(s Saved) {
	r, name, why := c.matches(s)
	for n, nick := range s.nicks {
		if c.world.nicks[n] == "" {
			c.world.nicks[n] = nick
		}
	}
	if why != "" {
		c.event(LevelWarn, "what was saved about addresses is dropped: "+why, "was", name+" "+r, "is", c.cfg.Name.String()+" "+c.cfg.Range.String())
		for _, k := range s.keys {
			c.save(k, nil)
		}
	}
	if s.meta == nil || why != "" {
		c.saveMeta()
		return
	}
	c.self.Life = max(s.meta.GetLife(), 1)
	c.restoreRing(s)
	for _, h := range s.holdings {
		c.held.set(h, c.inRange(h.CIDR.Addr()))
		if c.inRange(h.CIDR.Addr()) {
			c.space.held.add(toUint(h.CIDR.Addr()))
		}
	}
	for _, w := range s.votes {
		if gone, voter, v, err := w.parse(); err == nil && voter == c.cfg.Name {
			c.decree(gone).joinVote(voter, v)
		}
	}
	if c.ring != nil {
		c.redraw()
	}
}

// matches tells why saved state is not ours, with the name and range it has.
func (c *Core) matches(s Saved) (r, name, why string) {
	if s.meta == nil {
		if len(s.holdings)+len(s.entries) > 0 {
			return "", "", "its beginning is missing"
		}
		return "", "", ""
	}
	p, err := prefixOf(s.meta.GetRangeStart(), s.meta.GetRangeBits())
	n, nameErr := nameOf(s.meta.GetName())
	switch {
	case err != nil || nameErr != nil || s.meta.GetLife() > maxLife:
		why = "it is damaged"
	case n != c.cfg.Name:
		why = "it belongs to another peer name"
	case p != c.cfg.Range:
		why = "it belongs to another range"
	}
	return p.String(), n.String(), why
}

func (c *Core) restoreRing(s Saved) {
	seeds, err := namesOf(s.meta.GetSeeds())
	if len(seeds) == 0 || err != nil {
		return
	}
	r := emptyRing(Genesis{Range: c.cfg.Range, Seeds: seeds})
	if _, err := r.Merge(Delta{Genesis: r.genesis, Entries: s.entries, Tombs: s.tombs, Settled: s.meta.GetSettled()}); err != nil {
		c.event(LevelWarn, "part of what was saved about addresses is damaged and dropped", "err", err.Error())
		return
	}
	c.ring = r
}

func (c *Core) save(key string, value []byte) {
	c.out.Save = append(c.out.Save, Save{Key: key, Value: value})
}

func (c *Core) saveMeta() {
	m := &SavedMeta{
		Name: c.cfg.Name[:], RangeStart: c.space.ranges.first, RangeBits: uint32(c.cfg.Range.Bits()), Life: c.self.Life,
	}
	if c.ring != nil {
		for _, s := range c.ring.genesis.Seeds {
			m.Seeds = append(m.Seeds, s[:])
		}
		m.Settled = c.ring.settled
	}
	c.save(keyMeta, marshal(m))
}

func (c *Core) saveDelta(d Delta) {
	for _, e := range d.Entries {
		c.save(entryKey(e.Start), marshal(Delta{Entries: []Entry{e}}.wire(nil)))
	}
	for gone, heir := range d.Tombs {
		c.save(tombPrefix+gone.String(), marshal(Delta{Tombs: map[Member]Member{gone: heir}}.wire(nil)))
	}
	if len(d.Settled) > 0 {
		c.saveMeta()
	}
}

// unsaveRing forgets the ring that is given up.
func (c *Core) unsaveRing() {
	for _, e := range c.ring.entries {
		c.save(entryKey(e.Start), nil)
	}
	for gone := range c.ring.tombs {
		c.save(tombPrefix+gone.String(), nil)
	}
}

func (c *Core) saveHolding(h Holding) {
	c.save(holdingPrefix+h.CIDR.Addr().String(), marshal(&SavedHolding{
		Ident: h.Ident, Bits: uint32(h.CIDR.Bits()), Container: h.Container,
	}))
}

func entryKey(start uint32) string {
	return entryPrefix + strconv.FormatUint(uint64(start)|1<<32, 16)[1:]
}
