package ipam

import "slices"

// Segments lists the ring in order, each part with who owns it now. Addresses
// that no entry covers, because part of the ring is not known yet, are in none.
func (r *Ring) Segments() []Segment {
	out := make([]Segment, len(r.entries))
	heirs := make(map[Member]Member)
	for i, e := range r.entries {
		last := e.Last
		if i+1 < len(r.entries) {
			last = min(last, r.entries[i+1].Start-1)
		}
		out[i] = Segment{e.Start, last, e.Version, r.heirOf(e.Owner, heirs)}
	}
	return out
}

func (r *Ring) heirOf(m Member, known map[Member]Member) Member {
	if len(r.tombs) == 0 {
		return m
	}
	h, there := known[m]
	if !there {
		h = r.Heir(m)
		known[m] = h
	}
	return h
}

// spansOf joins the segments of one member to runs.
func spansOf(segments []Segment, m Member) []span {
	var out []span
	for _, s := range segments {
		if s.Owner != m {
			continue
		}
		if last := len(out) - 1; last >= 0 && uint64(out[last].last)+1 == uint64(s.Start) {
			out[last].last = s.Last
			continue
		}
		out = append(out, s.span())
	}
	return out
}

// ownerAt finds the segment of an address.
func ownerAt(segments []Segment, a uint32) (Segment, bool) {
	i, _ := slices.BinarySearchFunc(segments, a, func(s Segment, a uint32) int {
		switch {
		case s.Last < a:
			return -1
		case s.Start > a:
			return 1
		}
		return 0
	})
	if i < len(segments) && segments[i].span().has(a) {
		return segments[i], true
	}
	return Segment{}, false
}

// give makes block the property of to. All of it must belong to from now, which
// is the caller's to see to. It returns the entries that are new: they say all
// about the block, and about what its end cut off, so that whoever knows them,
// but not what came before, is wrong about nothing that it might use. Nothing
// outside block changes its owner.
func (r *Ring) give(from, to Member, block span) []Entry {
	end := block.last // of the segment that the block ends in
	first, last := r.covering(block.first), r.covering(block.last)
	if s := r.segment(last); s.has(block.last) {
		end = s.last
	}
	var changed []Entry
	e := Entry{Start: block.first, Last: block.last, Version: 1, Owner: to}
	if old := r.entries[first]; old.Start == block.first {
		e.Version = r.nextVersion(old)
	}
	changed = append(changed, e)
	for _, e := range r.entries[first+1 : last+1] {
		e.Version, e.Owner, e.Last = r.nextVersion(e), to, min(e.Last, block.last)
		changed = append(changed, e)
	}
	if end > block.last {
		changed = append(changed, Entry{Start: block.last + 1, Last: end, Version: 1, Owner: from})
	}
	for _, e := range changed {
		r.put(e)
	}
	return changed
}

// covering is the index of the last entry that starts at a or before.
func (r *Ring) covering(a uint32) int {
	i, found := r.find(a)
	if !found {
		i--
	}
	return i
}

// segment is what entry i says something about.
func (r *Ring) segment(i int) span {
	s := span{r.entries[i].Start, r.entries[i].Last}
	if i+1 < len(r.entries) {
		s.last = min(s.last, r.entries[i+1].Start-1)
	}
	return s
}

// nextVersion is above what anybody else has made of e.
func (r *Ring) nextVersion(e Entry) uint32 {
	if r.Buried(e.Owner) {
		return e.Version + versionLeap
	}
	return e.Version + 1
}
