package netlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

var bridgeMAC = net.HardwareAddr{0x8a, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e}

// newNamespace makes a network namespace that lives as long as the test, and returns a path to it.
func newNamespace(t *testing.T) string {
	t.Helper()
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread dies with its namespace entered
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	if errors.Is(r.err, unix.EPERM) {
		t.Skip("network namespaces need root, or a run inside unshare -Urnm:", r.err)
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.file.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.file.Fd())
}

// host opens a Host of its own, with its bridge.
func host(t *testing.T) *Host {
	t.Helper()
	h, err := Open(Config{MAC: bridgeMAC, Namespace: newNamespace(t)}, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	must(t, h.EnsureBridge())
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func resolved(t *testing.T, h *Host, path string) runtime.Target {
	t.Helper()
	target, err := h.Resolve(path)
	must(t, err)
	return target
}

// inside opens a namespace for looking.
func inside(t *testing.T, path string) *space {
	t.Helper()
	s, err := openSpace(path)
	must(t, err)
	t.Cleanup(s.close)
	return s
}

func attachment(target runtime.Target, addresses ...string) runtime.Attachment {
	a := runtime.Attachment{ID: "test", Target: target, MulticastRoute: true}
	for _, s := range addresses {
		a.Addresses = append(a.Addresses, netip.MustParsePrefix(s))
	}
	return a
}

func attach(t *testing.T, h *Host, a runtime.Attachment) []string {
	t.Helper()
	warnings, err := h.Attach(t.Context(), a)
	must(t, err)
	return warnings
}

func inspect(t *testing.T, h *Host, target runtime.Target) runtime.Seen {
	t.Helper()
	seen, err := h.Inspect(target)
	must(t, err)
	slices.SortFunc(seen.Addresses, netip.Prefix.Compare)
	return seen
}

// links names the namespace's interfaces but for lo.
func links(t *testing.T, s *space) []string {
	t.Helper()
	list, err := retry(s.LinkList)
	must(t, err)
	var names []string
	for _, l := range list {
		if l.Attrs().Name != "lo" {
			names = append(names, l.Attrs().Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestBridge(t *testing.T) {
	h := host(t)
	for range 2 { // idempotent
		must(t, h.EnsureBridge())
		b, err := h.bridge()
		must(t, err)
		want := runtime.Bridge{Present: true, Up: true, Name: "weave", MAC: runtime.MAC(bridgeMAC), MTU: runtime.DefaultMTU}
		if diff := cmp.Diff(want, b); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestBridgeIsAdopted(t *testing.T) {
	ns := newNamespace(t)
	s := inside(t, ns)
	a := vnl.NewLinkAttrs()
	a.Name = "weave"
	must(t, s.LinkAdd(&vnl.Bridge{LinkAttrs: a}))
	h, err := Open(Config{MAC: bridgeMAC, Namespace: ns}, nil)
	must(t, err)
	defer h.Close()
	must(t, h.EnsureBridge())
	if mac, _, ok, err := h.Bridge(); err != nil || !ok || mac != runtime.MAC(bridgeMAC) {
		t.Fatal(mac, ok, err)
	}
}

func TestBridgeNameTaken(t *testing.T) {
	ns := newNamespace(t)
	s := inside(t, ns)
	a := vnl.NewLinkAttrs()
	a.Name = "weave"
	must(t, s.LinkAdd(&vnl.Veth{LinkAttrs: a, PeerName: "other"}))
	h, err := Open(Config{Namespace: ns}, nil)
	must(t, err)
	defer h.Close()
	if err := h.EnsureBridge(); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
}

// Two containers on one host reach each other as soon as Attach returns.
//
//	c1 ethwe 10.2.1.1 ==== bridge weave ==== ethwe 10.2.1.2 c2
func TestAttach(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	a := attachment(target, "10.2.1.1/24", "10.2.2.1/24", "fd00:1::1/64")
	var first runtime.Seen
	for i := range 2 { // idempotent
		if w := attach(t, h, a); len(w) != 0 {
			t.Fatal(w)
		}
		seen := inspect(t, h, target)
		if i == 0 {
			first = seen
		}
		want := runtime.Seen{
			Present: true, Up: true, MAC: first.MAC, MTU: runtime.DefaultMTU, Addresses: a.Addresses, MulticastRoute: true,
			Port: runtime.Port{Present: true, Up: true, Master: "weave", Hairpin: true, MTU: runtime.DefaultMTU},
		}
		if diff := cmp.Diff(want, seen, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
	}
	in := inside(t, target.Path)
	if got := readSysctl(t, in, "net/ipv6/conf/ethwe/accept_ra"); got != "0" {
		t.Error("accept_ra", got)
	}
}

func readSysctl(t *testing.T, s *space, key string) string {
	t.Helper()
	var b []byte
	err := s.run(func() (err error) {
		b, err = os.ReadFile("/proc/sys/" + key)
		return err
	})
	must(t, err)
	return strings.TrimSpace(string(b))
}

func TestAttachMACAndMTU(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	a := attachment(target, "10.2.1.1/24")
	a.MAC, a.MTU, a.MulticastRoute = runtime.MAC{2, 1, 2, 3, 4, 5}, 1200, false
	attach(t, h, a)
	seen := inspect(t, h, target)
	if seen.MAC != a.MAC || seen.MTU != 1200 || seen.Port.MTU != 1200 || seen.MulticastRoute {
		t.Fatalf("%+v", seen)
	}
	a.MAC, a.MTU = runtime.MAC{2, 9, 9, 9, 9, 9}, 1300
	attach(t, h, a)
	if seen := inspect(t, h, target); seen.MAC != a.MAC || seen.MTU != 1300 || seen.Port.MTU != 1300 {
		t.Fatalf("%+v", seen)
	}
}

// The kernel takes a subnet's other addresses away with the first one: they must come back.
func TestDetach(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	attach(t, h, attachment(target, "10.2.1.1/24", "10.2.1.2/24"))
	attach(t, h, attachment(target, "10.3.1.1/24", "fd00:1::1/64"))
	must(t, inside(t, target.Path).sysctl("net/ipv4/conf/ethwe/promote_secondaries", "0"))
	detach := func(addresses ...string) []netip.Prefix {
		must(t, h.Detach(t.Context(), target, attachment(target, addresses...).Addresses))
		return inspect(t, h, target).Addresses
	}
	if got := fmt.Sprint(detach("10.2.1.1/24")); got != "[10.2.1.2/24 10.3.1.1/24 fd00:1::1/64]" {
		t.Fatal(got)
	}
	if got := fmt.Sprint(detach("10.2.1.1/24", "10.9.9.9/24")); got != "[10.2.1.2/24 10.3.1.1/24 fd00:1::1/64]" {
		t.Fatal(got)
	}
	if got := detach("10.2.1.2/24", "10.3.1.1/24", "fd00:1::1/64"); got != nil {
		t.Fatal(got)
	}
	if l := links(t, inside(t, target.Path)); len(l) != 0 {
		t.Fatal(l)
	}
	if l := links(t, h.space); !slices.Equal(l, []string{"weave"}) {
		t.Fatal(l)
	}
	must(t, h.Detach(t.Context(), target, nil)) // nothing there: no error
}

func TestDetachAll(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	attach(t, h, attachment(target, "10.2.1.1/24", "10.2.1.2/24"))
	must(t, h.Detach(t.Context(), target, nil))
	if inspect(t, h, target).Present {
		t.Fatal("still there")
	}
}

func TestRefusals(t *testing.T) {
	h := host(t)
	_, err := h.Resolve(h.cfg.Namespace)
	want := "Container is running in the host network namespace, and therefore cannot be\n" +
		"connected to weave - perhaps the container was started with --net=host"
	if !errors.Is(err, ErrHostNamespace) || err.Error() != want {
		t.Error(err)
	}
	for target, word := range map[string]string{
		"/no/such/file": "does not exist", "no-such-name": "ip netns list", "2147483646": "process 2147483646 does not exist",
		"/etc/passwd": "not a network namespace", "/proc/self/ns/pid": "not a network namespace", "/tmp": "not a network namespace",
	} {
		if _, err := h.Resolve(target); !errors.Is(err, ErrNoTarget) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", target, err)
		}
	}
	if _, err := h.Resolve(""); !errors.Is(err, runtime.ErrTarget) {
		t.Error(err)
	}
	a := attachment(resolved(t, h, newNamespace(t)), "10.2.1.1/24")
	must(t, h.Reset())
	if _, err := h.Attach(t.Context(), a); !errors.Is(err, ErrNoBridge) ||
		!strings.Contains(err.Error(), `bridge "weave" not present; did you launch weave?`) {
		t.Error(err)
	}
}

// A process is as good as a path.
func TestResolveProcess(t *testing.T) {
	h := host(t)
	target, err := h.Resolve(fmt.Sprint(os.Getpid()))
	must(t, err)
	byPath, err := h.Resolve("/proc/self/ns/net")
	must(t, err)
	if target.ID != byPath.ID || target.Kind != runtime.ByPID {
		t.Fatal(target, byPath)
	}
}

// A step that fails in the middle leaves nothing behind: neither of a fresh attachment nor of a change.
func TestUndo(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	bad := attachment(target, "10.2.1.1/24", "10.2.2.1/24")
	bad.MAC = runtime.MAC{1, 0, 0, 0, 0, 1} // a multicast address: the kernel refuses it
	if w, err := h.Attach(t.Context(), bad); err == nil {
		t.Fatal("attached", w)
	}
	if l := links(t, h.space); !slices.Equal(l, []string{"weave"}) {
		t.Fatal(l)
	}
	attach(t, h, attachment(target, "10.2.1.1/24"))
	before := inspect(t, h, target)
	bad = attachment(target, "10.2.2.1/24", "10.2.3.1/24")
	bad.MulticastRoute, bad.MTU = false, 70000
	if _, err := h.Attach(t.Context(), bad); err == nil {
		t.Fatal("attached with an impossible MTU")
	}
	if diff := cmp.Diff(before, inspect(t, h, target), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Fatal(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Attach(ctx, attachment(target, "10.5.1.1/24")); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// Every single step fails once; each time everything must be as before.
func TestUndoAfterEveryStep(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	a := attachment(target, "10.2.1.1/24", "fd00:1::1/64")
	steps := runtime.Plan(a, "weave", runtime.Seen{})
	for i := range steps {
		broken := append(slices.Clone(steps[:i]), runtime.Step{Op: runtime.SetUp, Link: "no-such-link"})
		if _, err := h.perform(t.Context(), broken, in, nil); err == nil {
			t.Fatal("performed the impossible")
		}
		if l := links(t, h.space); !slices.Equal(l, []string{"weave"}) {
			t.Fatalf("after %d steps: %v", i, l)
		}
		if l := links(t, in); len(l) != 0 {
			t.Fatalf("after %d steps: %v", i, l)
		}
	}
}

func TestForeignInterface(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	a := vnl.NewLinkAttrs()
	a.Name = "ethwe"
	must(t, in.LinkAdd(&vnl.Veth{LinkAttrs: a, PeerName: "other"}))
	if _, err := h.Attach(t.Context(), attachment(target, "10.2.1.1/24")); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
	if seen := inspect(t, h, target); seen.Present {
		t.Fatalf("%+v", seen)
	}
	if l := links(t, in); !slices.Equal(l, []string{"ethwe", "other"}) {
		t.Fatal(l)
	}
}

// IPv6 switched off in the container: IPv6 addresses switch it on for our interface alone.
func TestIPv6SwitchedOff(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	for _, key := range []string{"all", "default"} {
		must(t, in.sysctl("net/ipv6/conf/"+key+"/disable_ipv6", "1"))
	}
	attach(t, h, attachment(target, "10.2.1.1/24"))
	if got := readSysctl(t, in, "net/ipv6/conf/ethwe/disable_ipv6"); got != "1" {
		t.Fatal("IPv6 switched on without need")
	}
	attach(t, h, attachment(target, "fd00:1::1/64"))
	if got := fmt.Sprint(inspect(t, h, target).Addresses); got != "[10.2.1.1/24 fd00:1::1/64]" {
		t.Fatal(got)
	}
}

// IPv6 refused for good is a warning beside IPv4 and an error without.
func TestIPv6Refused(t *testing.T) {
	v6, v4 := netip.MustParsePrefix("fd00:1::1/64"), netip.MustParsePrefix("10.2.1.1/24")
	if !noIPv6(v6, unix.EACCES) || noIPv6(v4, unix.EACCES) || noIPv6(v6, unix.EPERM) {
		t.Fatal("errors mistaken")
	}
}

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
