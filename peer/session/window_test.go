package session

import (
	"testing"

	"golang.zx2c4.com/wireguard/replay"
	"pgregory.net/rapid"
)

// A window answers as the filter that it puts off, whatever comes when.
func TestWindowIsAFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		var oracle replay.Filter
		limit := uint64(1) << 60
		if rapid.Bool().Draw(t, "low limit") {
			limit = rapid.Uint64Range(0, 3*earlyMessages).Draw(t, "limit")
		}
		counter := rapid.OneOf(
			rapid.Uint64Range(0, 20), rapid.Uint64Range(0, earlyMessages+20), rapid.Uint64Range(earlyMessages-2, earlyMessages+2),
			rapid.Uint64Range(8000, 20_000), rapid.Uint64(),
		)
		grown := false
		for _, c := range rapid.SliceOfN(counter, 1, 300).Draw(t, "counters") {
			if got, want := w.fresh(c, limit), oracle.ValidateCounter(c, limit); got != want {
				t.Fatalf("%d: fresh %v, want %v", c, got, want)
			}
			grown = grown || c >= earlyMessages && c < limit
			if (w.full != nil) != grown {
				t.Fatalf("after %d: a filter %v, want %v", c, w.full != nil, grown)
			}
		}
	})
}
