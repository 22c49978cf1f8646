package control

import "sync"

const (
	leastSpare = 2 << 10  // bytes: the record of a peer with some 30 links
	mostSpare  = 64 << 10 // bytes; larger ones are left to the collector, as they are rare
)

// spare lends buffers to whoever reads or writes at the moment. Connections are
// quiet most of the time and hold no buffers then, while a change in the network
// makes one message go to all of them. What nobody borrows goes with the second
// collection. Its methods may be called concurrently; a nil spare lends new buffers.
type spare struct {
	pool sync.Pool
}

// take lends an empty buffer with room for n bytes. It may be grown.
func (s *spare) take(n int) []byte {
	if s != nil && n <= mostSpare {
		if b, _ := s.pool.Get().(*[]byte); b != nil && cap(*b) >= n {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, max(n, leastSpare))
}

// give takes a buffer back that nobody uses any more.
func (s *spare) give(b []byte) {
	if s != nil && cap(b) >= leastSpare && cap(b) <= mostSpare {
		s.pool.Put(&b)
	}
}
