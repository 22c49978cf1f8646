package tun

import (
	"fmt"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// inNamespace runs fn on a thread that is in the network namespace at path; "" runs it where the caller is.
// If the thread cannot be brought back it stays locked to its goroutine and dies with it.
func inNamespace(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer target.Close()
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		err, back := switched(target, fn)
		if back {
			goruntime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// switched reports fn's error and whether the thread is where it was before.
func switched(target *os.File, fn func() error) (err error, back bool) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open own network namespace: %w", err), true
	}
	defer own.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", target.Name(), err), true
	}
	err = fn()
	return err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil
}
