package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// helper makes a process of helperMain.
func helper(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "helper"
	return cmd
}

// stage is a supervisor whose clock the test owns: now advances by what each run is said to have lasted, and waiting
// is over at once.
type stage struct {
	supervisor
	runs   [][]string      // the helpers to run, one after the other
	lasted []time.Duration // of each run
	delays []time.Duration // waited for
	again  []bool
}

func newStage(ready bool, runs ...[]string) *stage {
	s := &stage{runs: runs}
	clock := time.Unix(0, 0)
	calls := 0
	readied := make(chan struct{})
	if ready {
		close(readied)
	}
	s.supervisor = supervisor{
		ready: readied, log: slog.New(slog.DiscardHandler),
		command: func(again bool) *exec.Cmd {
			s.again = append(s.again, again)
			return helper(s.runs[len(s.again)-1]...)
		},
		now: func() time.Time { // called before and after each run
			if run := calls / 2; calls%2 == 1 && run < len(s.lasted) {
				clock = clock.Add(s.lasted[run])
			}
			calls++
			return clock
		},
		after: func(d time.Duration) <-chan time.Time {
			s.delays = append(s.delays, d)
			over := make(chan time.Time)
			close(over)
			return over
		},
	}
	return s
}

func times(n int, args ...string) [][]string {
	var runs [][]string
	for range n {
		runs = append(runs, args)
	}
	return runs
}

func TestSupervisorBacksOff(t *testing.T) {
	s := newStage(true, append(times(11, "exit", "1"), []string{"exit", "0"})...)
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	const ms = time.Millisecond
	want := []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, 30000 * ms, 30000 * ms}
	if diff := cmp.Diff(want, s.delays); diff != "" {
		t.Error(diff)
	}
	if s.again[0] || !s.again[1] || !s.again[11] {
		t.Errorf("again: %v", s.again)
	}
}

func TestSupervisorForgivesSteadyDaemons(t *testing.T) {
	s := newStage(true, append(times(3, "exit", "1"), []string{"exit", "0"})...)
	s.lasted = []time.Duration{0, 0, steadyTime}
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]time.Duration{firstDelay, 2 * firstDelay, firstDelay}, s.delays); diff != "" {
		t.Error(diff)
	}
}

func TestSupervisorGivesUp(t *testing.T) {
	before := newStage(false, []string{"exit", "3"})
	if err := before.run(t.Context()); err == nil || len(before.again) != 1 {
		t.Errorf("death before ready: %v, %d runs", err, len(before.again))
	}
	never := newStage(true, []string{"exit", "3"})
	never.noRestart = true
	if err := never.run(t.Context()); err == nil || len(never.again) != 1 {
		t.Errorf("no restart: %v, %d runs", err, len(never.again))
	}
	missing := newStage(true)
	missing.command = func(bool) *exec.Cmd { return exec.Command("/no/such/file") }
	missing.noRestart = true
	if err := missing.run(t.Context()); err == nil {
		t.Error("a daemon that cannot be started")
	}
}

// A supervisor that is told to end ends its daemon first.
func TestSupervisorStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newStage(true)
	s.command = func(bool) *exec.Cmd {
		cmd := helper("wait")
		stdin, err := cmd.StdinPipe() // held open: only the signal ends it
		if err != nil {
			t.Error(err)
		}
		t.Cleanup(func() { stdin.Close() })
		cancel()
		return cmd
	}
	if err := s.run(ctx); err != nil {
		t.Error(err)
	}
	// While it waits to start it again, too.
	ctx, cancel = context.WithCancel(t.Context())
	s = newStage(true, []string{"exit", "1"})
	s.after = func(time.Duration) <-chan time.Time {
		cancel()
		return nil
	}
	if err := s.run(ctx); err != nil {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	for words, wantReady := range map[string]bool{"ready\n": true, "": false, "rea": false, "nonsense\n": false} {
		ready := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var answer strings.Builder
		listen(struct {
			io.Reader
			io.Writer
		}{strings.NewReader(words), &answer}, ready, cancel)
		if isClosed(ready) != wantReady || (ctx.Err() == nil) != wantReady || (answer.String() == "watching\n") != wantReady {
			t.Errorf("%q: ready %v, unwanted %v, answer %q", words, isClosed(ready), ctx.Err() != nil, answer.String())
		}
		cancel()
	}
}

// lockInChild has another process take a lock and hold it until release is called.
func lockInChild(t *testing.T, path, place string) (said string, release func()) {
	t.Helper()
	cmd := helper("lock", path, place)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := stdout.Read(line)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(line[:n])), func() {
		stdin.Close()
		_ = cmd.Wait()
	}
}

func TestLock(t *testing.T) {
	path := t.TempDir() + "/weave.lock"
	if pids, err := lockHolders(path); len(pids) != 0 || err != nil {
		t.Fatalf("no file: %v, %v", pids, err)
	}
	own, err := takeLock(path, lockOwner)
	if err != nil {
		t.Fatal(err)
	}
	if said, end := lockInChild(t, path, "0"); said != errLocked.Error() {
		t.Errorf("a second supervisor: %q", said)
	} else {
		end()
	}
	said, end := lockInChild(t, path, "1")
	if said != "locked" {
		t.Errorf("the daemon below it: %q", said)
	}
	own.release()
	// The supervisor is gone, its daemon lives on.
	pids, err := lockHolders(path)
	if len(pids) != 1 || pids[0] == os.Getpid() || err != nil {
		t.Errorf("holders %v, %v", pids, err)
	}
	if _, err := takeLock(path, lockOwner); err != errLocked {
		t.Errorf("beside an orphaned daemon: %v", err)
	}
	end()
	if pids, err := lockHolders(path); len(pids) != 0 || err != nil {
		t.Errorf("after all ended: %v, %v", pids, err)
	}
}
