package netlink

import (
	"fmt"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Hostname is what a process's host calls itself, with its domain where that is
// set apart. It is "" for targets that are no processes, and for processes that
// share our own host's name.
func Hostname(target string) (string, error) {
	t, err := runtime.ParseTarget(target)
	if err != nil || t.Kind != runtime.ByPID {
		return "", err
	}
	theirs, err := os.Open("/proc/" + t.Text + "/ns/uts")
	if err != nil {
		return "", fmt.Errorf("host name of %s: %w", target, err)
	}
	defer theirs.Close()
	ours, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		return "", fmt.Errorf("host name of %s: %w", target, err)
	}
	defer ours.Close()
	if one, err := identify(theirs); err == nil {
		if other, err := identify(ours); err == nil && one == other {
			return "", nil
		}
	}
	name := make(chan string, 1)
	go func() {
		goruntime.LockOSThread() // for ever: the thread ends with the goroutine
		name <- utsName(int(theirs.Fd()))
	}()
	return <-name, nil
}

// utsName enters a namespace and reads its names; "" if that fails.
func utsName(fd int) string {
	var u unix.Utsname
	if unix.Setns(fd, unix.CLONE_NEWUTS) != nil || unix.Uname(&u) != nil {
		return ""
	}
	name, domain := unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Domainname[:])
	if domain != "" && domain != "(none)" {
		name += "." + domain
	}
	return name
}
