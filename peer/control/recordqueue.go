package control

import "weave/peer/wire"

// recordQueue is the records that wait on one connection: one of each peer and key, in the order in which the first of each
// came. Mostly one or two wait, for which a map, five hundred bytes each time, would be most of what the message takes. The
// zero value is empty.
//
//	few: looked through        many: found by index
type recordQueue struct {
	items []waiting
	first int               // how many left before items[0] did
	index map[recordKey]int // which of all it was that came; nil while there are few
}

// waiting is one record.
type waiting struct {
	key     recordKey
	record  *wire.SignedRecord
	version uint64
	bytes   int
}

// fewRecords is how many are looked through.
const fewRecords = 16

// find is the record that waits under a key, nil if none does. It is valid until the queue changes.
func (q *recordQueue) find(key recordKey) *waiting {
	if q.index != nil {
		if at, ok := q.index[key]; ok {
			return &q.items[at-q.first]
		}
		return nil
	}
	for i := range q.items {
		if q.items[i].key == key {
			return &q.items[i]
		}
	}
	return nil
}

// add appends a record under a key for which none waits.
func (q *recordQueue) add(w waiting) {
	q.items = append(q.items, w)
	switch {
	case q.index != nil:
		q.index[w.key] = q.first + len(q.items) - 1
	case len(q.items) > fewRecords:
		q.index = make(map[recordKey]int, 2*len(q.items))
		for i := range q.items {
			q.index[q.items[i].key] = q.first + i
		}
	}
}

// drop takes the oldest n away.
func (q *recordQueue) drop(n int) {
	if n == len(q.items) {
		*q = recordQueue{}
		return
	}
	for i := range q.items[:n] {
		if q.index != nil {
			delete(q.index, q.items[i].key)
		}
		q.items[i] = waiting{}
	}
	q.items, q.first = q.items[n:], q.first+n
}
