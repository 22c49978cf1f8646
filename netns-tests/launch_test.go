package netnstests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"

	"golang.org/x/sys/unix"
)

// The tests in this file need one host:
//
//	host1 ── underlay

func TestLaunchTwice(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	r := h.Weave("launch")
	if r.RC != 3 || r.Stdout != "" || r.Stderr != "weave is already running; you can stop it with 'weave stop'.\n" {
		t.Error(r)
	}
	if out := run(t, h, "stop"); out != "" {
		t.Errorf("stop printed %q", out)
	}
	launch(t, h)
}

func TestFlagsAfterPositionals(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "10.99.0.2", "--name", "::7", "10.99.0.3", "--nickname=left", "--password", "s3cret-word")
	got := run(t, h, "report", "-f", "{{.Router.Name}} {{.Router.NickName}} {{.Router.Encryption}} {{len .Router.Targets}}")
	if want := "00:00:00:00:00:07 left true 2"; got != want {
		t.Errorf("report says %q, want %q", got, want)
	}
	if strings.Contains(h.Log(), "s3cret-word") {
		t.Error("the password stands in the log")
	}
}

func TestPasswordFromTheEnvironment(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	h.Env = []string{"WEAVE_PASSWORD=from-env"}
	launch(t, h)
	if got := run(t, h, "report", "-f", "{{.Router.Encryption}}"); got != "true" {
		t.Errorf("Encryption is %s", got)
	}
}

func TestForegroundStaysAndStopsOnSIGTERM(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	bin, err := lab.Binary()
	must(t, err)
	cmd := exec.Command(bin, "launch", "--foreground")
	cmd.Env = append(os.Environ(), "WEAVE_STATE_DIR="+h.StateDir, "WEAVE_RUN_DIR="+h.RunDir)
	must(t, h.Start(cmd))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, soon, func() error {
		_, err := h.DaemonPID()
		return err
	})
	eventually(t, soon, func() error {
		r := h.Weave("status")
		if r.RC != 0 {
			return r.Err
		}
		return nil
	})
	select {
	case err := <-ended:
		t.Fatalf("ended by itself: %v", err)
	default:
	}
	must(t, cmd.Process.Signal(unix.SIGTERM))
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(soon):
		t.Error("still running")
		_ = cmd.Process.Kill()
	}
}

func TestCommandsWithoutADaemon(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	const absent = "weave container is not present. Have you launched it?"
	for _, c := range []struct {
		args []string
		rc   int
		text string
	}{
		{nil, 1, "Usage:"},
		{[]string{"help"}, 0, "Usage:"},
		{[]string{"--help"}, 0, "Usage:"},
		{[]string{"attach", "--help"}, 0, "Usage:"},
		{[]string{"frobnicate"}, 1, "Unknown weave command 'frobnicate'"},
		{[]string{"run"}, 1, "The 'weave run' command has been removed as of Weave Net version 2.0"},
		{[]string{"launch-router"}, 1, "Please see release notes for further information"},
		{[]string{"connect"}, 1, "Usage:"},
		{[]string{"forget"}, 1, "Usage:"},
		{[]string{"attach"}, 1, "Usage:"},
		{[]string{"status"}, 1, absent},
		{[]string{"status", "peers"}, 1, absent},
		{[]string{"report"}, 7, absent},
		{[]string{"connect", "10.99.0.2"}, 7, absent},
		{[]string{"stop"}, 0, "Weave is not running (ignore on Kubernetes)."},
	} {
		t.Run("weave "+strings.Join(c.args, " "), func(t *testing.T) {
			r := h.Weave(c.args...)
			if r.RC != c.rc || r.Stdout != "" || !strings.Contains(strings.ToLower(r.Stderr), strings.ToLower(c.text)) {
				t.Errorf("want rc %d and %q on standard error: %v", c.rc, c.text, r)
			}
		})
	}
	launch(t, h)
	refused(t, h, 1, "Invalid 'weave status' sub-command: bogus", "status", "bogus")
	run(t, h, "stop")
	refused(t, h, 7, "weave container is not running.", "report")
	if out := run(t, h, "reset", "--force"); out != "" {
		t.Errorf("reset printed %q", out)
	}
	refused(t, h, 7, absent, "report")
}

func TestVersion(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	check := func(when string) {
		t.Helper()
		lines := strings.Split(run(t, h, "version"), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "weave script ") || lines[2] != "" ||
			strings.TrimPrefix(lines[0], "weave script ") != strings.TrimPrefix(lines[1], "weave ") {
			t.Errorf("%s: version printed %q", when, lines)
		}
	}
	check("without a daemon")
	launch(t, h)
	check("with a daemon")
}

func TestLogIsBounded(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	// a log that an earlier version let grow
	old := filepath.Join(h.StateDir, "weave.log")
	must(t, os.WriteFile(old, nil, 0o600), os.Truncate(old, 200<<20))
	launch(t, h, "--log-level", "debug")
	for range 20 {
		run(t, h, "connect", "10.99.0.77")
		run(t, h, "forget", "10.99.0.77")
	}
	info, err := os.Stat(old)
	must(t, err)
	if info.Size() == 0 || info.Size() > 20<<20 {
		t.Errorf("weave.log has %d bytes", info.Size())
	}
}

func TestUnwritableStateDirectorySaysSo(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	must(t, os.WriteFile(filepath.Join(h.StateDir, "file"), nil, 0o600))
	r := h.WeaveEnv([]string{"WEAVE_STATE_DIR=" + filepath.Join(h.StateDir, "file", "below")}, "launch")
	if r.RC != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, "file") {
		t.Error(r)
	}
}

// Two daemons in one network namespace get in nobody's way, with directories and a port of their own:
//
//	c1 ── host1, port 6783 ═══ host2 ── c2
//	c3 ── host1, port 7783 ══════╯
func TestTwoDaemonsInOneNamespace(t *testing.T) {
	p := newPair(t, lab.Config{})
	h1 := p.Hosts[0]
	second := []string{"WEAVE_STATE_DIR=" + h1.StateDir + "b", "WEAVE_RUN_DIR=" + h1.RunDir + "b"}
	weave := func(args ...string) {
		t.Helper()
		if r := h1.WeaveEnv(second, args...); r.RC != 0 || r.Err != nil {
			t.Fatal(r)
		}
	}
	before := run(t, h1, "report", "-f", "{{.Router.Name}}")
	weave("launch", "--port", "7783", "--http-addr=", "--status-addr=", p.Hosts[1].IP+":6783")
	c3, err := h1.NewContainer()
	must(t, err)
	weave("attach", "10.2.1.3/24", c3.Path())
	pings(t, c3, "10.2.1.2", soon)
	pings(t, p.c1, "10.2.1.2", soon)
	pings(t, c3, "10.2.1.1", soon)
	weave("reset")
	if after := run(t, h1, "report", "-f", "{{.Router.Name}}"); after != before {
		t.Errorf("the first daemon was %s and is %s", before, after)
	}
	pings(t, p.c1, "10.2.1.2", soon)
}
