package link

import (
	"time"

	"golang.org/x/sys/unix"
)

// poll waits until fd is ready for events or has an error, or until the limit
// has passed. A signal ends it early.
func poll(fd int, events int16, limit time.Duration) {
	ts := unix.NsecToTimespec(int64(limit))
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	_, _ = unix.Ppoll(fds[:], &ts, nil)
}
