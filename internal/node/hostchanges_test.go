package node

import (
	"testing"
	"time"
)

// Nothing is looked at twice as long as the kernel tells of no change, but for once a
// minute; where it cannot tell, always.
func TestHostChanges(t *testing.T) {
	now := time.Unix(1000, 0)
	deaf := &hostChanges{fd: -1}
	for range 2 {
		if !deaf.any(now) {
			t.Error("not looked although nobody tells")
		}
	}
	h := watchHost()
	defer h.close()
	if h.fd < 0 {
		t.Skip("the kernel does not tell of changes of addresses")
	}
	if !h.any(now) {
		t.Error("never looked yet")
	}
	if n := testing.AllocsPerRun(100, func() { h.any(now) }); n > 0 {
		t.Errorf("%v allocations to find nothing", n)
	}
	if !h.any(now.Add(lookAnyway)) {
		t.Error("not looked for too long")
	}
	h.close()
	if !h.any(now.Add(lookAnyway)) {
		t.Error("believed a socket that is closed")
	}
}
