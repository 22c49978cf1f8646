package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"weave/peer"
)

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
		x.dead.set(name, with(list, o))
		return
	}
	var had []Owned
	if s := x.Name([]byte(name)); s != nil {
		had = s.Entries
	}
	x.names.set(name, newSet(with(had, o)))
	at := string(e.Addr.AsSlice())
	list, _ := x.addresses.get([]byte(at))
	x.addresses.set(at, with(list, o))
	x.alive.Add(1)
}

func (x *Index) remove(n peer.Name, e *Entry) {
	name, o := Canonical(e.Name), Owned{n, e}
	if e.Dead {
		list, _ := x.dead.get([]byte(name))
		change(&x.dead, name, without(list, o))
		return
	}
	if s := x.Name([]byte(name)); s != nil {
		if left := without(s.Entries, o); len(left) > 0 {
			x.names.set(name, newSet(left))
		} else {
			x.names.remove(name)
		}
	}
	at := string(e.Addr.AsSlice())
	list, _ := x.addresses.get([]byte(at))
	change(&x.addresses, at, without(list, o))
	x.alive.Add(-1)
}

// change has a key stand for what is left under it.
func change(t *table[[]Owned], key string, left []Owned) {
	if len(left) > 0 {
		t.set(key, left)
	} else {
		t.remove(key)
	}
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
