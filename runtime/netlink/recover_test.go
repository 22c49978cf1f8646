package netlink

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

func TestOverlapWarning(t *testing.T) {
	h := host(t)
	a := vnl.NewLinkAttrs()
	a.Name = "eth0"
	must(t, h.space.LinkAdd(&vnl.Veth{LinkAttrs: a, PeerName: "eth0peer"}))
	link, err := h.space.LinkByName("eth0")
	must(t, err)
	must(t, h.space.LinkSetUp(link))
	must(t, h.space.AddrAdd(link, &vnl.Addr{IPNet: ipNet(netip.MustParsePrefix("10.2.0.1/16"))}))
	target := resolved(t, h, newNamespace(t))
	warnings := attach(t, h, attachment(target, "10.2.1.1/24", "10.3.1.1/24"))
	if len(warnings) != 1 || !strings.Contains(warnings[0], "10.2.1.1/24 overlaps with the host's route 10.2.0.0/16 via eth0") {
		t.Fatal(warnings)
	}
}

// Everything of ours goes, everything else stays.
func TestReset(t *testing.T) {
	h := host(t)
	a := vnl.NewLinkAttrs()
	a.Name = "eth0"
	must(t, h.space.LinkAdd(&vnl.Veth{LinkAttrs: a, PeerName: "eth0peer"}))
	target := resolved(t, h, newNamespace(t))
	attach(t, h, attachment(target, "10.2.1.1/24"))
	must(t, h.AddUplink("eth0peer"))
	for range 2 { // idempotent
		must(t, h.Reset())
		if l := links(t, h.space); !slices.Equal(l, []string{"eth0", "eth0peer"}) {
			t.Fatal(l)
		}
	}
	if l := links(t, inside(t, target.Path)); len(l) != 0 {
		t.Fatal(l)
	}
}

// addTAP makes a TAP that stays without a process.
func addTAP(t *testing.T, s *space, name string) {
	t.Helper()
	err := s.run(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	})
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		t.Skip("making a TAP needs /dev/net/tun open to this user:", err)
	}
	must(t, err)
}

func TestUplink(t *testing.T) {
	h := host(t)
	if err := h.AddUplink("nothing"); err == nil {
		t.Fatal("added nothing")
	}
	addTAP(t, h.space, "vethwe-up")
	for range 2 { // idempotent
		must(t, h.AddUplink("vethwe-up"))
		link, err := h.space.LinkByName("vethwe-up")
		must(t, err)
		master, err := h.master(link)
		must(t, err)
		if master != "weave" || !up(link.Attrs()) {
			t.Fatal(master, link.Attrs().Flags)
		}
	}
	must(t, h.Reset())
	if l := links(t, h.space); len(l) != 0 {
		t.Fatal(l)
	}
}

// A daemon comes back: one container as it was, one whose host side was torn off the bridge, one whose interface is
// missing, one that has gone.
func TestReconcile(t *testing.T) {
	h := host(t)
	var want []runtime.Attachment
	for i := range 4 {
		target := resolved(t, h, newNamespace(t))
		want = append(want, attachment(target, fmt.Sprintf("10.2.1.%d/24", i+1)))
		attach(t, h, want[i])
	}
	before := inspect(t, h, want[0].Target)
	port, err := h.space.LinkByName(runtime.HostVeth(want[1].Target.ID))
	must(t, err)
	must(t, h.space.LinkSetNoMaster(port))
	must(t, h.space.LinkSetDown(port))
	must(t, h.delete(runtime.HostVeth(want[2].Target.ID)))
	must(t, h.delete(runtime.HostVeth(want[3].Target.ID)))
	want[3].Target.Path = "/no/such/path"
	bridge, err := h.space.LinkByName("weave")
	must(t, err)
	must(t, h.space.LinkDel(bridge))

	lost, err := h.Reconcile(t.Context(), want)
	must(t, err)
	if len(lost) != 1 || lost[0].Target != want[3].Target {
		t.Fatal(lost)
	}
	for _, a := range want[:3] {
		seen := inspect(t, h, a.Target)
		if !seen.Present || !seen.Up || seen.Port.Master != "weave" || !seen.Port.Hairpin || !seen.Port.Up || !slices.Equal(seen.Addresses, a.Addresses) {
			t.Errorf("%v: %+v", a.Target, seen)
		}
	}
	if after := inspect(t, h, want[0].Target); after.MAC != before.MAC {
		t.Error("an interface that was there was made anew")
	}
}

// The process that named a namespace has gone, the namespace has not: it is not lost, and its host side is repaired.
func TestReconcileUnnamedNamespace(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	a := attachment(target, "10.2.1.1/24")
	attach(t, h, a)
	bridge, err := h.space.LinkByName("weave")
	must(t, err)
	must(t, h.space.LinkDel(bridge))
	path := a.Target.Path
	a.Target.Path = "/no/such/path"
	lost, err := h.Reconcile(t.Context(), []runtime.Attachment{a})
	must(t, err)
	a.Target.Path = path
	if seen := inspect(t, h, a.Target); len(lost) != 0 || seen.Port.Master != "weave" || !seen.Port.Hairpin {
		t.Fatal(lost, seen)
	}
}
