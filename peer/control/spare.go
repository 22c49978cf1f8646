package control

import (
	"bufio"
	"io"
	"math/bits"
	"sync"
)

const (
	leastSpare = 2 << 10  // bytes: the record of a peer with some 30 links
	readAhead  = 2 << 10  // bytes: some frames; longer ones are read to where they are opened
	mostSpare  = 64 << 10 // bytes; larger ones are left to the collector, as they are rare
)

// spare lends buffers to whoever reads or writes at the moment. Connections are
// quiet most of the time and hold no buffers then, while a change in the network
// makes one message go to all of them. What nobody borrows goes with the second
// collection. Its methods may be called concurrently; a nil spare lends new buffers.
type spare struct {
	pool    sync.Pool
	readers sync.Pool
}

// reader lends what reads ahead of from.
func (s *spare) reader(from io.Reader) *bufio.Reader {
	r, _ := s.readers.Get().(*bufio.Reader)
	if r == nil {
		return bufio.NewReaderSize(from, readAhead)
	}
	r.Reset(from)
	return r
}

// giveReader takes a reader back; what it has read ahead is lost.
func (s *spare) giveReader(r *bufio.Reader) {
	r.Reset(nil)
	s.readers.Put(r)
}

// take lends an empty buffer with room for n bytes. It may be grown.
func (s *spare) take(n int) []byte {
	if s != nil && n <= mostSpare {
		if b, _ := s.pool.Get().(*[]byte); b != nil && cap(*b) >= n {
			return (*b)[:0]
		}
	}
	if n = max(n, leastSpare); n <= mostSpare {
		n = 1 << bits.Len(uint(n-1)) // few sizes serve all
	}
	return make([]byte, 0, n)
}

// give takes a buffer back that nobody uses any more.
func (s *spare) give(b []byte) {
	if s != nil && cap(b) >= leastSpare && cap(b) <= mostSpare {
		s.pool.Put(&b)
	}
}
