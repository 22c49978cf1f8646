package session

import (
	"math"
	"sync/atomic"
)

// guard lets many goroutines use a key and one end it: the key is wiped by whoever is last to leave, so never under
// the hands of a goroutine that still works with it, and nobody enters once it is closed.
//
// The count of users is below zero (math.MinInt64 + users) from close on.
type guard struct {
	users atomic.Int64
	wiped atomic.Bool
}

// enter reports whether the key may be used. Whatever it answers, leave follows.
func (g *guard) enter() bool { return g.users.Add(1) > 0 }

// leave reports whether the caller must wipe the key: it is closed and this was its last user.
func (g *guard) leave() bool {
	return g.users.Add(-1) == math.MinInt64 && g.wiped.CompareAndSwap(false, true)
}

// close forbids entering, and reports whether the caller must wipe the key. May be called more than once.
func (g *guard) close() bool {
	for {
		n := g.users.Load()
		if n < 0 {
			return false
		}
		if g.users.CompareAndSwap(n, n+math.MinInt64) {
			return n == 0 && g.wiped.CompareAndSwap(false, true)
		}
	}
}
