package session

import "golang.zx2c4.com/wireguard/replay"

// earlyMessages are those that a window remembers by itself.
const earlyMessages = 1024

// window tells which messages were seen before, as replay.Filter does, but takes the kilobyte of one only when a message
// comes that is not among the first earlyMessages. Most keypairs of a large network never see one. The zero value is an
// empty window; it is not safe for concurrent use.
type window struct {
	early [earlyMessages / 64]uint64 // a bit for each that was seen
	full  *replay.Filter
}

// fresh reports whether the message with a counter was not seen, is not too old to tell and below the limit, and notes it.
func (w *window) fresh(counter, limit uint64) bool {
	if w.full != nil {
		return w.full.ValidateCounter(counter, limit)
	}
	if counter >= limit {
		return false
	}
	if counter >= earlyMessages {
		w.grow(limit)
		return w.full.ValidateCounter(counter, limit)
	}
	word, bit := &w.early[counter/64], uint64(1)<<(counter%64)
	seen := *word&bit != 0
	*word |= bit
	return !seen
}

// grow has the window go on as a filter.
func (w *window) grow(limit uint64) {
	w.full = new(replay.Filter)
	for i := range uint64(earlyMessages) {
		if w.early[i/64]&(1<<(i%64)) != 0 {
			w.full.ValidateCounter(i, limit)
		}
	}
}
