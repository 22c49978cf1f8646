package session

import (
	"encoding/binary"
	"time"

	"golang.zx2c4.com/wireguard/tai64n"
)

// TAI64N labels (https://cr.yp.to/libtai/tai64.html): seconds since 1970 TAI plus 2^62, then nanoseconds, big endian.
// Like WireGuard, it takes TAI to be UTC + 10 s and blurs the nanoseconds, so that little is told about our clock.
const (
	taiBase  = 1<<62 + 10
	taiBlur  = 1 << 24
	taiNanos = 8 // where the nanoseconds begin
)

// timestampAt is tai64n.Now for a given moment, which that package does not offer.
func timestampAt(at time.Time) (out tai64n.Timestamp) {
	binary.BigEndian.PutUint64(out[:], taiBase+uint64(at.Unix()))
	binary.BigEndian.PutUint32(out[taiNanos:], uint32(at.Nanosecond())&^(taiBlur-1))
	return out
}

// timestamp is for the next initiation to the peer: later than any before, even if the wall clock was set back.
func (p *peer) timestamp(wall time.Time) tai64n.Timestamp {
	for p.stamped.Equal(wall) || !timestampAt(wall).After(timestampAt(p.stamped)) {
		wall = p.stamped.Add(taiBlur)
	}
	p.stamped = wall
	return timestampAt(wall)
}
