package dns

import "slices"

// span is the versions (since, version].
type span struct{ since, version uint64 }

// spans are sorted, with gaps between.
type spans []span

// at is the index of the first span that ends at or after v.
func (s spans) at(v uint64) int {
	i, _ := slices.BinarySearchFunc(s, v, func(p span, v uint64) int { return compare(p.version, v) })
	return i
}

// has reports whether a version is in a span.
func (s spans) has(v uint64) bool {
	i := s.at(v)
	return i < len(s) && v > s[i].since
}

// overlaps reports whether a version of (since, version] is in a span.
func (s spans) overlaps(since, version uint64) bool {
	i := s.at(since + 1)
	return since < version && i < len(s) && s[i].since < version
}

// first is how far everything is known.
func (s spans) first() uint64 {
	if len(s) == 0 || s[0].since > 0 {
		return 0
	}
	return s[0].version
}

// after is how many spans there are after add.
func (s spans) after(since, version uint64) int {
	lo, hi := s.touched(since, version)
	return len(s) - (hi - lo) + 1
}

// touched are the spans that (since, version] overlaps or adjoins.
func (s spans) touched(since, version uint64) (lo, hi int) {
	lo = s.at(since)
	for hi = lo; hi < len(s) && s[hi].since <= version; hi++ {
	}
	return lo, hi
}

// add makes (since, version] known; false if it was.
func (s *spans) add(since, version uint64) bool {
	if since == version {
		return false
	}
	lo, hi := s.touched(since, version)
	if hi == lo+1 && (*s)[lo].since <= since && (*s)[lo].version >= version {
		return false
	}
	n := span{since, version}
	if lo < hi {
		n.since = min(n.since, (*s)[lo].since)
		n.version = max(n.version, (*s)[hi-1].version)
	}
	*s = slices.Replace(*s, lo, hi, n)
	return true
}
