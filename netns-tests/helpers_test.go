package netnstests

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"

	"golang.org/x/sys/unix"
)

const (
	// soon is for things that take milliseconds, on a busy machine.
	soon = 10 * time.Second
	// settle is for things that involve a retry or a time-out of weave's.
	settle = 40 * time.Second
	// overlayMTU is the MTU of ethwe unless launch says otherwise.
	overlayMTU = 1376
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

// newLab builds hosts on which nothing runs yet. After a failed test it shows
// the end of every daemon's log.
func newLab(t *testing.T, cfg lab.Config) *lab.Lab {
	t.Helper()
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	if err := tunUsable(); err != nil {
		t.Skip(err)
	}
	if _, err := lab.Binary(); err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLab(t, l) })
	return l
}

func closeLab(t *testing.T, l *lab.Lab) {
	for _, h := range l.Hosts {
		if bad := h.Complaints(); len(bad) > 0 {
			t.Errorf("host%d's log: %s", h.Index, strings.Join(bad, "\n"))
		}
		if t.Failed() {
			text := h.Log()
			t.Logf("end of host%d's log:\n%s", h.Index, text[max(0, len(text)-6000):])
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func tunUsable() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, os.ErrPermission):
		return errors.New("/dev/net/tun may not be opened by this user; as root: chmod 666 /dev/net/tun")
	default:
		return fmt.Errorf("no TAP devices here (%w); as root: modprobe tun", err)
	}
}

// run runs a weave command that must succeed and returns its output.
func run(t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	r := h.Weave(args...)
	if r.RC != 0 || r.Err != nil || r.Held || r.Stderr != "" {
		t.Fatalf("on host%d: %v", h.Index, r)
	}
	return r.Stdout
}

// refused runs a weave command that must end with rc and a text that contains
// what on standard error, and nothing on standard output.
func refused(t *testing.T, h *lab.Host, rc int, what string, args ...string) {
	t.Helper()
	r := h.Weave(args...)
	if r.RC != rc || r.Err != nil || r.Stdout != "" || !strings.Contains(r.Stderr, what) {
		t.Errorf("want rc %d and %q on standard error; on host%d: %v", rc, what, h.Index, r)
	}
}

var instanceID = regexp.MustCompile(`^[0-9a-f]{64}\n$`)

// launch starts the host's daemon.
func launch(t *testing.T, h *lab.Host, args ...string) {
	t.Helper()
	if out := run(t, h, append([]string{"launch"}, args...)...); !instanceID.MatchString(out) {
		t.Fatalf("launch on host%d printed %q", h.Index, out)
	}
}

// eventually fails the test unless check returns nil within limit.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	if err := lab.Eventually(limit, check); err != nil {
		t.Fatal(err)
	}
}

// established counts the host's connections of which data heartbeats are answered.
func established(h *lab.Host) (int, string) {
	r := h.Weave("status", "connections")
	n := 0
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "established" {
			n++
		}
	}
	return n, r.String()
}

// waitConnected waits until the host has exactly n established connections.
func waitConnected(t *testing.T, h *lab.Host, n int) {
	t.Helper()
	eventually(t, settle, func() error {
		if got, text := established(h); got != n {
			return fmt.Errorf("host%d has %d of %d established connections: %s", h.Index, got, n, text)
		}
		return nil
	})
}

// waitMesh waits until each of the hosts is connected to all the others.
func waitMesh(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		waitConnected(t, h, len(hosts)-1)
	}
}

// mesh launches weave on every host, host 1 being the one address the others
// know, and waits for the full mesh.
func mesh(t *testing.T, cfg lab.Config, args ...string) *lab.Lab {
	t.Helper()
	l := newLab(t, cfg)
	for _, h := range l.Hosts {
		if h.Index == 1 {
			launch(t, h, args...)
		} else {
			launch(t, h, append([]string{l.Hosts[0].IP}, args...)...)
		}
	}
	waitMesh(t, l.Hosts...)
	return l
}

// container makes a container and attaches it with these addresses.
func container(t *testing.T, h *lab.Host, cidrs ...string) *lab.Container {
	t.Helper()
	c, err := h.NewContainer()
	if err != nil {
		t.Fatal(err)
	}
	run(t, h, append(append([]string{"attach"}, cidrs...), c.Name)...)
	return c
}

// pings waits until the container reaches addr and returns how long that took.
func pings(t *testing.T, c *lab.Container, addr string, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, limit, func() error {
		_, err := c.Ping(addr, 56, 200*time.Millisecond)
		return err
	})
	return time.Since(began)
}

// must fails the test on an error, or skips it where a tool is missing, which an ordinary user cannot install.
func must(t *testing.T, errs ...error) {
	t.Helper()
	err := errors.Join(errs...)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// link is what is seen of an interface.
type link struct {
	Index int
	MTU   int
	MAC   string
	Up    bool
	Addrs []string // IPv4, "IP/LEN"
}

// kill ends a process as a power failure would.
// kill kills one process. To the kernel 0 would be all of ours.
func kill(pid int) error {
	if pid <= 1 {
		return fmt.Errorf("no process %d to kill", pid)
	}
	return unix.Kill(pid, unix.SIGKILL)
}

// listens opens a TCP listener in a namespace, which is closed with the test.
func listens(t *testing.T, n *lab.NS, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	must(t, n.Do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	return l
}
