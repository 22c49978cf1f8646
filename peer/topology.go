package peer

import (
	"errors"
	"fmt"
	"slices"
)

// Topology is the newest record of each peer: a CRDT whose merge takes, name
// by name, the greater record in the order of Signed.Compare. The zero value
// is empty and ready for use.
type Topology struct {
	records map[Name]*entry
	bytes   int // about what they take
	walked  uint32
	reached int // how many the last walk found
}

// entry is a record held. The record may be shared with other Topologies, the
// mark is not.
type entry struct {
	*Signed
	mark uint32 // the last walk that found it
}

// Merge takes over the records of delta that are newer than those held and
// returns them. Records whose signature nobody verified are left out and
// reported in err; the others are merged all the same. Merging is commutative,
// associative and idempotent.
func (t *Topology) Merge(delta []Signed) (news []Signed, err error) {
	var errs []error
	for i := range delta {
		s := &delta[i]
		if !s.verified {
			errs = append(errs, fmt.Errorf("merge record of %s: not verified", s.Record.Name))
			continue
		}
		if t.put(s) {
			news = append(news, *s)
		}
	}
	return news, errors.Join(errs...)
}

// put takes over one verified record, which must not be changed any more, and
// reports whether it is newer than the one held.
func (t *Topology) put(s *Signed) bool {
	held := t.records[s.Record.Name]
	switch {
	case held == nil && t.records == nil:
		t.records = make(map[Name]*entry)
		fallthrough
	case held == nil:
		t.records[s.Record.Name] = &entry{Signed: s}
	case s.compare(held.Signed) <= 0:
		return false
	default:
		t.bytes -= held.weight()
		held.Signed = s
	}
	t.bytes += s.weight()
	return true
}

// weight is about what a record takes in memory, bytes.
func (s *Signed) weight() int { return len(s.bytes) + 20*s.Record.Links.Len() + 512 }

// Snapshot returns all records, sorted by name. Merging a snapshot into another
// Topology brings it up to date.
func (t *Topology) Snapshot() []Signed {
	out := make([]Signed, 0, len(t.records))
	for _, n := range sortedNames(t.records) {
		out = append(out, *t.records[n].Signed)
	}
	return out
}

// Get returns the record held for a name.
func (t *Topology) Get(n Name) (Signed, bool) {
	if s := t.records[n]; s != nil {
		return *s.Signed, true
	}
	return Signed{}, false
}

// get is Get without a copy; nil when there is none.
func (t *Topology) get(n Name) *Signed {
	if e := t.records[n]; e != nil {
		return e.Signed
	}
	return nil
}

// Len returns the number of records held.
func (t *Topology) Len() int { return len(t.records) }

func (t *Topology) drop(n Name) {
	if s := t.records[n]; s != nil {
		t.bytes -= s.weight()
		delete(t.records, n)
	}
}

// walk finds the peers that can be reached from the roots, following every link
// a visited peer's record names. A peer that died is in nobody's record any
// more, so its own old record does not keep it alive. reaches tells the result.
func (t *Topology) walk(roots []Name) {
	t.walked++
	queue := make([]*entry, 0, Ample(len(t.records)))
	visit := func(n Name) {
		if e := t.records[n]; e != nil && e.mark != t.walked {
			e.mark = t.walked
			queue = append(queue, e)
		}
	}
	for _, n := range roots {
		visit(n)
	}
	for at := 0; at < len(queue); at++ {
		links := queue[at].Record.Links
		for i := range links.Len() {
			visit(links.Peer(i))
		}
	}
	t.reached = len(queue)
}

// reaches reports whether the last walk found a peer.
func (t *Topology) reaches(n Name) bool {
	e := t.records[n]
	return e != nil && e.found(t)
}

func (e *entry) found(t *Topology) bool { return e.mark == t.walked && t.walked > 0 }

// linked reports whether the records of both name each other.
func (t *Topology) linked(a, b Name) bool {
	x, y := t.records[a], t.records[b]
	return x != nil && y != nil && x.Record.names(b) && y.Record.names(a)
}

func (r *Record) names(n Name) bool {
	for i := range r.Links.Len() {
		if r.Links.Peer(i) == n {
			return true
		}
	}
	return false
}

func sortedNames[V any](m map[Name]V) []Name {
	out := make([]Name, 0, Ample(len(m)))
	for n := range m {
		out = append(out, n)
	}
	slices.SortFunc(out, Name.Compare)
	return out
}
