package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"weave/internal/api"
	"weave/runtime"
)

const (
	engineRetryMin = 200 * time.Millisecond // after the engine went
	engineRetryMax = 5 * time.Second
	engineSteady   = 10 * time.Second // a connection that lasted so long was a good one
	listTimeout    = 30 * time.Second
	lookTimeout    = 2 * time.Second // a user waits for it
)

// engineLoop follows one engine, for ever: it comes and goes as it likes.
//
//	away --Watch tells Watching--> connected (List, then events) --Watch ends--> away
type engineLoop struct {
	name     string
	endpoint string
	quiet    bool // until it answers for the first time
	engine   runtime.Engine
	book     *containers
	log      *slog.Logger
	state    atomic.Pointer[engineState]
}

// engineState is what is known of an engine.
type engineState struct {
	connected bool
	version   string
	reason    string // why it is not connected
}

// openEngines makes the loops of the engines that are wanted.
func (n *node) openEngines() error {
	n.cfg.Engines.Naming.Domain = n.cfg.Names.Domain.String()
	n.containers = newContainers(n)
	for _, e := range []struct{ name, endpoint string }{{engineDocker, n.cfg.Engines.Docker}, {enginePodman, n.cfg.Engines.Podman}} {
		if e.endpoint == "" {
			continue
		}
		engine, err := openEngine(e.name, e.endpoint)
		if err != nil && n.cfg.Engines.Auto {
			n.log.Info("container engine left out", "engine", e.name, "err", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("container engine %s at %s: %w", e.name, e.endpoint, err)
		}
		l := &engineLoop{
			name: e.name, endpoint: e.endpoint, quiet: n.cfg.Engines.Auto, engine: engine, book: n.containers,
			log: n.log.With("part", "engine", "engine", e.name),
		}
		l.state.Store(&engineState{reason: "not asked yet"})
		n.containers.engines = append(n.containers.engines, l)
	}
	return n.containers.load()
}

// run follows the engine until ctx ends.
func (l *engineLoop) run(ctx context.Context) error {
	wait := engineRetryMin
	for {
		began := time.Now()
		err := l.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.away(err)
		if time.Since(began) > engineSteady {
			wait = engineRetryMin
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(wait*3/2, engineRetryMax)
	}
}

// away notes that the engine cannot be reached; the first time, and when the reason changes, in the log too.
func (l *engineLoop) away(err error) {
	if err == nil {
		err = errors.New("the engine closed the connection")
	}
	was := l.state.Load()
	if was.connected || (!l.quiet && was.reason != err.Error()) {
		l.log.Warn("container engine is not reachable; trying again", "endpoint", l.endpoint, "err", err)
	}
	l.state.Store(&engineState{version: was.version, reason: err.Error()})
}

// watch hands on what happens until the engine goes.
func (l *engineLoop) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan runtime.Event, 64)
	failed := make(chan error, 1)
	go func() { failed <- l.engine.Watch(ctx, events) }()
	defer func() { cancel(); drain(events, failed) }()
	for {
		select {
		case ev := <-events:
			if err := l.take(ctx, ev); err != nil {
				return err
			}
		case err := <-failed:
			failed <- err // for drain
			for len(events) > 0 {
				if err := l.take(ctx, <-events); err != nil {
					return err
				}
			}
			return err
		}
	}
}

// drain waits for a Watch to end.
func drain(events <-chan runtime.Event, failed <-chan error) {
	for {
		select {
		case <-events:
		case <-failed:
			return
		}
	}
}

func (l *engineLoop) take(ctx context.Context, ev runtime.Event) error {
	if ev.Change != runtime.Watching {
		l.book.event(l, ev)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	running, err := l.engine.List(ctx)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	l.state.Store(&engineState{connected: true, version: ev.ID})
	l.quiet = false
	l.log.Info("container engine is reachable", "endpoint", l.endpoint, "version", ev.ID, "containers", len(running))
	l.book.resync(ctx, l, running)
	return nil
}

// inspect asks an engine that answers.
func (l *engineLoop) inspect(ctx context.Context, ref string) (runtime.Container, error) {
	if s := l.state.Load(); !s.connected {
		return runtime.Container{}, fmt.Errorf("%s is not reachable: %s", l.name, s.reason)
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c, err := l.engine.Inspect(ctx, ref)
	c.Engine = l.name
	return c, err
}

// report is what status and report show; nil where there is nothing to show.
func (b *containers) report() *api.Runtime {
	var out api.Runtime
	for _, l := range b.engines {
		s := l.state.Load()
		if l.quietYet(s) {
			continue
		}
		out.Engines = append(out.Engines, api.Engine{
			Name: l.name, Endpoint: l.endpoint, Connected: s.connected, Version: s.version, Reason: s.reason,
		})
	}
	if len(out.Engines) == 0 {
		return nil
	}
	return &out
}

// quietYet tells of an engine that nobody asked for and that never answered.
func (l *engineLoop) quietYet(s *engineState) bool {
	return l.book.auto && s.version == "" && !s.connected
}
