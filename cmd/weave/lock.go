package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The lock file says which processes of a daemon are alive, and it says so truly: the kernel drops a POSIX lock
// (fcntl(2), F_SETLK) with its holder, and tells anybody the holder's pid.
//
//	byte 0  the supervisor, or a daemon in the foreground
//	byte 1  the daemon under a supervisor
//
// POSIX locks have one trap: a process that closes any descriptor of the file loses its locks. Whoever holds one never
// opens the file again.
const (
	lockOwner  = 0
	lockDaemon = 1
)

var errLocked = errors.New("another weave holds the lock")

// runLock is a held lock.
type runLock struct{ file *os.File }

// takeLock locks one byte of the lock file until the process ends or release is called. It fails with errLocked when
// any other process holds a lock that stands for a daemon of its own.
func takeLock(path string, place int64) (*runLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: place, Len: 1}
	if place == lockOwner {
		lock.Len = 2 // a daemon whose supervisor was killed counts as well
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if place == lockOwner { // leave the second byte to the daemon
		unlock := unix.Flock_t{Type: unix.F_UNLCK, Start: lockDaemon, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unlock); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
	return &runLock{f}, nil
}

func (l *runLock) release() { l.file.Close() }

// lockHolders lists the processes that hold a lock, the supervisor first. A pid is 0 when the process is out of our
// sight (another pid namespace).
func lockHolders(path string) ([]int, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var pids []int
	for _, place := range []int64{lockOwner, lockDaemon} {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: place, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
			return nil, fmt.Errorf("query lock %s: %w", path, err)
		}
		if lock.Type != unix.F_UNLCK {
			pids = append(pids, int(lock.Pid))
		}
	}
	return pids, nil
}
