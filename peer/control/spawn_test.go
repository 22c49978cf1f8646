package control

import (
	"runtime"
	"sync"
	"testing"
)

// Of many goroutines at once no stacks are left over. (Of those that do not give theirs back, mostly 100 to 230 KB were.)
func TestStacksAreGivenBack(t *testing.T) {
	const many = 60 // of which the runtime keeps all
	for range 5 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var tr Transport
		var begun sync.WaitGroup
		begun.Add(many)
		for range many {
			tr.spawn(func() {
				begun.Done()
				begun.Wait()
			})
		}
		tr.group.Wait()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if kept := int(after.StackInuse) - int(before.StackInuse); kept > many<<10 {
			t.Errorf("stacks of %d goroutines that ended take %d bytes", many, kept)
		}
	}
}
