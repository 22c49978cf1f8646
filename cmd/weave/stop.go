package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
)

const (
	notRunning   = "Weave is not running (ignore on Kubernetes)."
	gonePoll     = 20 * time.Millisecond
	askTimeout   = 5 * time.Second  // for the answer to a stop
	askedGrace   = 10 * time.Second // after the daemon was asked, or signalled
	killedGrace  = 2 * time.Second
	notInCluster = "ERROR: weave is not running; unable to remove from cluster.\n" +
		"Re-launch weave before reset or use --force to override."
)

// stop ends the daemon and its supervisor and returns when both are gone.
func (inv *invocation) stop(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	inv.warnProxied(c.Context)
	running, err := inv.ensureStopped(c.Context)
	if err != nil {
		return err
	}
	if !running {
		fmt.Fprintln(inv.stderr, notRunning)
	}
	return nil
}

// ensureStopped stops what runs, by ever harder means. It tells whether anything ran.
func (inv *invocation) ensureStopped(ctx context.Context) (bool, error) {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := inv.client().Stop(ask)
	if e, ok := errors.AsType[*api.StatusError](err); ok {
		return true, e // it answers, but not to us
	}
	if errors.Is(err, os.ErrPermission) {
		return true, err
	}
	holders, lockErr := lockHolders(inv.dirs.lockPath())
	if lockErr != nil {
		return false, lockErr
	}
	if errors.Is(err, api.ErrNotRunning) && len(holders) == 0 {
		return false, nil
	}
	if err == nil && inv.waitGone(ctx, askedGrace) {
		return true, nil
	}
	for _, step := range []struct {
		signal syscall.Signal
		grace  time.Duration
	}{{syscall.SIGTERM, askedGrace}, {syscall.SIGKILL, killedGrace}} {
		inv.signalHolders(step.signal)
		if inv.waitGone(ctx, step.grace) {
			return true, nil
		}
	}
	return true, fmt.Errorf("cannot stop weave: its processes do not end; see %s", inv.dirs.logPath())
}

// waitGone waits until no process holds the lock.
func (inv *invocation) waitGone(ctx context.Context, grace time.Duration) bool {
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
	poll := time.NewTicker(gonePoll)
	defer poll.Stop()
	for {
		if holders, err := lockHolders(inv.dirs.lockPath()); err == nil && len(holders) == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-deadline.C:
			return false
		case <-poll.C:
		}
	}
}

// signalHolders signals the processes of the daemon, the supervisor first, which passes SIGTERM on.
func (inv *invocation) signalHolders(sig syscall.Signal) {
	holders, err := lockHolders(inv.dirs.lockPath())
	if err != nil {
		return
	}
	for _, pid := range holders {
		if pid > 1 {
			_ = syscall.Kill(pid, sig)
		}
	}
}

// reset removes everything of ours from the host: through the daemon, which can tell its peers, or without it.
func (inv *invocation) reset(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	ctx, force := c.Context, c.Bool("force")
	err := inv.resetRunning(ctx)
	switch {
	case err == nil:
	case errors.Is(err, api.ErrNotRunning) && !force && inv.dirs.launched():
		return &exitError{codeFailed, notInCluster}
	case errors.Is(err, api.ErrNotRunning):
	case !force:
		return err
	}
	if _, err := inv.ensureStopped(ctx); err != nil {
		return err
	}
	if inv.dirs.launched() || force {
		if err := inv.resetNode(ctx, inv.dirs.state, inv.dirs.run, os.Geteuid() != 0); err != nil {
			return err
		}
	}
	return inv.removeFiles()
}

// resetRunning has the running daemon do it, and waits for its end.
func (inv *invocation) resetRunning(ctx context.Context) error {
	client := inv.client()
	if err := client.HandOver(ctx); err != nil && !isAbsent(err) {
		return err
	}
	if err := client.Reset(ctx); err != nil {
		return err
	}
	inv.waitGone(ctx, askedGrace)
	return nil
}

// removeFiles removes the files of this package, unless a new daemon has just begun to use them.
func (inv *invocation) removeFiles() error {
	if _, err := os.Stat(inv.dirs.lockPath()); err == nil {
		lock, err := takeLock(inv.dirs.lockPath(), lockOwner)
		if err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		defer lock.release()
	}
	var errs []error
	for _, path := range []string{inv.dirs.logPath(), inv.dirs.logPath() + ".1", inv.dirs.lockPath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
