package guest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
	"weave/runtime"
	"weave/runtime/netlink"
)

const soon = 15 * time.Second

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	if err := lab.Eventually(soon, check); err != nil {
		t.Fatal(err)
	}
}

// end is one host with a VXLAN device; its address on the overlay is 10.5.0.N.
type end struct {
	*lab.Host
	t       *testing.T
	kernel  *netlink.Host
	local   netip.Addr
	peer    netip.Addr
	overlay string
}

// pair is two ends, the underlay between them, and the one who watches it.
type pair struct {
	lab  *lab.Lab
	a, b *end
	wire *wire
}

// eachFamily runs a test over an IPv4 underlay and an IPv6 one.
func eachFamily(t *testing.T, test func(*testing.T, *pair)) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) { test(t, newPair(t, v6)) })
	}
}

func newPair(t *testing.T, v6 bool) *pair {
	t.Helper()
	must(t, lab.Available())
	l, err := lab.New(lab.Config{Hosts: 3})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	p := &pair{lab: l, a: newEnd(t, l.Hosts[0], l.Hosts[1], v6), b: newEnd(t, l.Hosts[1], l.Hosts[0], v6)}
	p.wire = watch(t, l)
	return p
}

func newEnd(t *testing.T, h, other *lab.Host, v6 bool) *end {
	t.Helper()
	e := &end{Host: h, t: t, local: netip.MustParseAddr(h.IP), peer: netip.MustParseAddr(other.IP), overlay: fmt.Sprintf("10.5.0.%d", h.Index)}
	if v6 {
		e.local, e.peer = netip.MustParseAddr(h.IP6), netip.MustParseAddr(other.IP6)
	}
	e.kernel = openHost(t, h, "weave")
	return e
}

func openHost(t *testing.T, h *lab.Host, bridge string) *netlink.Host {
	t.Helper()
	k, err := netlink.Open(netlink.Config{Bridge: bridge, Namespace: h.Path()}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	t.Cleanup(k.Close)
	return k
}

// tunnel makes the VXLAN device and has it send to the peer.
func (e *end) tunnel() {
	e.t.Helper()
	links, err := e.Links()
	must(e.t, err)
	defer links.Close()
	vx := &vnl.Vxlan{LinkAttrs: vnl.LinkAttrs{Name: "vx0", MTU: 1376}, VxlanId: 7, Port: vxlanPort, Learning: true, UDP6ZeroCSumTx: true, UDP6ZeroCSumRx: true}
	if e.local.Is6() {
		vx.SrcAddr = net.IPv6zero // an IPv6 socket
	}
	must(e.t, links.LinkAdd(vx), e.AddAddr("vx0", e.overlay+"/24"), e.Up("vx0"))
	must(e.t, links.NeighAppend(e.flood(links)))
}

// flood is the entry that sends everything to the peer.
func (e *end) flood(links *vnl.Handle) *vnl.Neigh {
	e.t.Helper()
	link, err := links.LinkByName("vx0")
	must(e.t, err)
	return &vnl.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: vnl.NUD_PERMANENT | vnl.NUD_NOARP, Flags: vnl.NTF_SELF,
		IP: e.peer.AsSlice(), HardwareAddr: make(net.HardwareAddr, 6),
	}
}

// stop takes the VXLAN device away, and with it all that it knows.
func (e *end) stop() {
	e.t.Helper()
	must(e.t, e.WithLink("vx0", func(h *vnl.Handle, l vnl.Link) error { return h.LinkDel(l) }))
}

// shield makes what is wanted, with these generations.
func (e *end) shield(generations ...runtime.Generation) {
	e.t.Helper()
	s := runtime.ShieldOf(runtime.Shield{Local: e.local, Peer: e.peer}, generations, time.Now())
	if failed, err := e.kernel.Shield(vxlanPort, []runtime.Shield{s}); err != nil || len(failed) > 0 {
		e.t.Fatalf("%v, failed %v", err, failed)
	}
}

// unshield wants nothing any more.
func (e *end) unshield() {
	e.t.Helper()
	if failed, err := e.kernel.Shield(vxlanPort, nil); err != nil || len(failed) > 0 {
		e.t.Fatalf("%v, failed %v", err, failed)
	}
}

// handshake gives both ends the keys of one secret. They have known them for a while.
func handshake(t *testing.T) (a, b runtime.Generation) {
	t.Helper()
	secret := make([]byte, runtime.ESPSecretLen)
	_, err := rand.Read(secret)
	must(t, err)
	since := time.Now().Add(-time.Minute)
	a, b = runtime.Generation{Since: since, Confirmed: true}, runtime.Generation{Since: since, Confirmed: true}
	a.Out, a.In, err = runtime.DeriveESP(secret, true)
	must(t, err)
	b.Out, b.In, err = runtime.DeriveESP(secret, false)
	must(t, err)
	return a, b
}

// reaches waits until a ping over VXLAN is answered.
func (e *end) reaches(other *end) {
	e.t.Helper()
	eventually(e.t, func() error {
		_, err := e.Ping(other.overlay, 1300, 300*time.Millisecond)
		return err
	})
}

// silent makes sure that some pings over VXLAN are not answered.
func (e *end) silent(other *end) {
	e.t.Helper()
	for range 3 {
		if _, err := e.Ping(other.overlay, 56, 200*time.Millisecond); err == nil {
			e.t.Fatalf("%s is reached by host%d", other.overlay, e.Index)
		}
	}
}

// left is what the kernel has of anybody's states and policies; socket policies, which are not listed, do not count.
func (e *end) left() (states, policies int) {
	e.t.Helper()
	must(e.t, e.Do(func() error {
		h, err := vnl.NewHandle(unix.NETLINK_XFRM)
		if err != nil {
			return err
		}
		defer h.Close()
		s, err := h.XfrmStateList(vnl.FAMILY_ALL)
		if err != nil {
			return err
		}
		p, err := h.XfrmPolicyList(vnl.FAMILY_ALL)
		states, policies = len(s), len(p)
		return err
	}))
	return states, policies
}

// has fails the test unless the kernel has so many states and policies.
func (e *end) has(states, policies int) {
	e.t.Helper()
	if s, p := e.left(); s != states || p != policies {
		e.t.Errorf("host%d has %d states and %d policies, want %d and %d", e.Index, s, p, states, policies)
	}
}
