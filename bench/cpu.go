package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

// meter tells how much processor time this program and all it started have
// used. A control group of our own counts exactly, softirqs that run inside
// our processes included; what the kernel hands to ksoftirqd is missed.
// Without the right to make one, the processes' own times are added up.
type meter struct {
	dir  string // of the control group, "" without
	file string // its counter
	how  string
}

func newMeter() *meter {
	for _, try := range []struct{ root, counter, how string }{
		{"/sys/fs/cgroup/cpuacct", "cpuacct.usage", "own cpuacct control group"},
		{"/sys/fs/cgroup", "cpu.stat", "own control group (v2)"},
	} {
		dir, err := os.MkdirTemp(try.root, "weave-bench-") // process ids repeat: we have a PID namespace of our own
		if err != nil {
			continue
		}
		m := &meter{dir: dir, file: filepath.Join(dir, try.counter), how: try.how}
		_, err = os.Stat(m.file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
		}
		if err == nil {
			return m
		}
		_ = os.Remove(dir)
	}
	return &meter{how: "sum of the processes' times"}
}

// seconds is the processor time used since some moment in the past.
func (m *meter) seconds() float64 {
	if m.dir == "" {
		return processSeconds()
	}
	text, _ := os.ReadFile(m.file)
	if rest, ok := strings.CutPrefix(string(text), "usage_usec "); ok {
		usec, _, _ := strings.Cut(rest, "\n")
		n, _ := strconv.ParseFloat(usec, 64)
		return n / 1e6
	}
	n, _ := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	return n / 1e9
}

// exclude takes a process out of the sum, into a control group beside ours.
// Where there are no groups, its time stays in.
func (m *meter) exclude(pid int) error {
	if m.dir == "" {
		return nil
	}
	dir := m.dir + "-wire"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// close leaves the control group for its parent and removes it, as soon as
// the daemons in it are gone.
func (m *meter) close() {
	if m.dir == "" {
		return
	}
	_ = os.WriteFile(filepath.Join(filepath.Dir(m.dir), "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
	_ = lab.Eventually(3*time.Second, func() error { return os.Remove(m.dir) })
	_ = os.Remove(m.dir + "-wire")
}

// processSeconds adds up user and system time of every process we can see,
// and of those they have waited for.
func processSeconds() float64 {
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux platform Go runs on
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var ticks float64
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		for i := 11; i <= 14 && i < len(f); i++ { // utime, stime, cutime, cstime
			n, _ := strconv.ParseFloat(string(f[i]), 64)
			ticks += n
		}
	}
	return ticks / ticksPerSecond
}

// rss is the resident memory of a process, in megabytes.
func rss(pid int) (float64, error) { return memory(pid, "VmRSS:") }

// anonymous is that of it which is not pages of files: those of a program come and
// go with what it does, and whoever else runs it shares them.
func anonymous(pid int) (float64, error) { return memory(pid, "RssAnon:") }

// memory reads a line of /proc/PID/status (proc_pid_status(5)), in megabytes.
func memory(pid int, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb / 1000, err
		}
	}
	return 0, fmt.Errorf("no %s of process %d", name, pid)
}
