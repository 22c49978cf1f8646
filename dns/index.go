package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"weave/peer"
)

// shardCount is how many parts the tables have. A change copies one part: of
// 100,000 names some 25.
const shardCount = 4096

// table maps text to values that never change. One goroutine writes; everybody
// may read meanwhile.
type table[V any] struct {
	seed   uint64
	shards [shardCount]atomic.Pointer[map[string]V]
}

// shard spreads keys by FNV-1a, with a seed that nobody knows.
func shard[T string | []byte](seed uint64, key T) uint64 {
	h := seed ^ 14695981039346656037
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h >> 52
}

// get looks up without allocating.
func (t *table[V]) get(key []byte) (v V, ok bool) {
	if m := t.shards[shard(t.seed, key)].Load(); m != nil {
		v, ok = (*m)[string(key)]
	}
	return v, ok
}

func (t *table[V]) set(key string, v V, there bool) {
	at := &t.shards[shard(t.seed, key)]
	next := map[string]V{}
	if m := at.Load(); m != nil {
		next = make(map[string]V, len(*m)+1)
		for k, old := range *m {
			next[k] = old
		}
	}
	if there {
		next[key] = v
	} else {
		delete(next, key)
	}
	at.Store(&next)
}

func (t *table[V]) each(f func(V)) {
	for i := range t.shards {
		if m := t.shards[i].Load(); m != nil {
			for _, v := range *m {
				f(v)
			}
		}
	}
}

// Owned is an entry with its origin.
type Owned struct {
	Origin peer.Name
	*Entry // never written again
}

// Set is everything under one name, living entries only. It never changes.
type Set struct {
	V4, V6  []byte  // addresses, 4 and 16 bytes each, none twice
	Entries []Owned // in the order of origin, ident, address
}

// Index is all entries by name and address. The catalogue writes it; all other
// methods may be called by anybody at any time.
type Index struct {
	names     table[*Set]
	addresses table[[]Owned] // by the 4 or 16 bytes
	dead      table[[]Owned] // by name
	alive     atomic.Int64
}

func newIndex(seed uint64) *Index {
	x := &Index{}
	x.names.seed, x.addresses.seed, x.dead.seed = seed, seed, seed
	return x
}

// Len is how many entries are alive.
func (x *Index) Len() int { return int(x.alive.Load()) }

// Name finds a canonical name; nil if there is none.
func (x *Index) Name(name []byte) *Set {
	s, _ := x.names.get(name)
	return s
}

// Pointer is the name that an address stands for: the first of several in the
// order of name, origin, ident.
func (x *Index) Pointer(a netip.Addr) (name string, ok bool) {
	all, ok := x.addresses.get(a.AsSlice())
	if !ok {
		return "", false
	}
	return all[0].Name, true
}

// Entries lists everything, dead entries as well, by name.
func (x *Index) Entries() []Owned {
	out := make([]Owned, 0, x.Len())
	x.names.each(func(s *Set) { out = append(out, s.Entries...) })
	x.dead.each(func(s []Owned) { out = append(out, s...) })
	slices.SortFunc(out, compareOwned)
	return out
}

func compareOwned(a, b Owned) int {
	if c := strings.Compare(Canonical(a.Name), Canonical(b.Name)); c != 0 {
		return c
	}
	if c := a.Origin.Compare(b.Origin); c != 0 {
		return c
	}
	if c := strings.Compare(a.Ident, b.Ident); c != 0 {
		return c
	}
	return a.Addr.Compare(b.Addr)
}

func (x *Index) add(n peer.Name, e *Entry) {
	name, o := Canonical(e.Name), Owned{n, e}
	if e.Dead {
		list, _ := x.dead.get([]byte(name))
		x.dead.set(name, with(list, o), true)
		return
	}
	var had []Owned
	if s := x.Name([]byte(name)); s != nil {
		had = s.Entries
	}
	x.names.set(name, newSet(with(had, o)), true)
	at := string(e.Addr.AsSlice())
	list, _ := x.addresses.get([]byte(at))
	x.addresses.set(at, with(list, o), true)
	x.alive.Add(1)
}

func (x *Index) remove(n peer.Name, e *Entry) {
	name, o := Canonical(e.Name), Owned{n, e}
	if e.Dead {
		list, _ := x.dead.get([]byte(name))
		list = without(list, o)
		x.dead.set(name, list, len(list) > 0)
		return
	}
	if s := x.Name([]byte(name)); s != nil {
		left := without(s.Entries, o)
		x.names.set(name, newSet(left), len(left) > 0)
	}
	at := string(e.Addr.AsSlice())
	list, _ := x.addresses.get([]byte(at))
	list = without(list, o)
	x.addresses.set(at, list, len(list) > 0)
	x.alive.Add(-1)
}

func with(list []Owned, o Owned) []Owned {
	i, _ := slices.BinarySearchFunc(list, o, compareOwned)
	out := make([]Owned, 0, len(list)+1)
	return append(append(append(out, list[:i]...), o), list[i:]...)
}

func without(list []Owned, o Owned) []Owned {
	out := make([]Owned, 0, max(len(list)-1, 0))
	for _, have := range list {
		if have.Entry != o.Entry {
			out = append(out, have)
		}
	}
	return out
}

func newSet(list []Owned) *Set {
	s := &Set{Entries: list}
	var seen map[netip.Addr]bool
	if len(list) > 1 {
		seen = make(map[netip.Addr]bool, len(list))
	}
	for _, o := range list {
		switch {
		case seen[o.Addr]:
			continue
		case o.Addr.Is4():
			s.V4 = append(s.V4, o.Addr.AsSlice()...)
		default:
			s.V6 = append(s.V6, o.Addr.AsSlice()...)
		}
		if seen != nil {
			seen[o.Addr] = true
		}
	}
	return s
}
