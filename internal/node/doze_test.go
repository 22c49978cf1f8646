package node

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// A doze ends by itself, when something is there, and when it is woken, and says which of these it was.
func TestDozeEnds(t *testing.T) {
	w, err := newWaiter()
	if err != nil {
		t.Fatal(err)
	}
	for endured := false; !endured; { // a signal of the runtime may end one early
		before := time.Now()
		found := w.doze()
		endured = time.Since(before) >= dozeLimit
		if endured && found {
			t.Error("nothing was there, and a whole doze found something")
		}
	}
	w.wake()
	if !w.doze() {
		t.Error("a doze missed that it was woken before")
	}
	for range 20 { // what wake left is taken back, so that dozes are whole again
		if !w.doze() {
			return
		}
	}
	t.Error("twenty dozes were each ended by one wake")
}

// A lane that dozes again and again holds nobody up: memory is collected, and other goroutines have their turns, though Go
// does not know that the lane sleeps.
func TestDozeHoldsNobodyUp(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	w, err := newWaiter()
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			w.doze()
		}
	}()
	turns := make(chan int)
	go func() {
		for i := range 1000 {
			turns <- i
		}
		close(turns)
	}()
	for i := range turns {
		if i%100 == 0 {
			runtime.GC()
		}
	}
	stop.Store(true)
	<-done
}
