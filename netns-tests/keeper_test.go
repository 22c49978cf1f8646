package netnstests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
)

// While a stream lasts one thread of each daemon keeps to one processor, if there are two or three, and to none afterwards:
//
//	c1 ── host1 ═══ host2 ── c2
func TestStreamKeepsLaneOnProcessor(t *testing.T) {
	var all unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &all))
	choice := all.Count() == 2 || all.Count() == 3
	p := newPair(t, lab.Config{}, "--no-fastdp", "--queues", "1")
	var pids []int
	for _, h := range p.Hosts {
		pid, err := h.DaemonPID()
		must(t, err)
		pids = append(pids, pid)
	}
	stream := func(look func()) {
		ended := make(chan error, 1)
		go func() {
			_, err := lab.Transfer(p.c1.NS, p.c2.NS, "10.2.1.2:5001", 256<<20, time.Minute)
			ended <- err
		}()
		for {
			select {
			case err := <-ended:
				must(t, err)
				return
			case <-time.After(5 * time.Millisecond):
				look()
			}
		}
	}
	for _, pid := range pids {
		seen, end := false, time.Now().Add(settle)
		for again := true; again; again = choice && !seen && time.Now().Before(end) {
			stream(func() {
				n, err := keptThreads(pid, all.Count())
				must(t, err)
				seen = seen || n == 1
			})
		}
		if seen != choice {
			t.Errorf("daemon %d kept a thread on a processor of %d: %v, want %v", pid, all.Count(), seen, choice)
		}
	}
	for _, pid := range pids {
		eventually(t, settle, func() error {
			n, err := keptThreads(pid, all.Count())
			if err == nil && n > 0 {
				err = fmt.Errorf("%d threads are still kept", n)
			}
			return err
		})
	}
}

// keptThreads is how many threads of a process may not run on all of the processors.
func keptThreads(pid, processors int) (n int, err error) {
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return 0, err
		}
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &set); errors.Is(err, unix.ESRCH) {
			continue // it has ended since
		} else if err != nil {
			return 0, err
		}
		if set.Count() < processors {
			n++
		}
	}
	return n, nil
}
