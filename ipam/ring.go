package ipam

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"

	"weave/peer"
)

// Genesis is how a ring began.
type Genesis struct {
	Range netip.Prefix
	Seeds []peer.Name // sorted; they share the range
}

// ID tells geneses apart; 0 is none.
func (g Genesis) ID() uint64 {
	if len(g.Seeds) == 0 {
		return 0
	}
	h := mix(uint64(toUint(g.Range.Addr()))<<8 | uint64(g.Range.Bits()))
	for _, s := range g.Seeds {
		h = mix(h ^ nameBits(s))
	}
	return h | 1
}

// outranks decides which of two rings stays when they are settled: more seeds,
// then the lower list. It depends on nothing that changes.
func (g Genesis) outranks(o Genesis) bool {
	if len(g.Seeds) != len(o.Seeds) {
		return len(g.Seeds) > len(o.Seeds)
	}
	return slices.CompareFunc(g.Seeds, o.Seeds, peer.Name.Compare) < 0
}

// Delta is a part of a ring, or all of it.
type Delta struct {
	Genesis Genesis
	Entries []Entry           // in any order
	Tombs   map[Member]Member // removed member to heir
	Settled []uint64          // geneses that gave way to this one
}

// Empty reports whether there is nothing but the genesis.
func (d Delta) Empty() bool {
	return len(d.Entries) == 0 && len(d.Tombs) == 0 && len(d.Settled) == 0
}

var (
	errGenesis = errors.New("the ring has another genesis")
	errEntry   = errors.New("malformed entry")
)

// Limits of what a ring takes from others. A tombstone is made by a person or
// once per dead peer, and never goes.
const (
	maxEntries = 1 << 18
	maxTombs   = 1 << 14
	maxSettled = 64
	maxLife    = 1 << 30
)

// Ring is who owns what. The zero Ring is not valid; see NewRing.
type Ring struct {
	genesis Genesis
	span    span
	entries []Entry // sorted by start, no two with the same
	tombs   map[Member]Member
	settled []uint64 // sorted
	sum     uint64   // of all of it: rings with the same content have the same
}

// NewRing makes the ring of a genesis: its range, halved again and again along
// CIDR borders until each seed has a part. Everybody makes the same of the same
// genesis. Where there are more seeds than addresses, the last get none.
func NewRing(g Genesis) *Ring {
	r := emptyRing(g)
	for _, e := range divide(r.span, g.Seeds) {
		r.put(e)
	}
	return r
}

func emptyRing(g Genesis) *Ring {
	return &Ring{genesis: g, span: spanOf(g.Range), tombs: map[Member]Member{}, sum: g.ID()}
}

func divide(s span, seeds []peer.Name) []Entry {
	if len(seeds) == 0 {
		return nil
	}
	if len(seeds) == 1 || s.first == s.last {
		return []Entry{{Start: s.first, Last: s.last, Version: 1, Owner: Member{seeds[0], 1}}}
	}
	middle := s.first + uint32(s.size()/2)
	half := len(seeds) / 2
	return append(divide(span{s.first, middle - 1}, seeds[:half]), divide(span{middle, s.last}, seeds[half:])...)
}

// Merge takes in what another knows and returns what of it was news. It is
// commutative, associative and idempotent. On an error nothing was changed.
func (r *Ring) Merge(d Delta) (news Delta, err error) {
	if d.Genesis.ID() != r.genesis.ID() {
		return Delta{}, errGenesis
	}
	if err := r.validate(d); err != nil {
		return Delta{}, err
	}
	news.Genesis = r.genesis
	news.Entries = r.mergeEntries(d.Entries)
	for gone, heir := range d.Tombs {
		if r.bury(gone, heir) {
			if news.Tombs == nil {
				news.Tombs = map[Member]Member{}
			}
			news.Tombs[gone] = heir
		}
	}
	for _, id := range d.Settled {
		if r.settle(id) {
			news.Settled = append(news.Settled, id)
		}
	}
	return news, nil
}

func (r *Ring) validate(d Delta) error {
	for _, e := range d.Entries {
		if e.Start > e.Last || !r.span.has(e.Start) || !r.span.has(e.Last) || e.Version == 0 || e.Version > maxVersion {
			return fmt.Errorf("%w: %s to %s, version %d", errEntry, toAddr(e.Start), toAddr(e.Last), e.Version)
		}
		if !validMember(e.Owner) {
			return fmt.Errorf("%w: owner %s", errEntry, e.Owner)
		}
	}
	for gone, heir := range d.Tombs {
		if !validMember(gone) || !validMember(heir) || gone.Name == heir.Name {
			return fmt.Errorf("%w: heir %s of %s", errEntry, heir, gone)
		}
	}
	if len(r.entries)+len(d.Entries) > 2*maxEntries || len(r.tombs)+len(d.Tombs) > 2*maxTombs || len(d.Settled) > maxSettled {
		return errors.New("too much for one ring")
	}
	return nil
}

func validMember(m Member) bool { return !m.Name.IsZero() && m.Life > 0 && m.Life <= maxLife }

// mergeEntries merges in one pass, so that a whole ring costs no more than it
// has entries.
func (r *Ring) mergeEntries(in []Entry) (news []Entry) {
	if len(in) <= 8 {
		for _, e := range in {
			if r.put(e) {
				news = append(news, e)
			}
		}
		return news
	}
	byStart := func(a, b Entry) int { return int(int64(a.Start) - int64(b.Start)) }
	if !slices.IsSortedFunc(in, byStart) {
		in = slices.Clone(in)
		slices.SortStableFunc(in, byStart)
	}
	out := make([]Entry, 0, max(len(r.entries), len(in)))
	old := r.entries
	for _, e := range in {
		for len(old) > 0 && old[0].Start < e.Start {
			out, old = append(out, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Start == e.Start {
			out, old = append(out, old[0]), old[1:]
		}
		switch last := len(out) - 1; {
		case last < 0 || out[last].Start != e.Start:
			out = append(out, e)
		case e.compare(out[last]) > 0:
			r.sum ^= out[last].hash()
			out[last] = e
		default:
			continue
		}
		r.sum ^= e.hash()
		news = append(news, e)
	}
	r.entries = append(out, old...)
	return news
}

// put makes an entry part of the ring unless a higher one is; it tells whether
// it did.
func (r *Ring) put(e Entry) bool {
	i, found := r.find(e.Start)
	switch {
	case !found:
		r.entries = slices.Insert(r.entries, i, e)
	case e.compare(r.entries[i]) > 0:
		r.sum ^= r.entries[i].hash()
		r.entries[i] = e
	default:
		return false
	}
	r.sum ^= e.hash()
	return true
}

func (r *Ring) find(start uint32) (int, bool) {
	return sort.Find(len(r.entries), func(i int) int {
		return int(int64(start) - int64(r.entries[i].Start))
	})
}

// bury removes a member; of several heirs the lower one stays. It tells whether
// that is news.
func (r *Ring) bury(gone, heir Member) bool {
	old, there := r.tombs[gone]
	if there && heir.Compare(old) >= 0 {
		return false
	}
	if there {
		r.sum ^= tombHash(gone, old)
	}
	r.tombs[gone] = heir
	r.sum ^= tombHash(gone, heir)
	return true
}

// settle notes that a genesis gave way to ours.
func (r *Ring) settle(id uint64) bool {
	i, found := slices.BinarySearch(r.settled, id)
	if found || id == r.genesis.ID() || id == 0 {
		return false
	}
	r.settled = slices.Insert(r.settled, i, id)
	r.sum ^= mix(id)
	return true
}

// Snapshot returns everything; it shares nothing with the ring.
func (r *Ring) Snapshot() Delta {
	return Delta{
		Genesis: r.genesis, Entries: slices.Clone(r.entries), Tombs: maps.Clone(r.tombs), Settled: slices.Clone(r.settled),
	}
}

// Sum tells whether two rings are the same, but for one in 2^64.
func (r *Ring) Sum() uint64 { return r.sum }

// Genesis tells how it began.
func (r *Ring) Genesis() Genesis { return r.genesis }

// Buried tells whether that life of a peer was removed.
func (r *Ring) Buried(m Member) bool {
	_, there := r.tombs[m]
	return there
}

// Heir follows tombstones to who owns what m owned. Peers that were removed by
// each other, on two sides of a partition, leave a circle: then the lowest of
// them has it all in its next life.
func (r *Ring) Heir(m Member) Member {
	lowest, start := m, m
	for steps := 0; ; steps++ {
		next, there := r.tombs[m]
		if !there {
			return m
		}
		m = next
		if m == start { // once around
			return Member{lowest.Name, r.nextLife(lowest.Name)}
		}
		if m.Compare(lowest) < 0 {
			lowest = m
		}
		if steps > len(r.tombs) { // start leads into a circle that it is not part of
			lowest, start, steps = m, m, 0
		}
	}
}

// nextLife is the first life of a peer that was not removed.
func (r *Ring) nextLife(n peer.Name) uint32 {
	life := uint32(1)
	for {
		if _, there := r.tombs[Member{n, life}]; !there {
			return life
		}
		life++
	}
}

func mix(x uint64) uint64 { // the finalizer of SplitMix64 (Steele, Lea, Flood 2014)
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func nameBits(n peer.Name) uint64 {
	return uint64(n[0])<<40 | uint64(n[1])<<32 | uint64(n[2])<<24 | uint64(n[3])<<16 | uint64(n[4])<<8 | uint64(n[5])
}

func (m Member) hash() uint64 { return mix(nameBits(m.Name) ^ mix(uint64(m.Life))) }

func (e Entry) hash() uint64 {
	return mix(mix(uint64(e.Start)<<32|uint64(e.Last)) ^ mix(uint64(e.Version)) ^ e.Owner.hash()<<1)
}

func tombHash(gone, heir Member) uint64 { return mix(gone.hash() ^ mix(heir.hash())<<1) }
