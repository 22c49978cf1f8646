package host

import "sync"

// tally counts what each owner holds, and all together, and refuses more than so much. Any goroutine may use it.
type tally struct {
	each, all int

	mu    sync.Mutex
	of    map[string]int
	total int
}

func newTally(each, all int) *tally { return &tally{each: each, all: all, of: map[string]int{}} }

func (t *tally) take(owner string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total >= t.all || t.of[owner] >= t.each {
		return false
	}
	t.total++
	t.of[owner]++
	return true
}

func (t *tally) release(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total--
	if t.of[owner]--; t.of[owner] == 0 {
		delete(t.of, owner)
	}
}
