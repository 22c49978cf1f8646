package netlink

import "testing"

// What TCP makes of the size, as the kernel computes it (tcp_bound_to_half_wnd
// aside), fits one send, and one packet more would not.
func TestSuperFramesFitOneSend(t *testing.T) {
	const header = 320 // MAX_TCP_HEADER of common kernels
	for mtu := 576; mtu <= 9000; mtu++ {
		size, payload := superFrame(mtu), mtu-perPacket
		packets := (size - header - 1) / payload
		sent := packets * (mtu + perSegment)
		if sent > longestRun || sent+mtu+perSegment <= longestRun {
			t.Fatalf("mtu %d: %d packets make %d bytes", mtu, packets, sent)
		}
		if size >= 1<<16 {
			t.Fatalf("mtu %d: %d is more than the kernel's own", mtu, size)
		}
	}
	if superFrame(65535) != 0 || superFrame(0) != 0 {
		t.Error("a size where none is of use")
	}
}
