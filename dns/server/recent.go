package server

import "container/list"

// recent is a map that knows which of its keys was used least recently. Nothing
// it does depends on how many there are. It is not safe for concurrent use; the
// zero recent is empty.
type recent[K comparable, V any] struct {
	order list.List // of pair[K, V], the one used last in front
	at    map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func (r *recent[K, V]) len() int { return r.order.Len() }

// get finds a value and counts as a use of its key.
func (r *recent[K, V]) get(k K) (v V, ok bool) {
	e := r.at[k]
	if e == nil {
		return v, false
	}
	r.order.MoveToFront(e)
	return e.Value.(pair[K, V]).value, true
}

func (r *recent[K, V]) put(k K, v V) {
	if r.at == nil {
		r.at = map[K]*list.Element{}
	}
	if e := r.at[k]; e != nil {
		e.Value = pair[K, V]{k, v}
		r.order.MoveToFront(e)
		return
	}
	r.at[k] = r.order.PushFront(pair[K, V]{k, v})
}

// remove takes a key away and returns what it stood for.
func (r *recent[K, V]) remove(k K) (v V, ok bool) {
	e := r.at[k]
	if e == nil {
		return v, false
	}
	delete(r.at, k)
	return r.order.Remove(e).(pair[K, V]).value, true
}

// evict removes the key that was used least recently.
func (r *recent[K, V]) evict() (v V, ok bool) {
	e := r.order.Back()
	if e == nil {
		return v, false
	}
	return r.remove(e.Value.(pair[K, V]).key)
}
