package netlink

import (
	"testing"
	"time"
)

// Nothing is looked at twice as long as the kernel tells of no change, but for once a
// minute; where it cannot tell, always.
func TestHostChanges(t *testing.T) {
	now := time.Unix(1000, 0)
	deaf := &HostChanges{fd: -1}
	for range 2 {
		if !deaf.Any(now) {
			t.Error("not looked although nobody tells")
		}
	}
	h := WatchHost()
	defer h.Close()
	if h.fd < 0 {
		t.Skip("the kernel does not tell of changes of addresses")
	}
	if !h.Any(now) {
		t.Error("never looked yet")
	}
	if n := testing.AllocsPerRun(100, func() { h.Any(now) }); n > 0 {
		t.Errorf("%v allocations to find nothing", n)
	}
	if !h.Any(now.Add(lookAnyway)) {
		t.Error("not looked for too long")
	}
	h.Close()
	if !h.Any(now.Add(lookAnyway)) {
		t.Error("believed a socket that is closed")
	}
}
