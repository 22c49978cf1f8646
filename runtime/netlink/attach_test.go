package netlink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	vnl "github.com/vishvananda/netlink"

	"weave/runtime"
)

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
			Filter: runtime.FilterFor(a.Addresses), Port: runtime.Port{Present: true, Up: true, Master: "weave", Hairpin: true, MTU: runtime.DefaultMTU},
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
