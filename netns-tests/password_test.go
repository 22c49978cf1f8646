package netnstests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

var passwordLine = regexp.MustCompile(`^([0-9a-f]{16}) accepted by (\d+) of (\d+) peers\n`)

// acceptedBy waits until a host's list of passwords looks so: for each password how many of the peers accept it.
func acceptedBy(t *testing.T, h *lab.Host, peers int, counts ...int) (ids []string) {
	t.Helper()
	eventually(t, soon, func() error {
		ids = nil
		text := run(t, h, "password", "list")
		for i, line := range strings.SplitAfter(strings.TrimSuffix(text, "\n")+"\n", "\n") {
			m := passwordLine.FindStringSubmatch(line)
			if m == nil && line == "" && i == len(counts) {
				return nil
			}
			if m == nil || i >= len(counts) || m[2] != fmt.Sprint(counts[i]) || m[3] != fmt.Sprint(peers) {
				return fmt.Errorf("host%d lists %q, want %v of %d", h.Index, text, counts, peers)
			}
			ids = append(ids, m[1])
		}
		return fmt.Errorf("host%d lists %q", h.Index, text)
	})
	return ids
}

// The password of a network that works is changed, host by host, and nothing that runs is cut:
//
//	c1 ── host1 ═══ host2 ── c2,  host3 joins with the new one; host4 knows only the old one
func TestRollingPassword(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 4})
	h := l.Hosts
	launch(t, h[0], "--password", "old, with a comma")
	launch(t, h[1], h[0].IP, "--password", "old, with a comma")
	waitMesh(t, h[:2]...)
	p := joinPair(t, l)
	tcp := hold(t, p.c1.NS, p.c2.NS, "10.2.1.2:7")
	tcp.asks(t, soon)
	ids := acceptedBy(t, h[0], 2, 2)

	file := filepath.Join(h[0].StateDir, "new-password")
	must(t, os.WriteFile(file, []byte("brand new\n"), 0o600))
	run(t, h[0], "password", "add", "--file", file)
	acceptedBy(t, h[1], 2, 2)
	acceptedBy(t, h[0], 2, 2, 1)
	run(t, h[1], "password", "add", "brand new")
	acceptedBy(t, h[0], 2, 2, 2)
	tcp.asks(t, soon)
	launch(t, h[2], h[1].IP, "--password", "brand new", "--password", "another")
	waitMesh(t, h[:3]...)

	run(t, h[0], "password", "retire", "old, with a comma")
	run(t, h[1], "password", "retire", ids[0]) // by its ID
	tcp.asks(t, soon)
	acceptedBy(t, h[2], 3, 3, 1)
	launch(t, h[3], h[0].IP, "--password", "old, with a comma")
	eventually(t, soon, func() error {
		if text := run(t, h[3], "status", "connections"); !strings.Contains(text, "password mismatch") {
			return fmt.Errorf("host4 says %q", text)
		}
		return nil
	})
	// the new password is good for new connections and sessions, and after a crash
	pid, err := h[1].DaemonPID()
	must(t, err, kill(pid))
	waitMesh(t, h[:3]...)
	pings(t, p.c1, "10.2.1.2", settle)
	tcp.asks(t, settle)
	acceptedBy(t, h[1], 3, 3)
}

func TestPasswordRefusals(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	with, without := l.Hosts[0], l.Hosts[1]
	launch(t, with, "--password", "one")
	launch(t, without)
	refused(t, without, 1, "launched without a password", "password", "add", "x")
	refused(t, with, 1, "accepted already", "password", "add", "one")
	refused(t, with, 1, "not among those accepted", "password", "retire", "two")
	refused(t, with, 1, "is the only one", "password", "retire", "one")
	refused(t, with, 1, "one line", "password", "add", "a\nb")
	refused(t, with, 1, "no such file", "password", "add", "--file", "/nowhere")
	for _, args := range [][]string{{}, {"add"}, {"change", "x"}, {"add", "a", "b"}, {"list", "x"}, {"add", "a", "--file", "b"}} {
		refused(t, with, 1, "Usage:", append([]string{"password"}, args...)...)
	}
	if out := run(t, without, "password", "list"); out != "" {
		t.Errorf("without a password the list is %q", out)
	}
	for i := range 7 {
		run(t, with, "password", "add", fmt.Sprint("more ", i))
	}
	refused(t, with, 1, "which is the most", "password", "add", "yet another")
}
