package netlink

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	vnl "github.com/vishvananda/netlink"

	"weave/runtime"
)

// Where the kernel has no WireGuard, that is said, and nothing is left of the attempt. Where it has, the device is there, until the
// kernel path is made without. netns-tests/vm/guest does more with one.
func TestWireGuardWhereThereIsNone(t *testing.T) {
	h := host(t)
	h.cfg.Tunnels = filepath.Join(t.TempDir(), "tunnels")
	support := h.WireGuardSupport()
	t.Logf("this kernel: %q", support)
	w, err := h.OpenWireGuard(6785)
	if (err == nil) != (support == "") {
		t.Errorf("%q, but %v", support, err)
	}
	if err != nil && !strings.Contains(support, "no WireGuard") {
		t.Errorf("%q", support)
	}
	if w != nil {
		w.Close()
	}
	f, err := h.OpenFast(FastConfig{Port: fastPort})
	must(t, err)
	f.Close()
	if _, err := os.Lstat(h.cfg.Tunnels); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	if got := links(t, h.space); !slices.Equal(got, []string{"weave", "weave-vx4", "weave-vx6"}) {
		t.Errorf("there are %v", got)
	}
}

// tunnelled gives each of a pair a namespace for tunnels, joined by a cable where WireGuard would be:
//
//	host1 ── weave-vxw · · · 240.x ──── 240.y · · · weave-vxw ── host2
func tunnelled(t *testing.T, s [2]*side) (addrs [2]netip.Addr, ends [2]*WireGuard, reopen func(i int)) {
	t.Helper()
	for i := range ends {
		ends[i] = &WireGuard{h: s[i].Host, name: "weave-wg", space: inside(t, newNamespace(t)), key: [32]byte{byte(i + 1)}}
		addrs[i] = ends[i].Addr()
	}
	v := vnl.NewVeth(vnl.LinkAttrs{Name: "weave-wg", MTU: runtime.TunnelMTU(s[0].MTU())})
	v.PeerName, v.PeerMTU, v.PeerNamespace = "weave-wg", uint32(v.MTU), vnl.NsFd(ends[1].space.file.Fd())
	must(t, ends[0].space.LinkAdd(v))
	reopen = func(i int) {
		s[i].fast.Close()
		f, err := s[i].OpenFast(FastConfig{Port: fastPort, WireGuard: ends[i]})
		must(t, err)
		t.Cleanup(f.Close)
		s[i].fast = f
	}
	for i, e := range ends {
		link, err := e.space.LinkByName("weave-wg")
		must(t, err)
		must(t, e.space.AddrAdd(link, &vnl.Addr{IPNet: ipNet(netip.PrefixFrom(addrs[i], 4))}))
		must(t, e.space.LinkSetUp(link))
		reopen(i)
	}
	return addrs, ends, reopen
}

// VXLAN to tunnel addresses goes through the tunnels' namespace, at full size, beside that to others; a daemon that comes back finds it
// as it was; nobody may send to it, it is down; and without it there is no other way.
func TestFastThroughTunnels(t *testing.T) {
	s := pair(t)
	addrs, ends, reopen := tunnelled(t, s)
	isUp := func() bool {
		link, err := s[0].space.LinkByName("weave-vxw")
		must(t, err)
		return up(link.Attrs())
	}
	if isUp() {
		t.Error("up, and there is nobody")
	}
	for i, at := range s {
		must(t, at.fast.Allow(addrs[1-i:2-i]))
		must(t, at.fast.SetFlood(addrs[1-i], true))
		must(t, at.fast.SetBeat(addrs[1-i], true))
		if len(at.Host.fast.allowed) != 0 {
			t.Errorf("VXLAN is let in from %v", at.Host.fast.allowed)
		}
	}
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) || !crosses(t, s[1], s[0], "10.2.1.1", patience) {
		t.Fatal("nothing crosses")
	}
	heard := make(chan int, 8)
	go func() {
		_ = s[1].fast.Listen(t.Context(), func(f []byte) { heard <- len(f) })
	}()
	must(t, s[0].fast.Beat([]byte("full")))
	select {
	case n := <-heard:
		if n != 14+s[0].MTU() {
			t.Errorf("a beat of %d bytes", n)
		}
	case <-time.After(patience):
		t.Error("no frame of full size came")
	}
	const mtu = 1450
	for i, at := range s {
		at.wireguard = ends[i]
		must(t, at.SetMTU(mtu))
		link, err := ends[i].space.LinkByName("weave-wg")
		must(t, err)
		if link.Attrs().MTU != mtu+50 {
			t.Errorf("the MTU of what carries packets of %d bytes is %d", mtu, link.Attrs().MTU)
		}
	}
	reopen(0)
	if flooded, err := s[0].fast.Flooded(); err != nil || len(flooded) != 1 || flooded[0] != addrs[1] || !isUp() {
		t.Errorf("found again: flooded to %v, %v, up: %v", flooded, err, isUp())
	}
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) {
		t.Error("nothing crosses after a daemon came back")
	}
	must(t, s[0].fast.Allow(nil))
	if isUp() {
		t.Error("still up")
	}
	must(t, s[0].fast.Allow(addrs[1:]))
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) {
		t.Error("nothing crosses after it was down")
	}
	w, err := ends[0].space.LinkByName("weave-wg")
	must(t, err)
	must(t, ends[0].space.LinkDel(w))
	if crosses(t, s[0], s[1], "10.2.1.2", 300*time.Millisecond) {
		t.Error("a frame found another way")
	}
	s[0].fast.Close()
	s[0].open(t) // without WireGuard
	if flooded, err := s[0].fast.Flooded(); err != nil || len(flooded) > 0 {
		t.Errorf("without tunnels: flooded to %v, %v", flooded, err)
	}
	if _, err := s[0].space.LinkByName("weave-vxw"); !gone(err) {
		t.Errorf("the device is there without WireGuard: %v", err)
	}
}

// Where VXLAN over WireGuard cannot be made, the rest of the kernel path works.
func TestFastWithoutTunnels(t *testing.T) {
	h := host(t)
	lost, err := openSpace(newNamespace(t))
	must(t, err)
	lost.close()
	w := &WireGuard{h: h, name: "weave-wg", space: lost, key: [32]byte{1}}
	f, err := h.OpenFast(FastConfig{Port: fastPort, WireGuard: w})
	must(t, err)
	defer f.Close()
	if f.Reaches(w.Addr()) || !f.Reaches(netip.MustParseAddr("10.0.0.2")) {
		t.Error("it reaches tunnel addresses, or no others")
	}
	if got := links(t, h.space); !slices.Equal(got, []string{"weave", "weave-vx4", "weave-vx6"}) {
		t.Errorf("there are %v", got)
	}
}
