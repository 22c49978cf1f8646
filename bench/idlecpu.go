package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

const (
	crowd       = 20
	untilOn     = 150 * time.Second // until all are on the path: on a busy machine beats come late, and trying again waits longer each time
	watchFor    = 10 * time.Second
	idleCPUTime = 90 * time.Second
)

// idleCPU measures the processor time of daemons that have nothing to carry, in milliseconds a second for each: two and
// twenty, on the kernel path and not. What the kernel does for the packets that arrive is in none.
func idleCPU(*plan) (figures, error) {
	got := figures{}
	for _, n := range []int{2, crowd} {
		for path, env := range map[string][]string{"fastdp": nil, "sleeve": userSpace} {
			ms, err := restless(n, path, env)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "idlecpu: %d daemons, %s: %.2f ms a second each\n", n, path, ms)
			got[fmt.Sprintf("%s%d", path, n)] = ms
		}
	}
	return got, nil
}

// restless launches n daemons, waits until each has all others on a path, and watches them.
func restless(n int, path string, env []string) (float64, error) {
	l, err := lab.New(lab.Config{Hosts: n})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	for i, h := range l.Hosts {
		if r := h.WeaveEnv(env, append([]string{"launch"}, firstOf(l, i)...)...); r.RC != 0 || r.Err != nil {
			return 0, fmt.Errorf("%v", r)
		}
	}
	for _, h := range l.Hosts {
		err := lab.Eventually(untilOn, func() error {
			if got := strings.Count(h.Weave("status", "connections").Stdout, " "+path+" "); got != n-1 {
				return fmt.Errorf("%s has %d of %d connections by %s", h.Name, got, n-1, path)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	<-time.After(settleFor)
	before, err := cpuOf(l.Hosts)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	<-time.After(watchFor)
	took := time.Since(began)
	after, err := cpuOf(l.Hosts)
	return float64((after - before).Microseconds()) / 1000 / took.Seconds() / float64(n), err
}

// firstOf is whom a host connects to.
func firstOf(l *lab.Lab, i int) []string {
	if i == 0 {
		return nil
	}
	return []string{l.Hosts[0].IP}
}

// cpuOf is the time that the hosts' daemons were on a processor: the first field of schedstat (Documentation/scheduler/sched-stats.rst).
func cpuOf(hosts []*lab.Host) (sum time.Duration, err error) {
	for _, h := range hosts {
		pid := 0
		err := lab.Eventually(untilOn, func() (err error) { // it looks through /proc, where others come and go
			pid, err = h.DaemonPID()
			return err
		})
		if err != nil {
			return 0, err
		}
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is right
		for _, t := range threads {
			text, err := os.ReadFile(t)
			if err != nil {
				continue // that thread has ended
			}
			var ns int64
			if _, err := fmt.Sscan(string(text), &ns); err != nil {
				return 0, fmt.Errorf("%s: %w", t, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

func renderIdleCPU(f figures) string {
	return fmt.Sprintf("Milliseconds a second for each daemon: of 2, %.1f on the kernel path and %.1f off it; of %d, %.1f and %.1f.\n\n",
		f["fastdp2"], f["sleeve2"], crowd, f[fmt.Sprint("fastdp", crowd)], f[fmt.Sprint("sleeve", crowd)])
}
