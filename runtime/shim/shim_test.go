package shim

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"weave/runtime"
)

const testPatience = 10 * time.Second

// TestMain lets the test binary be the shim under its name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == shimName {
		os.Exit(Main(os.Args, os.Environ(), os.Stderr))
	}
	os.Exit(m.Run())
}

// installed has the shim in directories, as containers have it.
func installed(t *testing.T, routes ...netip.Prefix) Dirs {
	t.Helper()
	dir := t.TempDir()
	d, err := Install(dir, "/proc/self/exe", routes)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// held is a shim that runs as process 1 of namespaces of its own.
type held struct {
	*exec.Cmd
	out  bytes.Buffer
	done chan error
	h    *netlink.Handle
}

func start(t *testing.T, dir string, env []string, args ...string) *held {
	t.Helper()
	w := &held{Cmd: exec.Command(filepath.Join(dir, shimName), args...), done: make(chan error, 1)}
	w.Stdout, w.Stderr, w.Env = &w.out, &w.out, append(os.Environ(), env...)
	w.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	err := w.Start()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("namespaces need root, or a run inside unshare -Urn:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.GetFromPid(w.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if w.h, err = netlink.NewHandleAt(ns); err != nil {
		t.Fatal(err)
	}
	go func() { w.done <- w.Wait() }()
	t.Cleanup(func() {
		_ = w.Process.Kill()
		w.h.Close()
	})
	return w
}

// end waits for the exit code and what was printed.
func (w *held) end(t *testing.T) (int, string) {
	t.Helper()
	select {
	case <-w.done:
		return w.ProcessState.ExitCode(), w.out.String()
	case <-time.After(testPatience):
		t.Fatal("it does not end")
		return 0, ""
	}
}

// shimmed tells whether the process still is the shim.
func (w *held) shimmed(t *testing.T) bool {
	t.Helper()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", w.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(string(line), w.Path+"\x00")
}

func (w *held) listens(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(testPatience); ; {
		sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", w.Process.Pid))
		if err == nil && strings.Contains(string(sockets), fmt.Sprintf("%08x", groups)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not listen: %s, %v", sockets, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire makes ethwe, up, without an address.
func (w *held) wire(t *testing.T) netlink.Link {
	t.Helper()
	must(t, w.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "ethwe"}, PeerName: "other"}))
	link, err := w.h.LinkByName("ethwe")
	must(t, err)
	must(t, w.h.LinkSetUp(link))
	return link
}

func (w *held) address(t *testing.T, link netlink.Link, text string) {
	t.Helper()
	a, err := netlink.ParseAddr(text)
	must(t, err)
	must(t, w.h.AddrAdd(link, a))
}

func (w *held) route(t *testing.T, link netlink.Link) {
	t.Helper()
	dst, err := netlink.ParseIPNet("224.0.0.0/4")
	must(t, err)
	must(t, w.h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}))
}

func TestWaits(t *testing.T) {
	d := installed(t, runtime.Multicast())
	w := start(t, d.Wait, nil, "sh", "-c", "echo $$ $WEAVE_EXEC; exit 7")
	w.listens(t)
	link := w.wire(t)
	if !w.shimmed(t) {
		t.Fatal("it did not wait for an address")
	}
	w.address(t, link, "10.32.0.1/12")
	if !w.shimmed(t) {
		t.Fatal("it did not wait for the route")
	}
	w.route(t, link)
	if code, out := w.end(t); code != 7 || out != "1\n" {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestWaitsNotForTheRoute(t *testing.T) {
	w := start(t, installed(t).Wait, nil, "true")
	w.address(t, w.wire(t), "fd00::1/64")
	if code, out := w.end(t); code != 0 {
		t.Errorf("code %d, %q", code, out)
	}
}

// TestRouteThatNeverComes is not waited for much longer than the address.
func TestRouteThatNeverComes(t *testing.T) {
	w := start(t, installed(t, runtime.Multicast()).Wait, nil, "true")
	w.address(t, w.wire(t), "10.32.0.1/12")
	if code, out := w.end(t); code != 0 {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestNothingToWaitFor(t *testing.T) {
	w := start(t, installed(t).NoWait, nil, "true")
	if code, out := w.end(t); code != 0 {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestLimit(t *testing.T) {
	w := start(t, installed(t).Wait, []string{EnvPatience + "=30ms"}, "true")
	if code, out := w.end(t); code != 1 || !strings.Contains(out, "waited 30ms for weave") || !strings.Contains(out, "Is weave running on this host?") {
		t.Errorf("code %d, %q", code, out)
	}
	w = start(t, installed(t).Wait, []string{EnvPatience + "=soon"}, "true")
	w.address(t, w.wire(t), "10.32.0.1/12")
	if code, out := w.end(t); code != 0 || !strings.Contains(out, `WEAVE_WAIT="soon" is no duration`) {
		t.Errorf("code %d, %q", code, out)
	}
}

// TestSignals end the shim, although it is process 1; what follows it has them as ever.
func TestSignals(t *testing.T) {
	d := installed(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		w := start(t, d.Wait, nil, "true")
		w.listens(t) // that is after it took care of signals
		must(t, w.Process.Signal(s))
		if code, out := w.end(t); code != 128+int(s) {
			t.Errorf("code %d, %q", code, out)
		}
	}
	// A signal in the middle of exec can kill even process 1 (its handler is tested twice, without a lock across exec), so
	// none is sent before the trap is set.
	ready := filepath.Join(t.TempDir(), "ready")
	w := start(t, d.NoWait, nil, "sh", "-c", `trap "exit 9" TERM; : >"$0"; while :; do sleep 0.01; done`, ready)
	for deadline := time.Now().Add(testPatience); ; {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the program does not start")
		}
	}
	must(t, w.Process.Signal(syscall.SIGTERM))
	if code, out := w.end(t); code != 9 {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestBecome(t *testing.T) {
	d := installed(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "denied"), []byte("#!/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "garbage"), []byte("\x00\x01"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a.script"), []byte("#!/bin/sh\necho $0 $WEAVE_EXEC $A \"$1\"\n"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	for _, tt := range []struct {
		path string
		args []string
		code int
		out  string
	}{
		{"/bin:" + dir, []string{"a.script", "a  b"}, 0, dir + "/a.script 1 a  b\n"},
		{"/bin", []string{"absent"}, 127, "weave: cannot run absent: executable file not found in $PATH\n"},
		{dir, []string{"dir"}, 127, "weave: cannot run dir: executable file not found in $PATH\n"},
		{"/bin", []string{dir + "/absent"}, 127, "no such file or directory\n"},
		{"/bin", []string{dir + "/dir"}, 126, "permission denied\n"},
		{dir, []string{"denied"}, 126, "permission denied\n"},
		{dir, []string{"garbage"}, 126, "exec format error\n"},
		{"/bin", nil, 1, "there is no command"},
	} {
		cmd := exec.Command(filepath.Join(d.NoWait, shimName), tt.args...)
		cmd.Env = []string{"PATH=/nowhere", "PATH=" + tt.path, "A=1", EnvExec + "=1"}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if cmd.ProcessState.ExitCode() != tt.code || !strings.Contains(string(out), tt.out) {
			t.Errorf("%v: code %d, %q", tt.args, cmd.ProcessState.ExitCode(), out)
		}
	}
	cmd := exec.Command(filepath.Join(d.NoWait, shimName), "true")
	cmd.Env = []string{"A=1"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("without PATH: %v, %s", err, out)
	}
}

func TestMainWaits(t *testing.T) {
	proc := t.TempDir()
	put := func(pid, cmdline string, ppid int) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Join(proc, pid), 0o755))
		must(t, os.WriteFile(filepath.Join(proc, pid, "cmdline"), []byte(strings.ReplaceAll(cmdline, " ", "\x00")), 0o644))
		must(t, os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(fmt.Sprintf("%s (w) ) S %d 1 1", pid, ppid)), 0o644))
	}
	waits := func(want bool) {
		t.Helper()
		if got := mainWaits(proc, "/w/w", 40); got != want {
			t.Errorf("got %v", got)
		}
	}
	put("40", "/w/w ls ", 0) // we
	put("41", "/w/w ls ", 0) // executed like us
	put("1", "/w/w nginx ", 0)
	waits(true)
	put("1", "nginx ", 0)
	waits(false)
	put("1", "/sbin/docker-init -- /w/w nginx ", 0)
	put("7", "/w/w nginx ", 1)
	waits(true)
	put("7", "nginx /w/w ", 1)
	waits(false)
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	inode := func(d string) uint64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(d, shimName))
		must(t, err)
		if info.Mode().Perm() != 0o755 {
			t.Errorf("mode %v", info.Mode())
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	var first uint64
	for i, text := range []string{"one", "one", "two"} {
		must(t, os.WriteFile(program, []byte(text), 0o700))
		d, err := Install(dir, program, []netip.Prefix{runtime.Multicast()})
		must(t, err)
		for _, v := range []string{d.Wait, d.NoWait} {
			got, err := os.ReadFile(filepath.Join(v, shimName))
			if err != nil || string(got) != text || inode(v) != inode(d.Wait) {
				t.Errorf("%d: %s: %q, %v", i, v, got, err)
			}
			entries, _ := os.ReadDir(v)
			if len(entries) != 2 {
				t.Errorf("%s has %v", v, entries)
			}
		}
		if i == 1 && inode(d.Wait) != first {
			t.Error("an equal file was replaced")
		}
		first = inode(d.Wait)
	}
}
