package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
	"weave/runtime"
	"weave/runtime/netlink"
)

const byWireGuard = "--fastdp-encryption=wireguard"

// tunnels is where a host's daemon keeps the namespace of its WireGuard.
func tunnels(h *lab.Host) string { return filepath.Join(h.RunDir, "wireguard.netns") }

// inTunnels runs a command there.
func inTunnels(t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	r := h.Run(context.Background(), nil, "", "nsenter", append([]string{"--net=" + tunnels(h)}, args...)...)
	if r.RC != 0 || r.Err != nil {
		t.Fatalf("in the tunnels of host%d: %v", h.Index, r)
	}
	return r.Stdout
}

// The device has the peers wanted and no others; who comes after knows it again, with key and peers; another daemon's port and a taken
// one are told; and nothing is left.
func TestDebianWireGuardPeers(t *testing.T) {
	h := newPair(t, false).a.Host
	k := openTunnelHost(t, h, "weave")
	if why := k.WireGuardSupport(); why != "" {
		t.Fatal(why)
	}
	w, err := k.OpenWireGuard(tunnelPort)
	must(t, err)
	peers := []runtime.TunnelPeer{{Key: [32]byte{1}}, {Key: [32]byte{2}, PSK: [32]byte{7}}}
	for i := range peers {
		peers[i].Addr, peers[i].Endpoint = runtime.TunnelAddr(peers[i].Key), netip.MustParseAddrPort("10.99.0.77:6785")
	}
	bad := runtime.TunnelPeer{Key: [32]byte{3}, Addr: peers[0].Addr, Endpoint: peers[0].Endpoint}
	failed, err := w.SetPeers(append(slices.Clone(peers), bad))
	if err == nil || !slices.Equal(failed, []netip.Addr{bad.Addr}) {
		t.Errorf("another's address was taken: %v, %v", failed, err)
	}
	key := w.Key()
	w.Close()
	w, err = k.OpenWireGuard(tunnelPort)
	must(t, err)
	seen, err := w.Peers()
	must(t, err)
	if again := runtime.PlanTunnel(peers, seen); w.Key() != key || len(again) > 0 || len(seen) != len(peers) {
		t.Errorf("found again: the key is the same: %v; %d peers, %d steps to those wanted", w.Key() == key, len(seen), len(again))
	}
	if _, err := w.SetPeers(peers[1:]); err != nil {
		t.Error(err)
	}
	if seen, err = w.Peers(); err != nil || len(seen) != 1 || seen[0] != peers[1] {
		t.Errorf("after one was not wanted any more: %d peers, %v", len(seen), err)
	}
	other := openTunnelHost(t, h, "weave2")
	if _, err := other.OpenWireGuard(tunnelPort); !errors.Is(err, netlink.ErrPortTaken) || !strings.Contains(err.Error(), "6785") {
		t.Errorf("a port that is taken: %v", err)
	}
	for _, one := range []*netlink.Host{other, k} {
		one.RemoveFast()
	}
	if err := h.Do(func() error { return freePort(tunnelPort) }); err != nil {
		t.Errorf("WireGuard's port: %v", err)
	}
	for _, bridge := range []string{"weave", "weave2"} {
		if _, err := os.Lstat(tunnelsOf(h, bridge)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left its tunnels: %v", bridge, err)
		}
	}
}

func tunnelsOf(h *lab.Host, bridge string) string { return filepath.Join(h.RunDir, bridge+".netns") }

// openTunnelHost is openHost with a place for tunnels.
func openTunnelHost(t *testing.T, h *lab.Host, bridge string) *netlink.Host {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	k, err := netlink.Open(netlink.Config{Bridge: bridge, Namespace: h.Path(), Tunnels: tunnelsOf(h, bridge)}, log)
	must(t, err)
	t.Cleanup(k.Close)
	return k
}

// Where a host is told to leave IPsec alone, or its interfaces are taken out of it, the kernel path is in WireGuard: nothing is in
// clear on the wire, at no time from launch to reset, not even when the device is taken away under traffic; what others send in clear
// does not come in; and after a reset nothing is left.
func TestDebianWireGuard(t *testing.T) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--mtu=auto"}
			if v6 { // full packets of the default MTU are cut
				args = []string{byWireGuard}
			}
			d := newDaemonsOn(t, v6, func(h *lab.Host) error {
				if v6 {
					return nil
				}
				return h.Sysctl("net/ipv4/conf/all/disable_policy", "1")
			}, args...)
			d.onFast(t)
			d.replies(t)
			d.travelIn(t, "WireGuard", func(c crossed) int { return c.wireguard })
			d.a.has(0, 0)
			connections(t, d.h[0], patience, "fastdp", "shield=wireguard")
			if !v6 { // what a packet of 1,500 bytes carries: the MTU follows
				connections(t, d.h[0], patience, "encrypted=truemtu=1390")
			}
			d.wire.neverClear(t)
			d.keepsStrangersOut(t)
			strangers := d.wire.now().clear
			inTunnels(t, d.h[0], "ip", "link", "delete", "weave-wg")
			connections(t, d.h[0], patience, "established encrypted   sleeve")
			d.replies(t)
			if n := d.wire.now().clear - strangers; n > 0 {
				t.Errorf("%d VXLAN packets in clear after WireGuard was gone", n)
			}
			for _, h := range d.h {
				weave(t, h, "reset")
				d.leftNothing(t, h)
			}
			if n := d.wire.now().clear - strangers; n > 0 {
				t.Errorf("%d VXLAN packets in clear until all was gone", n)
			}
		})
	}
}

// keepsStrangersOut sends VXLAN of weave's network in clear, from the peer's address and by the peer itself; the control shows that
// a container's broadcast is seen where it is looked for.
func (d *daemons) keepsStrangersOut(t *testing.T) {
	t.Helper()
	inside, err := d.a.Sniff("weave", marker)
	must(t, err)
	stranger := d.lab.Hosts[2]
	must(t, strangerAs(stranger, d.b))
	clear := d.wire.now().clear
	const count = 5
	for _, h := range []*lab.Host{stranger, d.b.Host} {
		for range count {
			must(t, h.Do(func() error { return sendPayload(d.b, d.a, weaveVxlan()) }))
		}
	}
	eventually(t, func() error {
		if n := d.wire.now().clear - clear; n < 2*count {
			return fmt.Errorf("%d of the strangers' packets were on the wire", n)
		}
		return nil
	})
	tap, err := d.c2.OpenTap("ethwe")
	must(t, err)
	defer tap.Close()
	control := lab.Frame(lab.Broadcast(), net.HardwareAddr{2, 0, 0, 0, 0, 8}, 0x88b5, []byte(marker))
	must(t, tap.Send(control))
	eventually(t, func() error {
		if inside.Seen().Marked == 0 {
			return errors.New("the control did not come in")
		}
		return nil
	})
	if n := inside.Stop().Marked; n > 4 { // the control at each port that it is seen at
		t.Errorf("%d frames came in, with the control's copies", n)
	}
}

// weaveVxlan is vxlan in weave's network.
func weaveVxlan() []byte {
	packet := vxlan()
	copy(packet[4:], []byte{0x77, 0x65, 0x61})
	return packet
}

// leftNothing fails the test if a host has anything of ours after a reset.
func (d *daemons) leftNothing(t *testing.T, h *lab.Host) {
	t.Helper()
	must(t, lab.Eventually(soon, func() error {
		if _, err := os.Lstat(tunnels(h)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("host%d has its tunnels: %v", h.Index, err)
		}
		r := h.Run(context.Background(), nil, "", "ip", "-brief", "link")
		if strings.Contains(r.Stdout, "weave") || r.RC != 0 {
			return fmt.Errorf("host%d is left with: %s", h.Index, r)
		}
		return nil
	}))
	e := d.a
	if h == d.b.Host {
		e = d.b
	}
	if out := e.nft("list", "ruleset"); strings.Contains(out, "weave") {
		t.Errorf("host%d is left with: %s", h.Index, out)
	}
	if err := h.Do(func() error { return freePort(tunnelPort) }); err != nil {
		t.Errorf("host%d: WireGuard's port: %v", h.Index, err)
	}
}

// freePort tells whether a UDP port can be had in the thread's namespace.
func freePort(port int) error {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return err
	}
	return conn.Close()
}

// A daemon that is killed leaves a path by WireGuard that works, and the one that comes after takes it over; no packet is lost. Then the
// one end does without the path, and the other takes the peer away.
func TestDebianWireGuardOutlivesDaemon(t *testing.T) {
	undisturbed(t, func(t *testing.T) bool {
		d := newDaemons(t, false, "--no-restart", byWireGuard)
		d.onFast(t)
		s := newStream(t, d.c1.NS, d.c2.NS, "10.2.1.2:7", 5*time.Millisecond)
		s.passes(t)
		ends := []*end{d.a, d.b}
		for i, h := range d.h {
			device := namespaceOf(t, h)
			must(t, h.KillAll())
			s.passes(t)
			weave(t, h, "launch", "--no-restart", byWireGuard, "--host", ends[i].local.String(), "--password", "word", ends[1-i].local.String())
			d.onFast(t)
			s.passes(t)
			if d.left() {
				t.Log(d.why())
				d.wire.neverClear(t)
				return true
			}
			if now := namespaceOf(t, h); now != device {
				t.Errorf("host%d's WireGuard was in namespace %d and is in %d", h.Index, device, now)
			}
		}
		s.lostNone(t, "the death of either daemon")
		weave(t, d.h[1], "stop")
		weave(t, d.h[1], "launch", "--host", d.b.local.String(), "--password", "word", "--no-fastdp", d.a.local.String())
		connections(t, d.h[0], patience, "established encrypted   sleeve", "no fastdp: not offered by the other end")
		if _, err := os.Lstat(tunnels(d.h[1])); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the end with --no-fastdp has its tunnels: %v", err)
		}
		before := d.wire.now().wireguard
		d.replies(t)
		must(t, lab.Steadily(3*time.Second, func() error {
			if n := d.wire.now().wireguard - before; n > 0 {
				return fmt.Errorf("%d packets of WireGuard to a peer that has none", n)
			}
			return nil
		}))
		d.wire.neverClear(t)
		return false
	})
}

// The kernels' WireGuard changes keys by itself, after two minutes, under traffic: none is lost, and none in clear.
func TestDebianWireGuardRekeyed(t *testing.T) {
	undisturbed(t, func(t *testing.T) bool {
		d := newDaemons(t, false, byWireGuard)
		d.onFast(t)
		s := newStream(t, d.c1.NS, d.c2.NS, "10.2.1.2:7", 10*time.Millisecond)
		s.passes(t)
		before := d.wire.now().handshakes
		must(t, seldom(4*time.Minute, func() error {
			if n := d.wire.now().handshakes; n == before && !d.left() {
				return fmt.Errorf("%d handshakes, as two minutes ago", n)
			}
			return nil
		}))
		if d.left() {
			t.Log(d.why())
			d.wire.neverClear(t)
			return true
		}
		s.passes(t)
		s.lostNone(t, "a change of WireGuard's keys")
		d.wire.neverClear(t)
		return false
	})
}

// namespaceOf tells the namespace of a host's WireGuard, which is there as long as the device is, from another.
func namespaceOf(t *testing.T, h *lab.Host) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(tunnels(h), &st))
	return st.Ino
}
