package server

import (
	"context"
	"sync"
)

// maxFlights is how many questions may be at upstream servers at a time: each
// takes a socket for every server.
const maxFlights = 1024

// flights are the questions under way to upstream servers. Who asks one that is
// under way already waits for the same answer.
type flights struct {
	mu    sync.Mutex
	under map[question]*flight
}

// flight is a question under way.
type flight struct {
	done   chan struct{} // closed when there is an answer, or when there will be none
	answer *foreign      // nil: nobody gave a good one; to be read after done
}

// join finds the flight of a question, or begins one, which the caller then
// leads, and lands. It returns nil when there are too many.
func (f *flights) join(k question) (fl *flight, lead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl = f.under[k]; fl != nil {
		return fl, false
	}
	if len(f.under) >= maxFlights {
		return nil, false
	}
	if f.under == nil {
		f.under = map[question]*flight{}
	}
	fl = &flight{done: make(chan struct{})}
	f.under[k] = fl
	return fl, true
}

// land has those who wait go on.
func (f *flights) land(k question, fl *flight, a *foreign) {
	f.mu.Lock()
	delete(f.under, k)
	f.mu.Unlock()
	fl.answer = a
	close(fl.done)
}

// wait returns the answer, nil if there is none before ctx ends.
func (fl *flight) wait(ctx context.Context) *foreign {
	select {
	case <-fl.done:
		return fl.answer
	case <-ctx.Done():
		return nil
	}
}
