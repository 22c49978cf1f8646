package dns

import "sync/atomic"

// Sizes of tables, as powers of two.
const (
	leastBits = 6
	mostBits  = 24
	chain     = 2 // keys of a bucket at most, on average
)

// table maps text to values that never change. One goroutine writes; everybody
// may read meanwhile. A change costs the same however many keys there are, but
// for the doubling of the table now and then.
//
//	buckets ─► [ head │ head │ nil │ head │ … ]
//	               │      └─► link{key, value, next} ─► link ─► nil
//	               └─► link ─► nil
//
// Links are never written again: a change puts new ones in place of those before
// it in the chain.
type table[V any] struct {
	seed  uint64
	now   atomic.Pointer[buckets[V]]
	count int // the writer's
}

type buckets[V any] struct {
	shift uint // of a hash, to have a bucket's place
	heads []atomic.Pointer[link[V]]
}

type link[V any] struct {
	key   string
	value V
	next  *link[V]
}

func newBuckets[V any](bits uint) *buckets[V] {
	return &buckets[V]{shift: 64 - bits, heads: make([]atomic.Pointer[link[V]], 1<<bits)}
}

// hash spreads keys by FNV-1a, with a seed that nobody knows. mix has each byte,
// the last ones as well, matter for the upper bits.
func hash[T string | []byte](seed uint64, key T) uint64 {
	h := seed ^ 14695981039346656037
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return mix(h)
}

// get looks up without allocating.
func (t *table[V]) get(key []byte) (v V, ok bool) {
	b := t.now.Load()
	if b == nil {
		return v, false
	}
	for l := b.heads[hash(t.seed, key)>>b.shift].Load(); l != nil; l = l.next {
		if l.key == string(key) {
			return l.value, true
		}
	}
	return v, false
}

// set has a key stand for a value.
func (t *table[V]) set(key string, v V) {
	at := t.bucket(key)
	rest, was := cut(at.Load(), key)
	at.Store(&link[V]{key, v, rest})
	if was {
		return
	}
	if t.count++; t.count > chain*len(t.now.Load().heads) {
		t.grow()
	}
}

func (t *table[V]) remove(key string) {
	at := t.bucket(key)
	rest, was := cut(at.Load(), key)
	if was {
		at.Store(rest)
		t.count--
	}
}

func (t *table[V]) bucket(key string) *atomic.Pointer[link[V]] {
	b := t.now.Load()
	if b == nil {
		b = newBuckets[V](leastBits)
		t.now.Store(b)
	}
	return &b.heads[hash(t.seed, key)>>b.shift]
}

// cut is a chain without a key, and whether that was in it.
func cut[V any](l *link[V], key string) (rest *link[V], was bool) {
	switch {
	case l == nil:
		return nil, false
	case l.key == key:
		return l.next, true
	}
	next, was := cut(l.next, key)
	if !was {
		return l, false
	}
	return &link[V]{l.key, l.value, next}, true
}

// grow doubles the table, in which nobody reads before it is complete.
func (t *table[V]) grow() {
	old := t.now.Load()
	if old.shift <= 64-mostBits {
		return
	}
	b := newBuckets[V](64 - old.shift + 1)
	for i := range old.heads {
		for l := old.heads[i].Load(); l != nil; l = l.next {
			at := &b.heads[hash(t.seed, l.key)>>b.shift]
			at.Store(&link[V]{l.key, l.value, at.Load()})
		}
	}
	t.now.Store(b)
}

func (t *table[V]) each(f func(V)) {
	b := t.now.Load()
	if b == nil {
		return
	}
	for i := range b.heads {
		for l := b.heads[i].Load(); l != nil; l = l.next {
			f(l.value)
		}
	}
}
