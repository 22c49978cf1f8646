package main

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// No goroutine but main's runs on the main thread, however many there are.
func TestMainThreadIsKept(t *testing.T) {
	var all sync.WaitGroup
	for range 50 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			runtime.LockOSThread() // all at once, each on a thread of its own
			defer runtime.UnlockOSThread()
			if unix.Gettid() == os.Getpid() {
				t.Error("a goroutine was given the main thread")
			}
		})
		runtime.Gosched()
	}
	all.Wait()
}
