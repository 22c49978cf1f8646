package netlink

import (
	"time"

	"golang.org/x/sys/unix"
)

// lookAnyway is how long the host's addresses are believed to be the same although the
// kernel did not tell of a change.
const lookAnyway = time.Minute

// HostChanges tells whether the host's links or addresses may be others than when it
// was asked last (rtnetlink(7)): to list them all the time costs a daemon that has
// nothing to do more than anything else. It belongs to one goroutine. Where the kernel
// does not tell, they always may.
type HostChanges struct {
	fd     int // -1: the kernel does not tell
	looked time.Time
	told   [1]byte // of a message; the rest is thrown away
}

// WatchHost begins to listen in the network namespace of the calling thread; Close ends it. A kernel that does not tell is no
// error.
func WatchHost() *HostChanges {
	h := &HostChanges{fd: -1}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return h
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}) != nil {
		_ = unix.Close(fd)
		return h
	}
	h.fd = fd
	return h
}

// Any reports whether to look. What the kernel tells is not read but for its being
// there; more than its queue holds is a change as well.
func (h *HostChanges) Any(now time.Time) bool {
	told := h.fd < 0
	for h.fd >= 0 {
		_, err := unix.Read(h.fd, h.told[:])
		if err == unix.EAGAIN {
			break
		}
		told = true
		if err != nil && err != unix.ENOBUFS && err != unix.EINTR {
			h.Close()
		}
	}
	if !told && now.Sub(h.looked) < lookAnyway {
		return false
	}
	h.looked = now
	return true
}

// Close ends the listening; Any is true from then on. It may be called more than once.
func (h *HostChanges) Close() {
	if h.fd >= 0 {
		_ = unix.Close(h.fd)
		h.fd = -1
	}
}
