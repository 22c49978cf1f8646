package node

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"weave/peer"
	"weave/peer/wire"
)

// jobOf is a job that is known again by its name.
func jobOf(n byte) fastJob { return fastJob{then: fastThen{moved: []peer.Name{{n}}}} }

// Jobs are done in their order, and what follows from them is heard of in the same.
func TestFastQueueOrder(t *testing.T) {
	q := newFastQueue()
	for n := range byte(3) {
		if !q.put(jobOf(n)) {
			t.Fatal("refused")
		}
	}
	var got []byte
	for j, ok := q.take(); ok; j, ok = q.take() {
		q.finish(j)
	}
	<-q.ready
	for _, then := range q.reap() {
		got = append(got, then.moved[0][0])
	}
	if !slices.Equal(got, []byte{0, 1, 2}) || len(q.reap()) != 0 {
		t.Errorf("heard of %v", got)
	}
}

// Beats that would be late are left out, and nothing else is.
func TestFastQueueStaleBeats(t *testing.T) {
	q := newFastQueue()
	for range 2 * staleBeats {
		j := jobOf(1)
		j.beat = &wire.FastNonce{}
		q.put(j)
	}
	jobs, beats := 0, 0
	for j, ok := q.take(); ok; j, ok = q.take() {
		jobs++
		if j.beat != nil {
			beats++
		}
	}
	if jobs != 2*staleBeats || beats != staleBeats {
		t.Errorf("%d jobs with %d beats", jobs, beats)
	}
}

// Who waits for quiet gets it when the last job is done and not before; at the end no job is lost, and none taken that nobody does.
func TestFastQueueSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFastQueue()
		q.settle() // there is nothing to wait for
		q.put(jobOf(1))
		quiet := make(chan struct{})
		go func() {
			q.settle()
			close(quiet)
		}()
		j, _ := q.take()
		synctest.Wait()
		select {
		case <-quiet:
			t.Error("quiet while a job is being done")
		default:
		}
		q.finish(j)
		if q.put(jobOf(2)); q.end() {
			t.Error("ended with a job")
		}
		f := &fastdp{queue: q}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		f.work(ctx)
		<-quiet
		if got := len(q.reap()); got != 2 {
			t.Errorf("%d jobs done", got)
		}
		if q.put(jobOf(3)) {
			t.Error("a job was taken after the end")
		}
		q.settle()
	})
}
