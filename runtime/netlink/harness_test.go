package netlink

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

var bridgeMAC = net.HardwareAddr{0x8a, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e}

// newNamespace makes a network namespace that lives as long as the test, and returns a path to it.
func newNamespace(t testing.TB) string {
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
	s.mtu = runtime.DefaultMTU
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
