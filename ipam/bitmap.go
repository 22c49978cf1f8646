package ipam

import "math/bits"

// bitmap is a set of addresses. It has memory only where there are some, in
// chunks of 65,536 addresses (8 KiB).
type bitmap struct {
	chunks map[uint32]*chunk
	n      int
}

type chunk struct {
	n    int
	word [1024]uint64
}

func (b *bitmap) has(a uint32) bool {
	c := b.chunks[a>>16]
	return c != nil && c.word[a>>6&1023]&(1<<(a&63)) != 0
}

func (b *bitmap) add(a uint32) {
	c := b.chunks[a>>16]
	if c == nil {
		if b.chunks == nil {
			b.chunks = map[uint32]*chunk{}
		}
		c = &chunk{}
		b.chunks[a>>16] = c
	}
	if w, bit := &c.word[a>>6&1023], uint64(1)<<(a&63); *w&bit == 0 {
		*w |= bit
		c.n++
		b.n++
	}
}

func (b *bitmap) remove(a uint32) {
	c := b.chunks[a>>16]
	if c == nil {
		return
	}
	if w, bit := &c.word[a>>6&1023], uint64(1)<<(a&63); *w&bit != 0 {
		*w &^= bit
		c.n--
		b.n--
		if c.n == 0 {
			delete(b.chunks, a>>16)
		}
	}
}

// next finds the first address from a to last, both included, that is in the
// set, or the first that is not.
func (b *bitmap) next(a, last uint32, in bool) (uint32, bool) {
	for a <= last {
		end := min(last, a|(1<<16-1)) // of what the chunk knows
		switch c := b.chunks[a>>16]; {
		case c == nil && !in:
			return a, true
		case c == nil || !in && c.n == 1<<16: // nothing to find here
		default:
			if found, ok := c.next(a, end, in); ok {
				return found, true
			}
		}
		if end == last {
			break
		}
		a = end + 1
	}
	return 0, false
}

// next is bitmap's, for addresses of the chunk.
func (c *chunk) next(a, last uint32, in bool) (uint32, bool) {
	for {
		w := c.word[a>>6&1023]
		if !in {
			w = ^w
		}
		if w = w >> (a & 63) << (a & 63); w != 0 {
			a = a&^63 + uint32(bits.TrailingZeros64(w))
			return a, a <= last
		}
		if a |= 63; a >= last {
			return 0, false
		}
		a++
	}
}

// count tells how many addresses of s are in the set.
func (b *bitmap) count(s span) int {
	n := 0
	for a := s.first; ; {
		c := b.chunks[a>>16]
		end := min(s.last, a|(1<<16-1))
		switch {
		case c == nil:
		case a&(1<<16-1) == 0 && end == a|(1<<16-1):
			n += c.n
		default:
			n += c.count(a, end)
		}
		if end == s.last {
			return n
		}
		a = end + 1
	}
}

// count counts from a to last, which lie in the chunk.
func (c *chunk) count(a, last uint32) int {
	n := 0
	for {
		w := c.word[a>>6&1023] >> (a & 63) << (a & 63)
		end := a | 63
		if end >= last {
			return n + bits.OnesCount64(w<<(63-last&63))
		}
		n += bits.OnesCount64(w)
		a = end + 1
	}
}
