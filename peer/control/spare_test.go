package control

import "testing"

// A buffer lent has the room asked for and nothing in it, whatever was given back
// before; a nil spare lends as well.
func TestSpareLends(t *testing.T) {
	for _, s := range []*spare{nil, new(spare)} {
		for _, n := range []int{1, leastSpare, 3 * leastSpare, mostSpare, mostSpare + 1, 10} {
			b := s.take(n)
			if len(b) != 0 || cap(b) < n {
				t.Errorf("take(%d) gave %d bytes, room for %d", n, len(b), cap(b))
			}
			s.give(append(b, make([]byte, n)...))
			s.give(nil)
		}
	}
	s := new(spare)
	s.give(make([]byte, 0, mostSpare+1))
	s.give(make([]byte, 0, leastSpare-1))
	if b := s.pool.Get(); b != nil {
		t.Error("a buffer that is too large or too small was kept")
	}
}
