package peer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Topology is the newest record of each peer: a CRDT whose merge takes, name
// by name, the greater record in the order of Signed.Compare. The zero value
// is empty and ready for use.
type Topology struct {
	records map[Name]Signed
}

// Merge takes over the records of delta that are newer than those held and
// returns them. Records whose signature nobody verified are left out and
// reported in err; the others are merged all the same. Merging is commutative,
// associative and idempotent.
func (t *Topology) Merge(delta []Signed) (news []Signed, err error) {
	var errs []error
	for _, s := range delta {
		if !s.verified {
			errs = append(errs, fmt.Errorf("merge record of %s: not verified", s.Record.Name))
			continue
		}
		held, ok := t.records[s.Record.Name]
		if ok && s.Compare(held) <= 0 {
			continue
		}
		if t.records == nil {
			t.records = make(map[Name]Signed)
		}
		t.records[s.Record.Name] = s
		news = append(news, s)
	}
	return news, errors.Join(errs...)
}

// Snapshot returns all records, sorted by name. Merging a snapshot into another
// Topology brings it up to date.
func (t *Topology) Snapshot() []Signed {
	out := make([]Signed, 0, len(t.records))
	for _, n := range sortedNames(t.records) {
		out = append(out, t.records[n])
	}
	return out
}

// Get returns the record held for a name.
func (t *Topology) Get(n Name) (Signed, bool) {
	s, ok := t.records[n]
	return s, ok
}

// Len returns the number of records held.
func (t *Topology) Len() int { return len(t.records) }

func (t *Topology) drop(n Name) { delete(t.records, n) }

// reachable returns the names that a walk from the roots finds, following
// every link a visited peer's record names. A peer that died is in nobody's
// record any more, so its own old record does not keep it alive.
func (t *Topology) reachable(roots []Name) map[Name]bool {
	seen := make(map[Name]bool, len(t.records))
	queue := make([]Name, 0, len(t.records))
	visit := func(n Name) {
		if _, held := t.records[n]; held && !seen[n] {
			seen[n] = true
			queue = append(queue, n)
		}
	}
	for _, n := range roots {
		visit(n)
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, l := range t.records[n].Record.Links {
			visit(l.Peer)
		}
	}
	return seen
}

func sortedNames[V any](m map[Name]V) []Name {
	return slices.SortedFunc(maps.Keys(m), Name.Compare)
}
