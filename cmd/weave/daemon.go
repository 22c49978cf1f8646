package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"weave/internal/api"
)

// daemon runs node.Run in this process until it is stopped. Under a supervisor it writes the log file; otherwise, for
// systemd and for looking on, it logs to stderr.
func (inv *invocation) daemon(opts options, supervised bool) error {
	place, instance := int64(lockOwner), ""
	if supervised {
		place, instance = lockDaemon, os.Getenv(envInstance)
	}
	lock, err := takeLock(inv.dirs.lockPath(), place)
	if errors.Is(err, errLocked) {
		return &exitError{codeFailed, notSettled}
	}
	if err != nil {
		return err
	}
	defer lock.release()
	if instance == "" {
		if instance, err = newInstance(); err != nil {
			return err
		}
	}
	out := inv.stderr
	if supervised {
		file, err := openLog(inv.dirs.logPath(), logLimit, true)
		if err != nil {
			return err
		}
		defer file.Close()
		out = file
	}
	log, err := newLogger(out, opts.level)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := opts.node
	cfg.Log, cfg.Instance = log, instance
	log.Info("weave starts", "version", api.Version, "pid", os.Getpid(), "instance", instance)
	if err := inv.runNode(ctx, cfg); err != nil {
		log.Error("weave failed", "err", err)
		return &exitError{codeFailed, ""}
	}
	log.Info("weave stopped")
	return nil
}

func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	l, err := parseLevel(level)
	if err != nil {
		return nil, err
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}
