package host

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"weave/stack"
)

// packet is a frame behind a zero header.
func packet(frame []byte) []byte { return append(make([]byte, HeaderLen), frame...) }

// write gives a port a packet in parts of odd sizes.
func write(t testing.TB, p *Port, b []byte) {
	t.Helper()
	parts := [][]byte{b[:min(HeaderLen+3, len(b))], b[min(HeaderLen+3, len(b)):min(40, len(b))], b[min(40, len(b)):]}
	if len(b) < 40 {
		parts = [][]byte{b}
	}
	if err := p.WriteV(parts); err != nil {
		t.Fatal(err)
	}
}

// next reads a packet that the host sends.
func next(t testing.TB, p *Port) []byte {
	t.Helper()
	buf := make([]byte, MaxPacket)
	var n int
	eventually(t, "a packet from the host", func() bool {
		var err error
		if n, err = p.TryRead(buf); err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
	return buf[:n]
}

// silent reports whether the host has nothing to send.
func silent(t testing.TB, p *Port) bool {
	t.Helper()
	n, err := p.TryRead(make([]byte, MaxPacket))
	if err != nil {
		t.Fatal(err)
	}
	return n == 0
}

var peerMAC = linkAddress(net.HardwareAddr{2, 0, 0, 0, 0, 9})

// arpRequest asks for an address on behalf of 10.32.0.9.
func arpRequest(about netip.Addr) []byte {
	f := arpAnnouncement(peerMAC, netip.MustParseAddr("10.32.0.9"))
	copy(header.ARP(f[etherLen:]).ProtocolAddressTarget(), about.AsSlice())
	return f
}

func TestAnswersForItsAddressesOnly(t *testing.T) {
	h := newHost(t, 1, Config{}, addrA)
	p := h.Port()
	if got := next(t, p)[HeaderLen:]; !bytes.Equal(got, arpAnnouncement(h.link.mac, addrA.Addr())) {
		t.Errorf("announcement: % x", got)
	}
	write(t, p, packet(arpRequest(addrA.Addr())))
	if arp := header.ARP(next(t, p)[HeaderLen+etherLen:]); arp.Op() != header.ARPReply || string(arp.HardwareAddressSender()) != string(h.link.mac) {
		t.Errorf("answer: % x", arp)
	}
	write(t, p, packet(arpRequest(addrB.Addr())))
	if err := h.EnableEgress(EgressConfig{}); err != nil {
		t.Fatal(err)
	}
	write(t, p, packet(arpRequest(addrB.Addr())))
	if !silent(t, p) {
		t.Error("answered for somebody else")
	}
	other := packet(arpRequest(addrA.Addr()))
	copy(other[HeaderLen:], "\x02somwh")
	write(t, p, other)
	if !silent(t, p) {
		t.Error("answered a frame for another MAC")
	}
	if n := h.Stats().DroppedOthers; n != 3 {
		t.Errorf("%d dropped, want 3", n)
	}
	if err := h.RemoveAddress(addrA.Addr()); err != nil {
		t.Fatal(err)
	}
	write(t, p, packet(arpRequest(addrA.Addr())))
	if !silent(t, p) {
		t.Error("answered for an address that is gone")
	}
}

func TestAddresses(t *testing.T) {
	h := newHost(t, 1, Config{}, addrA, addrA6)
	for _, bad := range []string{"224.0.0.1/4", "0.0.0.0/0", "127.0.0.1/8", "::ffff:10.0.0.1/128"} {
		if err := h.AddAddress(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if err := h.AddAddress(netip.Prefix{}); err == nil {
		t.Error("no address: no error")
	}
	if err := h.RemoveAddress(addrB.Addr()); err == nil {
		t.Error("removing what is not there: no error")
	}
	if err := h.SetDefaultRoute(netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Error("a gateway that is nowhere: no error")
	}
	wider := netip.MustParsePrefix("10.32.0.1/8")
	if err := h.AddAddress(wider); err != nil {
		t.Fatal(err)
	}
	if got := h.Addresses(); len(got) != 2 || got[0] != addrA6 || got[1] != wider {
		t.Errorf("addresses %v", got)
	}
}

// A container that was started anew has another MAC at once, without the half minute that neighbour entries live.
func TestHeedsAnnouncements(t *testing.T) {
	w := &wire{}
	var pumps sync.WaitGroup
	t.Cleanup(pumps.Wait)
	a, old, fresh := newHost(t, 1, Config{}, addrA), newHost(t, 2, Config{}, addrB), newHost(t, 3, Config{})
	pumps.Go(func() { w.pump(a.Port(), old.Port(), fresh.Port()) })
	pumps.Go(func() { w.pump(old.Port(), a.Port()) })
	pumps.Go(func() { w.pump(fresh.Port(), a.Port()) })
	p, err := a.NewPinger(addrB.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Echo(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	old.Close()
	if err := fresh.AddAddress(addrB); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	eventually(t, "the old neighbour to be forgotten", func() bool { return a.knows(addrB.Addr()) != old.link.mac })
	if _, err := p.Echo(testContext(t), 1); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 8*time.Second {
		t.Errorf("took %v", d)
	}
}

// A super-frame of UDP is several datagrams, and arrives as such.
func TestUDPSuperFrames(t *testing.T) {
	for _, f := range families {
		a, b, w := pair(t, Config{})
		pc, err := b.ListenUDP(netip.AddrPortFrom(f.b, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		big := make(chan []byte, 1)
		w.setHook(func(p []byte) bool {
			if len(p) < 1000 {
				return true
			}
			big <- bytes.Clone(p)
			return false
		})
		c, err := a.DialUDP(testContext(t), netip.AddrPortFrom(f.b, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		data := randomBytes(1200)
		_, _ = c.Write(data)
		super := <-big
		super[1] = gsoUDP
		binary.NativeEndian.PutUint16(super[4:], 500)
		write(t, b.Port(), super)
		buf := make([]byte, 2000)
		for _, want := range [][]byte{data[:500], data[500:1000], data[1000:]} {
			_ = pc.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, _, err := pc.ReadFrom(buf); err != nil || !bytes.Equal(buf[:n], want) {
				t.Fatalf("%s: got %d bytes, %v, want %d", f.name, n, err, len(want))
			}
		}
	}
}

// The header of a super-frame is what a TAP wants (virtio 1.2, section 5.1.6).
func TestSuperFrameHeader(t *testing.T) {
	a, b, w := pair(t, Config{MTU: 1376})
	heads := make(chan []byte, 1)
	w.setHook(func(p []byte) bool {
		if p[1] != gsoNone {
			select {
			case heads <- bytes.Clone(p[:HeaderLen+100]):
			default:
			}
		}
		return true
	})
	at := listenOverlay(t, b, addrB.Addr(), echo)
	c, err := a.DialTCP(testContext(t), at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c, randomBytes(1<<20))
	head := <-heads
	// flags, type, length of the headers (12 bytes of TCP options), size of a segment (netstack leaves room for 40 of them),
	// where the checksum starts and lies
	want := []byte{1, gsoTCP4}
	for _, v := range []uint16{14 + 20 + 32, 1376 - 20 - 20 - 40, 34, 16} {
		want = binary.NativeEndian.AppendUint16(want, v)
	}
	if !bytes.Equal(head[:HeaderLen], want) {
		t.Errorf("header %s, want %s", hex.EncodeToString(head[:HeaderLen]), hex.EncodeToString(want))
	}
}

func TestPortPollsAndEnds(t *testing.T) {
	h := newHost(t, 1, Config{})
	readable := func() bool {
		var n int
		_ = h.Port().Control(func(fd uintptr) { n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) })
		return n > 0
	}
	for range 3 {
		if !silent(t, h.Port()) || readable() {
			t.Fatal("readable, and nothing there")
		}
		h.announce(addrA.Addr())
		h.announce(addrA.Addr())
		if !readable() {
			t.Fatal("two packets, and not readable")
		}
		next(t, h.Port())
		if !readable() {
			t.Fatal("one packet left, and not readable")
		}
		next(t, h.Port())
	}
	for range queuePackets + 5 {
		h.announce(addrA.Addr())
	}
	if s := h.Stats(); s.DroppedQueueFull != 5 {
		t.Errorf("%d dropped, want 5", s.DroppedQueueFull)
	}
	if n, err := h.Port().TryRead(make([]byte, 20)); n != 0 || err != nil || h.Stats().DroppedTooBig != queuePackets {
		t.Errorf("a buffer too small: %d, %v, %+v", n, err, h.Stats())
	}
	h.Close()
	if !readable() {
		t.Error("who polls is not woken by the end")
	}
	if _, err := h.Port().TryRead(make([]byte, MaxPacket)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if err := h.Port().WriteV([][]byte{packet(arpRequest(addrA.Addr()))}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{}, {MAC: net.HardwareAddr{1, 0, 0, 0, 0, 1}}, {MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 100}} {
		if h, err := New(cfg); err == nil {
			h.Close()
			t.Errorf("%+v: no error", cfg)
		}
	}
}

// Three hosts on a real switch: unicast goes to one, and broadcast to all.
func TestOnASwitch(t *testing.T) {
	sw := stack.NewSwitch(stack.Config{})
	ports := map[stack.Port]*Port{}
	var hosts []*Host
	var pumps sync.WaitGroup
	t.Cleanup(pumps.Wait)
	for i := range byte(3) {
		h := newHost(t, i+1, Config{}, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, 0, i + 1}), 12))
		hosts = append(hosts, h)
		ports[stack.Port(i+1)] = h.Port()
		sw.AddPort(stack.Port(i+1), stack.Local)
	}
	for number, p := range ports {
		w := &wire{}
		w.setHook(func(b []byte) bool {
			v := sw.Decide(0, b[HeaderLen:], number)
			switch v.Action {
			case stack.Unicast:
				_ = ports[v.Out].WriteV([][]byte{b})
			case stack.Flood, stack.Group:
				for _, out := range v.Ports.Local() {
					_ = ports[out].WriteV([][]byte{b})
				}
			}
			return false
		})
		pumps.Go(func() { w.pump(p) })
	}
	at := listenOverlay(t, hosts[2], netip.MustParseAddr("10.32.0.3"), echo)
	for _, h := range hosts[:2] {
		c, err := h.DialTCP(testContext(t), at)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c, randomBytes(4<<20))
		c.Close()
	}
	if n := hosts[1].Stats().ReceivedBytes; n > 6<<20 {
		t.Errorf("a host received %d bytes: others' too", n)
	}
}

// knows is the MAC that a host has for a neighbour.
func (h *Host) knows(a netip.Addr) tcpip.LinkAddress {
	entries, _ := h.stack.Neighbors(nicID, protocolOf(a))
	for _, e := range entries {
		if fromAddress(e.Addr) == a {
			return e.LinkAddr
		}
	}
	return ""
}
