package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

const fastPort = 6784

// side is one host of a pair, with a container.
type side struct {
	*Host
	fast *Fast
	in   *space // the container
}

// pair makes two hosts joined by a cable, with a container each:
//
//	c1 10.2.1.1 ── weave ── host1 10.0.0.1, fd::1 ──── host2 10.0.0.2, fd::2 ── weave ── 10.2.1.2 c2
func pair(t *testing.T) [2]*side {
	t.Helper()
	s := [2]*side{{Host: host(t)}, {Host: host(t)}}
	v := vnl.NewVeth(vnl.LinkAttrs{Name: "eth0"})
	v.PeerName, v.PeerNamespace = "eth0", vnl.NsFd(s[1].space.file.Fd())
	must(t, s[0].space.LinkAdd(v))
	for i, at := range s {
		at.Host.cfg.MAC[5] = byte(i)
		link, err := at.space.LinkByName("eth0")
		must(t, err)
		for _, a := range []string{fmt.Sprintf("10.0.0.%d/24", i+1), fmt.Sprintf("fd00::%d/64", i+1)} {
			must(t, at.space.AddrAdd(link, &vnl.Addr{IPNet: ipNet(netip.MustParsePrefix(a)), Flags: unix.IFA_F_NODAD}))
		}
		must(t, at.space.LinkSetUp(link))
		target := resolved(t, at.Host, newNamespace(t))
		attach(t, at.Host, attachment(target, fmt.Sprintf("10.2.1.%d/24", i+1)))
		at.in = inside(t, target.Path)
		at.open(t)
	}
	return s
}

func (s *side) open(t *testing.T) {
	t.Helper()
	f, err := s.OpenFast(FastConfig{Port: fastPort})
	must(t, err)
	t.Cleanup(f.Close)
	s.fast = f
}

// onPath puts each on the path to the other.
func onPath(t *testing.T, s [2]*side, v6 bool) [2]netip.Addr {
	t.Helper()
	addrs := [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	if v6 {
		addrs = [2]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}
	}
	for i, at := range s {
		must(t, at.fast.Allow(addrs[1-i:2-i]))
		must(t, at.fast.SetFlood(addrs[1-i], true))
		must(t, at.fast.SetBeat(addrs[1-i], true))
		must(t, at.fast.SetBeat(addrs[1-i], true)) // twice is once
	}
	return addrs
}

// crosses tells whether a datagram gets from one container to the other within a time.
func crosses(t *testing.T, from, to *side, dst string, wait time.Duration) bool {
	t.Helper()
	in, out := listenUDP(t, to.in, "0.0.0.0"), listenUDP(t, from.in, "0.0.0.0")
	defer in.Close()
	defer out.Close()
	end := time.Now().Add(wait)
	for time.Now().Before(end) {
		if _, err := out.WriteToUDP([]byte("hello"), &net.UDPAddr{IP: net.ParseIP(dst), Port: 7000}); err != nil && !errors.Is(err, unix.EHOSTUNREACH) {
			t.Fatal(err)
		}
		must(t, in.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if n, _, err := in.ReadFromUDP(make([]byte, 10)); err == nil && n == 5 {
			return true
		}
	}
	return false
}

func TestFastCarries(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "over IPv4", true: "over IPv6"}[v6], func(t *testing.T) {
			s := pair(t)
			if crosses(t, s[0], s[1], "10.2.1.2", 300*time.Millisecond) {
				t.Fatal("a frame crossed before anybody was on the path")
			}
			addrs := onPath(t, s, v6)
			if !crosses(t, s[0], s[1], "10.2.1.2", patience) || !crosses(t, s[1], s[0], "10.2.1.1", patience) {
				t.Fatal("nothing crosses")
			}
			flooded, err := s[0].fast.Flooded()
			must(t, err)
			if !slices.Equal(flooded, addrs[1:]) {
				t.Errorf("flooded to %v", flooded)
			}

			// A daemon that comes back finds all as it was, and meanwhile frames go on.
			s[0].fast.Close()
			if !crosses(t, s[0], s[1], "10.2.1.2", patience) {
				t.Error("nothing crosses while nobody has the devices open")
			}
			before := links(t, s[0].space)
			s[0].open(t)
			if !crosses(t, s[1], s[0], "10.2.1.1", patience) || !slices.Equal(links(t, s[0].space), before) {
				t.Error("the devices were not adopted")
			}

			// Who is let in no more is heard no more, although it sends.
			must(t, s[1].fast.Allow([]netip.Addr{netip.MustParseAddr("10.0.0.77"), netip.MustParseAddr("fd00::77")}))
			if crosses(t, s[0], s[1], "10.2.1.2", 300*time.Millisecond) {
				t.Error("a frame came in from a host that is not allowed")
			}
			must(t, s[0].Reset())
			if left := links(t, s[0].space); len(left) != 1 {
				t.Errorf("left after a reset: %v", left)
			}
		})
	}
}

func TestFastBeats(t *testing.T) {
	s := pair(t)
	onPath(t, s, false)
	got := make(chan []byte, 8)
	go func() {
		_ = s[1].fast.Listen(t.Context(), func(f []byte) { got <- slices.Clone(f) })
	}()
	// A container that listens to everything hears none of it.
	var tap int
	must(t, s[1].in.run(func() (err error) {
		link, err := s[1].in.LinkByName(runtime.Inner)
		if err != nil {
			return err
		}
		tap, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return unix.Bind(tap, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Protocol: 0x0300})
	}))
	defer unix.Close(tap)
	must(t, s[0].fast.Beat([]byte("beat")))
	select {
	case f := <-got:
		if len(f) != 14+runtime.DefaultMTU || string(f[14:18]) != "beat" {
			t.Errorf("got %d bytes: %q", len(f), f[:20])
		}
	case <-time.After(patience):
		t.Fatal("the beat did not come")
	}
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) { // and so would the beat have by now
		t.Fatal("nothing crosses")
	}
	buf := make([]byte, 2000)
	for n, err := unix.Read(tap, buf); err == nil; n, err = unix.Read(tap, buf) {
		if n > 14 && buf[12] == beatType>>8 && buf[13] == beatType&0xff {
			t.Error("a beat reached the container")
		}
	}
}

// What was learnt by frames is forgotten, and what is told is as good as learnt.
func TestFastLearns(t *testing.T) {
	s := pair(t)
	addrs := onPath(t, s, false)
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) {
		t.Fatal("nothing crosses")
	}
	inner, err := s[1].in.LinkByName(runtime.Inner)
	must(t, err)
	known := func(self bool) bool {
		list, err := retry(func() ([]vnl.Neigh, error) {
			return s[0].space.NeighList(s[0].fast.tunnels[0].link.Attrs().Index, unix.AF_BRIDGE)
		})
		must(t, err)
		return slices.ContainsFunc(list, func(e vnl.Neigh) bool {
			return slices.Equal(e.HardwareAddr, inner.Attrs().HardwareAddr) && (e.Flags&unix.NTF_SELF != 0) == self
		})
	}
	if !known(true) || !known(false) {
		t.Fatal("the other container was not learnt")
	}
	must(t, s[0].fast.Allow([]netip.Addr{netip.MustParseAddr("10.0.0.77")})) // or whatever comes would be learnt anew
	must(t, s[0].fast.SetFlood(addrs[1], false))
	must(t, s[0].fast.Forget(addrs[1]))
	if known(true) || known(false) {
		t.Error("the other container was not forgotten")
	}
	if crosses(t, s[0], s[1], "10.2.1.2", 300*time.Millisecond) {
		t.Error("a frame crossed to a host that is left")
	}
	must(t, s[0].fast.Allow(addrs[1:]))
	must(t, s[0].fast.Learn([6]byte(inner.Attrs().HardwareAddr), addrs[1]))
	if !known(true) || !known(false) || !crosses(t, s[0], s[1], "10.2.1.2", patience) {
		t.Error("telling is not as good as learning")
	}
}

// Rules that somebody flushes come back, with whom they let in.
func TestFastGuardKept(t *testing.T) {
	s := pair(t)
	addrs := onPath(t, s, false)
	go func() { _ = s[1].WatchRules(t.Context()) }()
	conn, err := s[1].netfilter()
	must(t, err)
	defer func() { _ = conn.CloseLasting() }()
	conn.FlushRuleset()
	must(t, conn.Flush())
	var seen guardSeen
	for end := time.Now().Add(patience); time.Now().Before(end) && !seen.whole; {
		s[1].mu.Lock()
		seen, err = s[1].lookAtGuard()
		s[1].mu.Unlock()
		must(t, err)
	}
	if !seen.whole || !slices.Equal(seen.allowed, addrs[:1]) {
		t.Errorf("after a flush: %+v", seen)
	}
	s[1].RemoveFast()
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	must(t, err)
	if slices.ContainsFunc(tables, func(n *nftables.Table) bool { return strings.HasSuffix(n.Name, guardSuffix) }) {
		t.Error("the rules outlived the devices")
	}
}

// Tunnels' packets are kept out of the tracking of connections where there is any, and pass no chain for it where there is none.
func TestFastKeptOutOfTracking(t *testing.T) {
	s := pair(t)
	onPath(t, s, false)
	conn, err := s[0].netfilter()
	must(t, err)
	defer func() { _ = conn.CloseLasting() }()
	chains := func() (names []string) {
		all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
		must(t, err)
		for _, c := range all {
			if strings.HasSuffix(c.Table.Name, guardSuffix) {
				names = append(names, c.Name)
			}
		}
		return slices.Sorted(slices.Values(names))
	}
	must(t, s[0].keepRules())
	if got := chains(); !slices.Equal(got, []string{"input"}) {
		t.Errorf("where nothing is tracked: %q", got)
	}
	expose(t, s[0].Host, nil, "10.2.1.9/24") // translates addresses
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) {
		t.Fatal("nothing crosses")
	}
	must(t, s[0].keepRules())
	if got := chains(); !slices.Equal(got, []string{"input", "output", "prerouting"}) {
		t.Errorf("where connections are tracked: %q", got)
	}
}

func TestFastPortTaken(t *testing.T) {
	h := host(t)
	must(t, h.space.run(func() error {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: fastPort})
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	}))
	_, err := h.OpenFast(FastConfig{Port: fastPort})
	if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), "6784") {
		t.Errorf("got %v", err)
	}
	if left := links(t, h.space); !slices.Equal(left, []string{"weave"}) {
		t.Errorf("left behind: %v", left)
	}
}

// The MTU of all that is there changes, and frames of the new size cross.
func TestSetMTU(t *testing.T) {
	s := pair(t)
	onPath(t, s, false)
	const mtu = 1450
	for i, at := range s {
		must(t, at.SetMTU(mtu))
		target := runtime.Target{Kind: runtime.ByPath, Text: at.in.file.Name(), Path: at.in.file.Name(), ID: at.in.id}
		must(t, at.Resize(t.Context(), attachment(target, fmt.Sprintf("10.2.1.%d/24", i+1)), mtu))
		seen := inspect(t, at.Host, target)
		if seen.MTU != mtu || seen.Port.MTU != mtu || len(seen.Addresses) != 1 {
			t.Errorf("resized to %+v", seen)
		}
		for _, name := range []string{"weave", "weave-vx4", "weave-vx6"} {
			link, err := at.space.LinkByName(name)
			must(t, err)
			if link.Attrs().MTU != mtu {
				t.Errorf("%s has %d", name, link.Attrs().MTU)
			}
		}
	}
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) {
		t.Error("nothing crosses")
	}
}

// While nobody may send to a device it is down, rules or not.
func TestFastPower(t *testing.T) {
	s := pair(t)
	up := func(name string) bool {
		link, err := s[0].space.LinkByName(name)
		must(t, err)
		return up(link.Attrs())
	}
	if up("weave-vx4") || up("weave-vx6") {
		t.Error("up, and nobody is let in")
	}
	onPath(t, s, false)
	if !up("weave-vx4") || up("weave-vx6") {
		t.Error("with an IPv4 peer, IPv4's is not the one that is up")
	}
	must(t, s[0].fast.Allow(nil))
	if up("weave-vx4") {
		t.Error("still up")
	}
	onPath(t, s, false)
	if !crosses(t, s[0], s[1], "10.2.1.2", patience) {
		t.Error("nothing crosses after it was down")
	}
}
