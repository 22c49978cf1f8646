package netnstests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// user makes up an ordinary user of a host with a daemon.
func user(t *testing.T, h *lab.Host, args ...string) *lab.User {
	t.Helper()
	u, err := h.NewUser()
	if errors.Is(err, lab.ErrNoUsers) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			text := u.Log()
			t.Logf("end of the log of user %d on host%d:\n%s", u.UID, h.Index, text[max(0, len(text)-4000):])
		}
	})
	userRun(t, u.Launch(args...))
	return u
}

// userRun takes the output of a command that must succeed.
func userRun(t *testing.T, r lab.Result) string {
	t.Helper()
	if r.RC != 0 || r.Err != nil || r.Held {
		t.Fatal(r)
	}
	return r.Stdout
}

// box makes a container of a user's and attaches it.
func box(t *testing.T, u *lab.User, addrs ...string) (*lab.Box, string) {
	t.Helper()
	b, err := u.NewBox()
	must(t, err)
	out := userRun(t, u.Weave(append(append([]string{"attach"}, addrs...), strconv.Itoa(b.PID))...))
	return b, strings.TrimSpace(out)
}

// boxPings waits until a box reaches an address.
func boxPings(t *testing.T, b *lab.Box, addr string) {
	t.Helper()
	eventually(t, settle, func() error {
		_, err := b.Ping(addr, 56, 200*time.Millisecond)
		return err
	})
}

// capabilities is the line of a process's status with its effective capabilities.
func capabilities(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

// Two ordinary users on two hosts and root on a third, in one network: containers reach each other, and no process of a
// user's daemon has any capability.
func TestUsersAndRootInOneNetwork(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	one := user(t, l.Hosts[0])
	two := user(t, l.Hosts[1], one.Address())
	for _, pid := range append(one.Daemons(), two.Daemons()...) {
		if got := capabilities(t, pid); got != "0000000000000000" {
			t.Errorf("process %d has the capabilities %s", pid, got)
		}
	}
	launch(t, l.Hosts[2], one.Address())
	waitConnected(t, l.Hosts[2], 2)
	a, addrA := box(t, one)
	b, addrB := box(t, one)
	c, addrC := box(t, two)
	root := container(t, l.Hosts[2], "net:default")
	rootAddr := strings.TrimSpace(run(t, l.Hosts[2], "attach", root.Name))
	boxPings(t, a, addrB)
	boxPings(t, a, addrC)
	boxPings(t, c, rootAddr)
	boxPings(t, b, rootAddr)
	pings(t, root, addrA, settle)
	pings(t, root, addrC, settle)
	// Bulk data: super-frames from TAP to TAP, and across hosts.
	for _, to := range []struct {
		box  *lab.Box
		addr string
	}{{b, addrB}, {c, addrC}} {
		if _, err := lab.Transfer(a.NS, to.box.NS, to.addr+":5001", 64<<20, time.Minute); err != nil {
			t.Error(err)
		}
	}
}

// What one user's daemon attached is there again when it is launched again, with its addresses, and a connection between
// containers lives on.
func TestRootlessRelaunch(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	u := user(t, l.Hosts[0])
	a, addrA := box(t, u, "10.2.1.1/24")
	b, _ := box(t, u, "10.2.1.2/24")
	boxPings(t, b, addrA)
	before := userRun(t, u.Weave("ps"))
	userRun(t, u.Weave("stop"))
	if r := a.RunInside("ip", "link", "show", "ethwe"); r.RC == 0 {
		t.Errorf("an interface outlived the daemon: %v", r)
	}
	userRun(t, u.Launch())
	if after := userRun(t, u.Weave("ps")); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	boxPings(t, b, addrA)
	for _, pid := range u.Daemons() {
		must(t, kill(pid))
	}
	eventually(t, settle, func() error {
		if r := u.Launch(); r.RC != 0 && r.RC != 3 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	boxPings(t, b, addrA)
	// One that ends is forgotten, and detaching takes the interface away.
	must(t, b.Close())
	eventually(t, settle, func() error {
		if got := userRun(t, u.Weave("ps")); strings.Count(got, "\n") != 1 {
			return fmt.Errorf("still attached:\n%s", got)
		}
		return nil
	})
	userRun(t, u.Weave("detach", "10.2.1.1/24", strconv.Itoa(a.PID)))
	if r := a.RunInside("ip", "link", "show", "ethwe"); r.RC == 0 {
		t.Errorf("an interface outlived its last address: %v", r)
	}
	userRun(t, u.Weave("stop"))
	userRun(t, u.Weave("reset", "--force")) // without a daemon, and without rights
	if left, err := filepath.Glob(u.StateDir() + "/*"); err != nil || len(left) > 0 {
		t.Errorf("reset left %v, %v", left, err)
	}
}

// Where users may have no interfaces, launch says so, and what would change it.
func TestUsersWithoutTUN(t *testing.T) {
	if lab.Ordinary() {
		t.Skip("it takes root to close a device")
	}
	l := newLab(t, lab.Config{Hosts: 1})
	u, err := l.Hosts[0].NewUser()
	must(t, err)
	reopen, err := lab.CloseTUN()
	must(t, err)
	r := u.Launch()
	must(t, reopen())
	if r.RC != 1 || !strings.Contains(r.Stderr, "chmod 0666 /dev/net/tun") {
		t.Error(r)
	}
	userRun(t, u.Launch())
}

// Users on one machine do not get into each other's things; what a user cannot have is refused with a reason.
func TestUsersAreKeptApart(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	if lab.Ordinary() {
		t.Skip("it takes root to be two users")
	}
	one := user(t, l.Hosts[0])
	two := user(t, l.Hosts[0])
	b, _ := box(t, one, "10.2.1.1/24")
	if r := two.Weave("attach", "10.2.1.2/24", strconv.Itoa(b.PID)); r.RC == 0 || !strings.Contains(r.Stderr, "denied") {
		t.Errorf("another user's container: %v", r)
	}
	stranger := *two
	stranger.Home = one.Home
	if r := stranger.Weave("ps"); r.RC == 0 {
		t.Errorf("another user's socket: %v", r)
	}
	if r := two.Run("cat", one.StateDir()+"/weave.db"); r.RC == 0 {
		t.Error("another user's state can be read")
	}
	if r := one.Weave("attach", "10.2.1.3/24", "1"); r.RC != 1 || r.Stderr == "" {
		t.Errorf("process 1: %v", r)
	}
	if r := one.Weave("attach", "10.2.1.3/24", "987654321"); r.RC != 1 || !strings.Contains(r.Stderr, "does not exist") {
		t.Errorf("no process: %v", r)
	}
	if r := one.Weave("attach", "10.2.1.3/24", "nobody"); r.RC != 1 || !strings.Contains(r.Stderr, "pid") {
		t.Errorf("a name: %v", r)
	}
	if r := one.Launch(); r.RC != 3 {
		t.Errorf("a second launch: %v", r)
	}
}
