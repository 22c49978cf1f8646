package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
	"strings"
)

// frame finds the end of one body in a stream of bytes.
type frame interface {
	// scan looks at the next bytes, at least one: n of them belong to the body, which ends there if done.
	scan(b []byte) (n int, done bool, err error)
}

// frameOf reads what the fields say of the body (RFC 9112, section 6). nil: there is none, or nothing is said of it.
func frameOf(h head) (frame, error) {
	if te := h.values("Transfer-Encoding"); len(te) > 0 {
		if !strings.HasSuffix(strings.ToLower(te[len(te)-1]), "chunked") {
			return nil, fmt.Errorf("%w: transfer encoding %.100q", errMalformed, te[len(te)-1])
		}
		return &chunked{}, nil
	}
	var length *counted
	for _, v := range h.values("Content-Length") {
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil || length != nil && length.left != n {
			return nil, fmt.Errorf("%w: content length %.100q", errMalformed, v)
		}
		length = &counted{left: n}
	}
	if length == nil || length.left == 0 {
		return nil, nil
	}
	return length, nil
}

// counted is a body of known length.
type counted struct{ left uint64 }

func (c *counted) scan(b []byte) (int, bool, error) {
	n := min(uint64(len(b)), c.left)
	c.left -= n
	return int(n), c.left == 0, nil
}

// chunked is a body in chunks with a trailer (RFC 9112, section 7.1):
//
//	size [; extension] CRLF  data CRLF   …   0 CRLF  *(field CRLF)  CRLF
//
// It is read byte by byte but for the data. The states:
//
//	inSize ──LF──► inData ──all──► afterData ──LF──► inSize
//	   └──LF, size 0──► inTrailer ──empty line──► done
type chunked struct {
	state   chunkState
	size    uint64 // of the chunk so far, then what is left of it
	digits  int
	ignored bool // the rest of the size's line says nothing to us
	line    int  // bytes of the line, but for CR
	total   int  // bytes that are no data, since the last data
}

type chunkState uint8

const (
	inSize chunkState = iota
	inData
	afterData
	inTrailer
)

func (c *chunked) scan(b []byte) (int, bool, error) {
	for i := 0; i < len(b); i++ {
		if c.state == inData {
			n := min(uint64(len(b)-i), c.size)
			c.size -= n
			i += int(n) - 1 // the loop adds one
			if c.size == 0 {
				c.state, c.line, c.total = afterData, 0, 0
			}
			continue
		}
		if c.total++; c.total > maxHead {
			return i, false, errHeadTooLong
		}
		done, err := c.step(b[i])
		if done || err != nil {
			return i + 1, done, err
		}
	}
	return len(b), false, nil
}

// step takes a byte that is no data.
func (c *chunked) step(ch byte) (done bool, err error) {
	switch {
	case ch == '\r':
		return false, nil
	case ch != '\n':
		c.line++
		if c.state == afterData {
			return false, fmt.Errorf("%w: chunk is longer than its size", errMalformed)
		}
		if c.state == inSize {
			return false, c.digit(ch)
		}
		return false, nil
	case c.state == afterData:
		*c = chunked{}
	case c.state == inSize && c.digits == 0:
		return false, fmt.Errorf("%w: chunk without a size", errMalformed)
	case c.state == inSize && c.size == 0:
		c.state, c.line = inTrailer, 0
	case c.state == inSize:
		c.state = inData
	case c.line == 0:
		return true, nil
	default:
		c.line = 0
	}
	return false, nil
}

func (c *chunked) digit(ch byte) error {
	if c.ignored {
		return nil
	}
	d, err := strconv.ParseUint(string(ch), 16, 8)
	if err != nil {
		if ch != ';' && ch != ' ' && ch != '\t' {
			return fmt.Errorf("%w: chunk size with %q", errMalformed, ch)
		}
		c.ignored = true
		return nil
	}
	if c.digits++; c.digits > 16 || c.size > 1<<59 {
		return fmt.Errorf("%w: chunk size is too large", errMalformed)
	}
	c.size = c.size<<4 | d
	return nil
}

// writeError is an error of the writer, whose reader is fine.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// copyBody passes a body on, each part as soon as it is there.
func copyBody(dst io.Writer, src *bufio.Reader, f frame) error {
	if f == nil {
		return nil
	}
	for {
		if _, err := src.Peek(1); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		b, _ := src.Peek(src.Buffered())
		n, done, err := f.scan(b)
		if _, werr := dst.Write(b[:n]); werr != nil {
			return &writeError{werr}
		}
		_, _ = src.Discard(n) // they are buffered
		if done || err != nil {
			return err
		}
	}
}

// errBodyTooLong is returned by readBody.
var errBodyTooLong = errors.New("body is too long")

// readBody reads a body whole, out of its chunks, without the trailer. One of more than limit bytes is read so far only.
func readBody(src *bufio.Reader, f frame, limit int) ([]byte, error) {
	var raw bytes.Buffer
	w := &limited{&raw, limit}
	if err := copyBody(w, src, f); err != nil {
		return raw.Bytes(), err
	}
	if _, ok := f.(*chunked); !ok {
		return raw.Bytes(), nil
	}
	return io.ReadAll(httputil.NewChunkedReader(&raw))
}

// limited takes so many bytes and then no more.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	if len(b) > l.left {
		return 0, errBodyTooLong
	}
	l.left -= len(b)
	return l.to.Write(b)
}
