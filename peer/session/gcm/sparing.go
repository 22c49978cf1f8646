package gcm

import (
	"crypto/cipher"
	"reflect"
	"sync"
	"sync/atomic"
)

// sparingMessages is how many messages a key made by NewSparing deals with before it is expanded for good.
const sparingMessages = 1024

// NewSparing is New for a key that is likely to see few messages: it takes the memory of an expanded key, twenty times its own,
// only while it deals with one of the first sparingMessages, each of which takes half a microsecond longer. What it returns has
// a method Wipe, for when nobody uses it any more.
func NewSparing(key *[32]byte) cipher.AEAD { return &sparing{key: *key} }

type sparing struct {
	key  [32]byte
	used atomic.Uint32
	full atomic.Pointer[expanded] // nil until then
}

// expanded holds what New makes.
type expanded struct{ cipher.AEAD }

// lent are expanded keys to be used again, wiped.
var lent sync.Pool

// rekeyed is an AEAD that can be given another key.
type rekeyed interface {
	cipher.AEAD
	rekey(key *[32]byte)
}

// NonceSize implements cipher.AEAD.
func (s *sparing) NonceSize() int { return nonceLen }

// Overhead implements cipher.AEAD.
func (s *sparing) Overhead() int { return tagLen }

// Seal implements cipher.AEAD.
func (s *sparing) Seal(dst, nonce, plaintext, additional []byte) []byte {
	if c := s.full.Load(); c != nil {
		return c.Seal(dst, nonce, plaintext, additional)
	}
	c, borrowed := s.expand()
	out := c.Seal(dst, nonce, plaintext, additional)
	if borrowed {
		giveBack(c)
	}
	return out
}

// Open implements cipher.AEAD.
func (s *sparing) Open(dst, nonce, message, additional []byte) ([]byte, error) {
	if c := s.full.Load(); c != nil {
		return c.Open(dst, nonce, message, additional)
	}
	c, borrowed := s.expand()
	out, err := c.Open(dst, nonce, message, additional)
	if borrowed {
		giveBack(c)
	}
	return out, err
}

// Wipe zeroes the key and all that was made of it. Nobody may be using the AEAD, or use it afterwards.
func (s *sparing) Wipe() {
	clear(s.key[:])
	s.used.Store(0)
	if c := s.full.Swap(nil); c != nil {
		wipe(c.AEAD)
	}
}

// expand returns the expanded key: for good, or borrowed for one message.
func (s *sparing) expand() (c cipher.AEAD, borrowed bool) {
	if s.used.Add(1) <= sparingMessages {
		if r, ok := lent.Get().(rekeyed); ok {
			r.rekey(&s.key)
			return r, true
		}
		return s.fresh(), true
	}
	made := &expanded{s.fresh()}
	if !s.full.CompareAndSwap(nil, made) { // another was faster
		wipe(made.AEAD)
		made = s.full.Load()
	}
	return made, false
}

// fresh is New, which takes every key of 32 bytes.
func (s *sparing) fresh() cipher.AEAD {
	c, err := New(&s.key)
	if err != nil {
		panic(err)
	}
	return c
}

// giveBack wipes an expanded key and keeps its memory, if it can be used again.
func giveBack(c cipher.AEAD) {
	wipe(c)
	if _, ok := c.(rekeyed); ok {
		lent.Put(c)
	}
}

// wipe zeroes the struct behind a cipher, which is where its key is.
func wipe(c any) { reflect.ValueOf(c).Elem().SetZero() }
