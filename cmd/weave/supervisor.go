package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The words on the link between the launch command and the supervisor, one a line.
const (
	wordReady    = "ready"    // launch → supervisor: the daemon answered; from now on it is worth starting again
	wordWatching = "watching" // supervisor → launch: understood
	wordLocked   = "locked"   // supervisor → launch: another supervisor or daemon holds the lock
	wordDied     = "died"     // supervisor → launch: the daemon ended before it was ready, and why; so do I
)

const (
	linkFD     = 3
	stopGrace  = 10 * time.Second // from SIGTERM to SIGKILL
	firstDelay = 100 * time.Millisecond
	longDelay  = 30 * time.Second
	steadyTime = 10 * time.Second // a daemon that lived so long starts the back-off anew
)

// supervisor keeps one daemon running.
//
//	            ready                     died
//	starting ──────────► watching ──────────────────► waiting (back-off)
//	    │                   │  ▲                          │
//	    │ died, link cut    │  └──────────────────────────┘ started
//	    ▼                   ▼ exit 0, SIGTERM, or died with noRestart
//	   end ◄────────────── end
type supervisor struct {
	// command makes the process to run; again is true for every one but the first.
	command   func(again bool) *exec.Cmd
	ready     <-chan struct{} // closed when the launch has succeeded
	noRestart bool
	log       *slog.Logger
	// now and after are the clock.
	now   func() time.Time
	after func(time.Duration) <-chan time.Time
}

// supervise is the supervisor process.
func (inv *invocation) supervise(opts options) error {
	link := os.NewFile(linkFD, "link")
	if link == nil {
		return errors.New("supervisor: started by hand: use 'weave launch'")
	}
	syscall.CloseOnExec(linkFD)
	defer link.Close()
	err := inv.superviseWith(opts, link)
	switch {
	case errors.Is(err, errLocked):
		_, _ = io.WriteString(link, wordLocked+"\n")
	case err != nil: // nobody reads it once the launch is over
		_, _ = io.WriteString(link, wordDied+" "+err.Error()+"\n")
	}
	return err
}

func (inv *invocation) superviseWith(opts options, link *os.File) error {
	lock, err := takeLock(inv.dirs.lockPath(), lockOwner)
	if err != nil {
		return err
	}
	defer lock.release()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log, err := newLogger(appender(inv.dirs.logPath()), opts.level)
	if err != nil {
		return err
	}
	instance := os.Getenv(envInstance)
	ready := make(chan struct{})
	go listen(link, ready, stop)
	s := supervisor{
		ready: ready, noRestart: opts.noRestart, log: log, now: time.Now, after: time.After,
		command: func(again bool) *exec.Cmd { return inv.daemonCommand(opts, again, instance) },
	}
	return s.run(ctx)
}

// daemonCommand makes the daemon's process. One that is started again goes on with the peers it had, which need not be
// those of the command line any more.
func (inv *invocation) daemonCommand(opts options, again bool, instance string) *exec.Cmd {
	if again {
		opts.node.Resume, opts.node.Peers = true, nil
	}
	cmd := exec.Command(executable(), opts.arguments()...)
	cmd.Args[0] = filepath.Base(os.Args[0])
	cmd.Env = inv.environment(opts, roleDaemon, instance)
	if f, err := os.OpenFile(inv.dirs.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		cmd.Stderr = f // until the daemon has opened its log itself
	}
	return cmd
}

// run starts the daemon and watches it until it ends for good.
func (s *supervisor) run(ctx context.Context) error {
	delay := firstDelay
	for again := false; ; again = true {
		began := s.now()
		err := runProcess(ctx, s.command(again))
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case !isClosed(s.ready):
			return fmt.Errorf("supervisor: %w", err)
		case s.noRestart:
			s.log.Error("the daemon died; --no-restart was given", "err", err)
			return fmt.Errorf("supervisor: %w", err)
		}
		if s.now().Sub(began) >= steadyTime {
			delay = firstDelay
		}
		s.log.Error("the daemon died and is started again", "err", err, "after", delay)
		select {
		case <-ctx.Done():
			return nil
		case <-s.after(delay):
		}
		delay = min(2*delay, longDelay)
	}
}

// listen waits for the launch command to say that the daemon is ready. When it goes away without that, because
// somebody interrupted it, nobody wants the daemon.
func listen(link io.ReadWriter, ready chan<- struct{}, unwanted context.CancelFunc) {
	line, _ := bufio.NewReader(link).ReadString('\n')
	if strings.TrimSpace(line) == wordReady {
		close(ready)
		_, _ = io.WriteString(link, wordWatching+"\n") // if it is gone by now it has no use for the answer
		return
	}
	unwanted()
}

// runProcess runs one process to its end, and ends it when ctx ends.
func runProcess(ctx context.Context, cmd *exec.Cmd) error {
	if f, ok := cmd.Stderr.(*os.File); ok {
		defer f.Close()
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		return err
	case <-grace.C:
		_ = cmd.Process.Kill()
		return <-ended
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// appender opens the file for each record: the daemon owns it and may have put a new one in its place.
type appender string

func (a appender) Write(p []byte) (int, error) {
	f, err := os.OpenFile(string(a), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(p)
}
