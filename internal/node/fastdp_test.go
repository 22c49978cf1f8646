package node

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"weave/peer/wire"
	"weave/runtime/netlink"
	"weave/stack"
)

// recorder is a tunnel that notes what is put in.
type recorder struct {
	mu  sync.Mutex
	got map[netlink.Tunnel][][]byte
}

func (r *recorder) Put(by netlink.Tunnel, packet []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got[by] = append(r.got[by], slices.Clone(packet))
	return nil
}

func (r *recorder) count(by netlink.Tunnel) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got[by])
}

// Frames to one station behind a peer that is on the kernel path go into the tunnel, whole and once; frames for everybody
// are not ours to send. What is in the TAP's queue before a drain is forwarded after it.
func TestKernelPeers(t *testing.T) {
	a, _, inA, inB := newPair(t, true)
	r := &recorder{got: map[netlink.Tunnel][][]byte{}}
	a.dp.tunnel = r // nobody looks before a peer's exit says so
	port := firstRemotePort
	a.dp.table.Load().remote(port).exit.Store(uint32(exitTunnel + exit(netlink.TunnelIPv6)))
	a.dp.sw.Bypass(port, true)

	const frames = 100
	for i := range frames {
		must(t, inA.WriteFrame(frame(9, 1, []byte{byte(i)}))) // an unknown station
	}
	a.dp.drain()
	if n := r.count(netlink.TunnelIPv6); n != frames || r.count(netlink.TunnelIPv4) != 0 {
		t.Fatalf("%d of %d frames in the tunnel after a drain, %d in the other", n, frames, r.count(netlink.TunnelIPv4))
	}
	if got := r.got[netlink.TunnelIPv6][7]; !bytes.Equal(got[wire.VnetLen:], frame(9, 1, []byte{7})) {
		t.Errorf("put in: %x", got)
	}
	all := frame(0xff, 1, []byte("all"))
	must(t, inA.WriteFrame(all))
	a.dp.drain()
	if n := r.count(netlink.TunnelIPv6); n != frames {
		t.Error("a broadcast was put into the tunnel")
	}

	a.dp.table.Load().remote(port).exit.Store(uint32(exitSession))
	a.dp.sw.Bypass(port, false)
	must(t, inA.WriteFrame(all))
	if got := read(t, inB)[wire.VnetLen:]; !bytes.Equal(got, all) {
		t.Errorf("the peer got %x first: something went its way before", got)
	}
}

// Whoever sends more than the receiver takes is told, or it is cut.
func TestReceiverTakesLess(t *testing.T) {
	a, _, inA, inB := newPair(t, true)
	a.dp.table.Load().remote(firstRemotePort).takes.Store(600)
	// The switch has to know the station, or the frame is for everybody.
	a.dp.sw.Decide(a.dp.stamp(), frame(1, 9, nil), firstRemotePort)
	ip := make([]byte, 700)
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, 17
	f := frame(9, 1, ip)
	f[12], f[13] = 8, 0
	must(t, inA.WriteFrame(f))
	got := stack.Frame(read(t, inA)[wire.VnetLen:])
	if p := got.Payload(); got.Dst() != stack.Frame(f).Src() || len(p) < 28 || p[9] != 1 || p[20] != 3 || p[21] != 4 || p[26] != 600>>8 || p[27] != 600&0xff {
		t.Errorf("the sender got %x", []byte(got))
	}
	ip[6] = 0 // may be cut
	ip[2], ip[3] = 700>>8, 700&0xff
	copy(f[14:], ip)
	must(t, inA.WriteFrame(f))
	for _, want := range []int{596, 124} { // 20 and 8 times 72, 20 and the rest
		if p := stack.Frame(read(t, inB)[wire.VnetLen:]).Payload(); len(p) != want {
			t.Errorf("a piece of %d bytes, not %d", len(p), want)
		}
	}
	small := append([]byte{}, f[:600]...)
	must(t, inA.WriteFrame(small))
	if got := read(t, inB)[wire.VnetLen:]; !bytes.Equal(got, small) {
		t.Errorf("the receiver got %x", got)
	}
}

// TCP is had to send what the path takes whole.
func TestTCPFitsPath(t *testing.T) {
	a, _, inA, inB := newPair(t, true)
	to := a.dp.table.Load().remote(firstRemotePort)
	small := *to.path.Load()
	small.limit = 600 + wire.FrameOverhead
	a.dp.sw.Decide(a.dp.stamp(), frame(1, 9, nil), firstRemotePort)
	ip := make([]byte, 44)
	ip[0], ip[3], ip[6], ip[8], ip[9] = 0x45, 44, 0x40, 64, 6
	copy(ip[20+12:], []byte{6 << 4, 2})
	copy(ip[40:], []byte{2, 4, 1460 >> 8, 1460 & 0xff})
	f := frame(9, 1, ip)
	f[12], f[13] = 8, 0
	var got []byte
	eventually(t, func() bool { // the session loop may put its own path back meanwhile: that frame says nothing
		to.path.Store(&small)
		must(t, inA.WriteFrame(f))
		got = stack.Frame(read(t, inB)[wire.VnetLen:]).Payload()
		return to.path.Load() == &small
	})
	if mss := int(got[42])<<8 | int(got[43]); mss != 560 {
		t.Errorf("the receiver may send segments of %d bytes", mss)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
