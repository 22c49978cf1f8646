package control

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A queue of any length is a list in the order of first arrival, in which each key finds its own.
func TestRecordQueueIsAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q recordQueue
		var oracle []waiting
		place := func(key recordKey) int {
			return slices.IndexFunc(oracle, func(w waiting) bool { return w.key == key })
		}
		keys := rapid.IntRange(1, 4*fewRecords).Draw(t, "keys")
		for step := range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.IntRange(0, 20).Draw(t, "drop") == 0 && len(oracle) > 0 {
				n := rapid.IntRange(1, len(oracle)).Draw(t, "n")
				q.drop(n)
				oracle = oracle[n:]
			} else {
				n := rapid.IntRange(0, keys).Draw(t, "key")
				w := waiting{key: recordKey{name: fmt.Sprint(n % 7), key: fmt.Sprint(n)}, version: uint64(step)}
				if at, old := place(w.key), q.find(w.key); (old == nil) != (at < 0) {
					t.Fatalf("found %v, it is at %d", old, at)
				} else if old == nil {
					q.add(w)
					oracle = append(oracle, w)
				} else {
					*old, oracle[at] = w, w
				}
			}
			if !slices.Equal(q.items, oracle) {
				t.Fatalf("%+v, want %+v", q.items, oracle)
			}
			for n := range keys + 1 {
				key := recordKey{name: fmt.Sprint(n % 7), key: fmt.Sprint(n)}
				at, got := place(key), q.find(key)
				if (got == nil) != (at < 0) || got != nil && *got != oracle[at] {
					t.Fatalf("found %v, it is at %d", got, at)
				}
			}
		}
	})
}
