package link

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// networks are the two families every test runs over.
var networks = []string{"udp4", "udp6"}

// open binds a socket on the loopback interface, for the time of the test.
func open(t testing.TB, network string, cfg Config) *Socket {
	t.Helper()
	cfg.Network = network
	if !cfg.Bind.Addr().IsValid() {
		cfg.Bind = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)
		if network == "udp6" {
			cfg.Bind = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
		}
	}
	if cfg.SendBuffer == 0 {
		cfg.RecvBuffer, cfg.SendBuffer = 8<<20, 8<<20
	}
	s, err := Listen(cfg)
	if errors.Is(err, ErrFamily) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// cut is the oracle of Add: the datagrams that data should become.
func cut(data []byte, segment int) [][]byte {
	if segment <= 0 || segment >= len(data) {
		return [][]byte{data}
	}
	var out [][]byte
	for len(data) > 0 {
		n := min(segment, len(data))
		out = append(out, data[:n])
		data = data[n:]
	}
	return out
}

// collect receives until count datagrams are there, cutting runs.
func collect(t interface{ Fatalf(string, ...any) }, r *Receiver, from netip.AddrPort, count int) [][]byte {
	var out [][]byte
	for len(out) < count {
		n, err := r.await()
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(out), count, err)
		}
		for i := range n {
			addr, data, segment := r.Message(i)
			if addr != from {
				t.Fatalf("from %v, want %v", addr, from)
			}
			for _, d := range cut(data, segment) {
				out = append(out, bytes.Clone(d))
			}
		}
	}
	return out
}

var errNothing = errors.New("nothing comes")

// await is TryReceive that waits, but not for ever.
func (r *Receiver) await() (int, error) {
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		if n, err := r.TryReceive(); n > 0 || err != nil {
			return n, err
		}
		_ = r.sock.Control(func(fd uintptr) { poll(int(fd), unix.POLLIN, time.Until(until)) })
	}
	return 0, errNothing
}

func equal(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// fill makes n bytes, each a function of its place, so that mixed-up datagrams
// show.
func fill(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + seed)
	}
	return b
}

const inNamespace = "LINK_TEST_NAMESPACE"

// isolated runs the calling test once more, in a process with a network
// namespace of its own, and says whether we are in it.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Skipf("no network namespaces here: %v", err)
	}
	if err != nil {
		t.Fatalf("in a namespace: %v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("in a namespace:\n%s", out)
	}
	return false
}

// loopback brings lo up with an MTU.
func loopback(t *testing.T, mtu int) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMTU(lo, mtu); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}
