package netnstests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

var consoleLine = regexp.MustCompile(`^host([1-9])\$ (.+)$`)

// Every command that README.md shows at a host's prompt works as shown:
//
//	web ── host1 ═══ host2 ── db
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	must(t, err)
	l := newLab(t, lab.Config{Hosts: 2})
	binary, err := lab.Binary()
	must(t, err)
	dir := t.TempDir()
	must(t, os.Symlink(binary, filepath.Join(dir, "weave")))
	commands, console := 0, false
	for n, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "```") {
			console = line == "```console"
			continue
		}
		m := consoleLine.FindStringSubmatch(line)
		if !console || m == nil {
			continue
		}
		commands++
		h := l.Hosts[m[1][0]-'1']
		if name, ok := strings.CutPrefix(m[2], "ip netns add "); ok {
			namespace(t, name)
			continue
		}
		if r := shell(h, dir, m[2]); r.RC != 0 || r.Err != nil || r.Held {
			t.Fatalf("README.md:%d: host%s$ %s: %v", n+1, m[1], m[2], r)
		}
	}
	if commands < 10 {
		t.Errorf("README.md shows only %d commands", commands)
	}
}

// namespace does what `ip netns add` does, except that it leaves the mounts of /run/netns as the lab made them.
func namespace(t *testing.T, name string) {
	t.Helper()
	n, err := lab.NewNS(name, name)
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
}

// shell runs a line as a user at a host's prompt would; host1 and so on are the hosts' names.
func shell(h *lab.Host, bin, line string) lab.Result {
	for i := 1; i <= 2; i++ {
		line = regexp.MustCompile(fmt.Sprintf(`\bhost%d\b`, i)).ReplaceAllString(line, fmt.Sprintf("10.99.0.%d", i))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := append([]string{
		"PATH=" + bin + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"WEAVE_STATE_DIR=" + h.StateDir, "WEAVE_RUN_DIR=" + h.RunDir,
	}, h.Env...)
	return h.Run(ctx, env, "", "sh", "-c", line)
}
