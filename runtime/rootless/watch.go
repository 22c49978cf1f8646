package rootless

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Watch tells whether a network namespace still has processes.
type Watch struct {
	id    runtime.Identity
	pid   int
	pidfd *os.File
}

// NewWatch watches a namespace that a process is in.
func NewWatch(id runtime.Identity, pid int) (*Watch, error) {
	w := &Watch{id: id}
	return w, w.follow(pid)
}

func (w *Watch) follow(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	if w.pidfd != nil {
		w.pidfd.Close()
	}
	w.pid, w.pidfd = pid, os.NewFile(uintptr(fd), "pidfd")
	return nil
}

// PID is a process that was in the namespace when it was looked at last.
func (w *Watch) PID() int { return w.pid }

// Lives looks whether the process is still there, and if not, for another one in the same namespace.
func (w *Watch) Lives() bool {
	if !w.ended() && identity(w.pid) == w.id {
		return true
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || identity(pid) != w.id {
			continue
		}
		if w.follow(pid) == nil && identity(pid) == w.id {
			return true
		}
	}
	return false
}

func (w *Watch) ended() bool {
	fds := []unix.PollFd{{Fd: int32(w.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

// Close gives up the watch.
func (w *Watch) Close() error { return w.pidfd.Close() }

// identity is the network namespace of a process, zero if it cannot be seen.
func identity(pid int) runtime.Identity {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) != nil {
		return runtime.Identity{}
	}
	return runtime.Identity{Dev: uint64(st.Dev), Inode: st.Ino}
}
