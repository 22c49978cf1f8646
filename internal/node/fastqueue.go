package node

import (
	"context"
	"net/netip"
	"sync"

	"weave/peer"
	"weave/peer/wire"
	"weave/stack"
)

// fastJob is what is to be done for the kernel path by calls that may take long (a disk's sync, the kernel's locks), in the order
// of its fields.
type fastJob struct {
	save         []byte // nil: nothing
	admit        bool   // allow and beats are new
	allow, beats []netip.Addr
	moves        []fastMove
	beat         *wire.FastNonce
	learn        *fastStation
	then         fastThen
}

// fastMove is one with the peer that it is about, nil if that is not known.
type fastMove struct {
	peer.FastMove
	p *peerState
}

// fastStation is a MAC that is behind an address.
type fastStation struct {
	mac stack.MAC
	at  netip.Addr
}

// fastThen is what the session loop does when a job is done: nothing is told, and no shield taken down, before.
type fastThen struct {
	lower   []netip.Addr
	moved   []peer.Name
	reports []peer.FastSend
}

func (j *fastJob) empty() bool { return j.quick() && j.then.empty() }

// quick tells that there is nothing for the worker, as with most reports.
func (j *fastJob) quick() bool {
	return j.save == nil && !j.admit && len(j.moves) == 0 && j.beat == nil && j.learn == nil
}

func (t *fastThen) empty() bool { return len(t.lower)+len(t.moved)+len(t.reports) == 0 }

// staleBeats is how many jobs may wait before beats are left out: late ones prove nothing.
const staleBeats = 8

// fastQueue keeps the jobs in their order. Any goroutine may use it; one does the jobs, the session loop makes them and
// hears of their end.
//
//	session loop ── put ──► jobs ──► take · fastdp.do · finish ──► done ── reap ──► session loop
type fastQueue struct {
	wake  chan struct{} // there are jobs
	ready chan struct{} // there is something done

	mu    sync.Mutex
	idle  sync.Cond // no job waits or is being done
	jobs  []fastJob
	done  []fastThen
	busy  bool
	ended bool
}

func newFastQueue() *fastQueue {
	q := &fastQueue{wake: make(chan struct{}, 1), ready: make(chan struct{}, 1)}
	q.idle.L = &q.mu
	return q
}

// put adds a job; false if nobody does any more.
func (q *fastQueue) put(j fastJob) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	if len(q.jobs) >= staleBeats {
		j.beat = nil
	}
	q.jobs = append(q.jobs, j)
	offer(q.wake, struct{}{})
	return true
}

// take says what to do next; false if there is nothing.
func (q *fastQueue) take() (fastJob, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy = len(q.jobs) > 0; !q.busy {
		q.idle.Broadcast()
		return fastJob{}, false
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	return j, true
}

// finish notes that a job is done.
func (q *fastQueue) finish(j fastJob) {
	if j.then.empty() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done = append(q.done, j.then)
	offer(q.ready, struct{}{})
}

// reap returns what was done since, in order.
func (q *fastQueue) reap() []fastThen {
	q.mu.Lock()
	defer q.mu.Unlock()
	done := q.done
	q.done = nil
	return done
}

// settle waits until all jobs are done.
func (q *fastQueue) settle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for (q.busy || len(q.jobs) > 0) && !q.ended {
		q.idle.Wait()
	}
}

// quiet tells that no job waits or is being done, and none was done that is not heard of.
func (q *fastQueue) quiet() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.busy && len(q.jobs) == 0 && len(q.done) == 0
}

// end refuses further jobs; false if there are some yet.
func (q *fastQueue) end() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = len(q.jobs) == 0
	if q.ended {
		q.idle.Broadcast()
	}
	return q.ended
}

// work does the jobs until ctx ends and none is left.
func (f *fastdp) work(ctx context.Context) {
	for {
		for j, ok := f.queue.take(); ok; j, ok = f.queue.take() {
			f.do(j)
			f.queue.finish(j)
		}
		select {
		case <-f.queue.wake:
		case <-ctx.Done():
			if f.queue.end() {
				return
			}
		}
	}
}
