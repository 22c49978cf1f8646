package netnstests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// machines makes hosts that run engines; n of them.
func machines(t *testing.T, n int) []*lab.Machine {
	t.Helper()
	l := newLab(t, lab.Config{Hosts: n})
	var all []*lab.Machine
	for _, h := range l.Hosts {
		// Not on the lab's tmpfs: image layers would fill the memory.
		disk, err := os.MkdirTemp("/var/tmp", "weave-lab-")
		must(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(disk) })
		m, err := h.NewMachine(disk)
		if errors.Is(err, lab.ErrNoEngines) {
			t.Skip(err)
		}
		must(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				text := m.Log()
				t.Logf("end of host%d's log:\n%s", h.Index, text[max(0, len(text)-5000):])
			}
			must(t, m.Crash())
		})
		all = append(all, m)
	}
	return all
}

// needs skips the test where a program is missing, which make test installs for root.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%v: make test installs it when it is root", err)
		}
	}
}

// good takes what a command printed, which must have succeeded.
func good(t *testing.T, r lab.Result) string {
	t.Helper()
	if r.RC != 0 || r.Err != nil {
		t.Fatal(r)
	}
	return strings.TrimSpace(r.Stdout)
}

// bad is for commands that must fail, saying why.
func bad(t *testing.T, r lab.Result, why string) {
	t.Helper()
	if r.RC == 0 || r.Err != nil || !strings.Contains(r.Stderr, why) {
		t.Errorf("wanted a failure that says %q: %v", why, r)
	}
}

// dockers makes machines with Docker and weave, joined.
func dockers(t *testing.T, n int, flags ...string) []*lab.Machine {
	t.Helper()
	needs(t, "dockerd", "docker", "busybox")
	all := machines(t, n)
	for i, m := range all {
		must(t, m.StartDocker(flags...), m.Import("docker", lab.ImageName, `CMD ["sh","-c","while sleep 1; do :; done"]`))
		var to []string
		if i > 0 {
			to = []string{all[0].Host.IP}
		}
		good(t, m.Weave(append([]string{"launch"}, to...)...))
	}
	return all
}

// shown waits until weave ps shows a container, and gives its line without the name.
func shown(t *testing.T, m *lab.Machine, name string) string {
	t.Helper()
	var line string
	eventually(t, settle, func() error {
		line = strings.TrimSpace(m.Weave("ps", name).Stdout)
		if strings.Count(line, " ") < 2 {
			return fmt.Errorf("weave ps %s shows %q", name, line)
		}
		return nil
	})
	return strings.TrimPrefix(line, name+" ")
}

// address is the first of a container's.
func address(t *testing.T, m *lab.Machine, name string) string {
	t.Helper()
	f := strings.Fields(shown(t, m, name))
	addr, _, _ := strings.Cut(f[1], "/")
	return addr
}

// names waits until a name has an address, seen from a machine.
func names(t *testing.T, m *lab.Machine, name, addr string) {
	t.Helper()
	eventually(t, settle, func() error {
		r := m.Weave("dns-lookup", name)
		if strings.TrimSpace(r.Stdout) != addr {
			return fmt.Errorf("%s is %q, not %q", name, strings.TrimSpace(r.Stdout), addr)
		}
		return nil
	})
}
