package host

import (
	"bufio"
	"io"
)

// maxHead bounds in bytes what a program may send before it is connected.
const maxHead = 64 << 10

// buffered is a connection of which some has been read ahead.
type buffered struct {
	stream
	limit io.LimitedReader // of stream, under r
	r     *bufio.Reader
}

// Read implements io.Reader.
func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
