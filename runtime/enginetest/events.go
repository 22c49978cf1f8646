package enginetest

import (
	"fmt"
	"strings"
	"sync"

	"weave/runtime"
)

// What happens, in which order, and that all of it is told.

func eventsInOrder(b *bench) {
	w := b.watch()
	id := b.sleeper("life")
	w.expect(id, runtime.Started)
	b.run("rename", "life", "other")
	w.expect(id, runtime.Renamed)
	b.run("restart", "other")
	w.expect(id, runtime.Died)
	w.expect(id, runtime.Started)
	b.run("exec", "other", "true") // is no event
	b.run("stop", "other")
	w.expect(id, runtime.Died)
	b.run("start", "other")
	w.expect(id, runtime.Started)
	b.host("kill", "-9", fmt.Sprint(b.inspect(id).PID))
	w.expect(id, runtime.Died)
	b.run("rm", "other")
	w.expect(id, runtime.Removed)
	id = b.sleeper("other", "--rm")
	w.expect(id, runtime.Started)
	b.run("rm", "-f", "other")
	w.expect(id, runtime.Died)
	w.expect(id, runtime.Removed)
	w.stop()
}

// eventsOfPolicy tests that an engine that restarts a container by itself tells it.
func eventsOfPolicy(b *bench) {
	w := b.watch()
	id := b.sleeper("again", "--restart", "always")
	w.expect(id, runtime.Started)
	for range 2 {
		pid := 0
		b.until("again runs", func() bool { pid = b.inspect(id).PID; return pid != 0 })
		b.host("kill", "-9", fmt.Sprint(pid))
		w.expect(id, runtime.Died)
		w.expect(id, runtime.Started)
	}
	b.run("rm", "-f", "again")
	w.expect(id, runtime.Died)
	w.expect(id, runtime.Removed)
	w.stop()
}

// crowd makes a crowd's containers and returns their ids.
func (b *bench) crowd(name string, n int) []string {
	b.Helper()
	script := fmt.Sprintf(`for i in $(seq %d); do %s create --stop-signal KILL --name %s$i --net none %s sleep 1000 || exit 1; done`,
		n, b.Command, name, b.Image)
	return strings.Fields(b.host("sh", "-c", script))
}

// startAll starts a crowd, so many at once, and returns without waiting; what it returns waits.
func (b *bench) startAll(ids []string, atOnce int) (wait func()) {
	b.Helper()
	var group sync.WaitGroup
	group.Go(func() {
		argv := fmt.Sprintf("printf '%%s\\n' %s | xargs -P %d -n 1 %s start", strings.Join(ids, " "), atOnce, b.Command)
		if out, err := b.Host("sh", "-c", argv); err != nil {
			b.Errorf("start %d containers: %v: %s", len(ids), err, out)
		}
	})
	return group.Wait
}

func manyAtOnce(b *bench) {
	ids := b.crowd("many", b.Crowd)
	w := b.watch()
	wait := b.startAll(ids, b.Crowd)
	started := w.counts(ids)
	wait()
	for _, id := range ids {
		if started[id] != 1 {
			b.Errorf("%.12s has started %d times, want once", id, started[id])
		}
	}
	if all, err := b.List(b.context()); err != nil || len(all) != b.Crowd+1 {
		b.Errorf("list: %d and %v, want %d", len(all), err, b.Crowd+1)
	}
	w.stop()
}

// slowReceiver tests that events wait for a receiver that takes none until all is over.
func slowReceiver(b *bench) {
	ids := b.crowd("slow", 6)
	w := b.watch()
	b.startAll(ids, 3)()
	b.run(append([]string{"kill"}, ids...)...)
	b.until("all have ended", func() bool {
		all, err := b.List(b.context())
		if err != nil {
			b.Fatal(err)
		}
		return len(all) == 0
	})
	for id, n := range w.counts(ids) {
		if n != 1 {
			b.Errorf("%.12s has started %d times, want once", id, n)
		}
	}
	w.stop()
}

// nothingMissed starts watching while containers are starting: each must be on the list made after Watching, or be told
// to have started after it.
func nothingMissed(b *bench) {
	const watches = 5
	ids := b.crowd("any", b.Crowd)
	wait := b.startAll(ids, 4)
	seen := make([]map[string]bool, watches)
	var open []*watcher
	for i := range seen {
		w := b.watch()
		all, err := b.List(b.context())
		if err != nil {
			b.Fatal(err)
		}
		seen[i] = map[string]bool{}
		for _, c := range all {
			seen[i][c.ID] = true
		}
		open = append(open, w)
	}
	wait()
	last := b.sleeper("last")
	for i, w := range open {
		for {
			e := w.next()
			if e.ID == last {
				break
			}
			seen[i][e.ID] = true
		}
		for _, id := range ids {
			if !seen[i][id] {
				b.Errorf("watch %d: %.12s is neither on the list nor told to have started", i, id)
			}
		}
		w.stop()
	}
}
