package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"weave/ipam"
	"weave/runtime"
	"weave/runtime/netlink"
)

const (
	attachRetryMin = 2 * time.Second // Weave Net's
	attachRetryFor = time.Minute
	vanishFor      = 2 * time.Second // how long a namespace may outlive its container
	vanishPoll     = 10 * time.Millisecond
)

// containers attaches engines' containers as they come and go. Whatever is done
// about one container is done one after the other; a newer event cuts short what
// is done about an older one.
type containers struct {
	n       *node
	auto    bool
	engines []*engineLoop
	log     *slog.Logger
	running sync.WaitGroup // of work
	base    context.Context

	mu      sync.Mutex
	records map[string]record // by id
	work    map[string]*work  // the latest about each container, while it is under way
	held    map[string]*hold  // containers that somebody changes
}

// hold is a lock that goes when nobody wants it.
type hold struct {
	free   chan struct{} // has an element while nobody has the lock
	wanted int
}

// work is something under way about a container.
type work struct {
	change runtime.Change
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done
}

func newContainers(n *node) *containers {
	return &containers{
		n: n, auto: n.cfg.Engines.Auto, log: n.log.With("part", "containers"), base: context.Background(),
		records: map[string]record{}, work: map[string]*work{}, held: map[string]*hold{},
	}
}

// run follows all engines until ctx ends, and waits for what is under way.
func (b *containers) run(ctx context.Context) error {
	b.mu.Lock()
	b.base = ctx
	b.mu.Unlock()
	var loops sync.WaitGroup
	for _, l := range b.engines {
		loops.Go(func() { _ = l.run(ctx) })
	}
	loops.Wait()
	<-ctx.Done()
	b.mu.Lock()
	wait := b.running.Wait // begin begins nothing from here on
	b.mu.Unlock()
	wait()
	return nil
}

// event begins what an event calls for.
func (b *containers) event(l *engineLoop, ev runtime.Event) {
	switch ev.Change {
	case runtime.Started, runtime.Renamed: // joining again notes the name
		b.begin(ev.ID, runtime.Started, func(ctx context.Context) error { return b.started(ctx, l, ev.ID) })
	case runtime.Died:
		b.begin(ev.ID, runtime.Died, func(ctx context.Context) error { return b.died(ctx, l, ev.ID) })
	case runtime.Removed:
		b.begin(ev.ID, runtime.Removed, func(ctx context.Context) error { return b.removed(ctx, ev.ID) })
	}
}

// begin starts work about a container, after that which is under way: the same
// work is joined, other work cut short.
func (b *containers) begin(id string, change runtime.Change, do func(context.Context) error) *work {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.base.Err(); err != nil {
		over := &work{change: change, cancel: func() {}, done: make(chan struct{}), err: err}
		close(over.done)
		return over
	}
	before := b.work[id]
	if before != nil && before.change == change {
		return before
	}
	if before != nil {
		before.cancel()
	}
	ctx, cancel := context.WithCancel(b.base)
	w := &work{change: change, cancel: cancel, done: make(chan struct{})}
	b.work[id] = w
	b.running.Go(func() {
		defer cancel()
		if before != nil {
			<-before.done
		}
		w.err = do(ctx)
		b.mu.Lock()
		if b.work[id] == w {
			delete(b.work, id)
		}
		b.mu.Unlock()
		close(w.done)
	})
	return w
}

// hold keeps others from changing how a container is attached until release is
// called.
func (b *containers) hold(ctx context.Context, id string) (release func(), err error) {
	b.mu.Lock()
	h := b.held[id]
	if h == nil {
		h = &hold{free: make(chan struct{}, 1)}
		h.free <- struct{}{}
		b.held[id] = h
	}
	h.wanted++
	b.mu.Unlock()
	leave := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if h.wanted--; h.wanted == 0 {
			delete(b.held, id)
		}
	}
	select {
	case <-h.free:
		return func() { h.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// latest is the work about a container that is under way.
func (b *containers) latest(id string) *work {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.work[id]
}

// Attach implements proxy.Network: it returns when a container that runs is
// attached, or why it cannot be. It takes part in what its events have begun.
func (b *containers) Attach(ctx context.Context, ref string) error {
	l := b.engine(engineDocker)
	if l == nil {
		return nil
	}
	c, err := l.engine.Inspect(ctx, ref)
	if errors.Is(err, runtime.ErrNoContainer) {
		return nil
	}
	if err != nil {
		return err
	}
	id := c.ID
	w := b.begin(id, runtime.Started, func(ctx context.Context) error { return b.started(ctx, l, id) })
	for w != nil {
		select {
		case <-w.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !errors.Is(w.err, context.Canceled) {
			return w.err
		}
		if w = b.latest(id); w == nil { // an event cut it short, or the daemon ends
			return b.base.Err()
		}
	}
	return nil
}

// Interface implements proxy.Network: what an attached container has.
func (b *containers) Interface(_ context.Context, id string) (net.HardwareAddr, []netip.Prefix, error) {
	r, ok := b.recall(id)
	if !ok {
		return nil, nil, runtime.ErrNoContainer
	}
	return net.HardwareAddr(r.MAC[:]), r.addresses(), nil
}

func (b *containers) engine(name string) *engineLoop {
	for _, l := range b.engines {
		if l.name == name {
			return l
		}
	}
	return nil
}

// started attaches a container that runs, if it is to be. Where that fails, one
// that waits for it is killed, so that its engine may try again.
func (b *containers) started(ctx context.Context, l *engineLoop, id string) error {
	c, err := l.engine.Inspect(ctx, id)
	if errors.Is(err, runtime.ErrNoContainer) || (err == nil && !c.Running) {
		return nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		b.log.Warn("a container cannot be looked at", "id", id, "err", err)
		return err
	}
	c.Engine = l.name
	err = b.n.joinContainer(ctx, c, false)
	switch {
	case err == nil || ctx.Err() != nil:
	case b.overNow(ctx, l, c): // attached by an event before, it may have done its work since
		return ctx.Err()
	case c.Shimmed():
		b.log.Warn("a container cannot be attached, and is killed: it waits for the network", "container", c.Name, "id", id, "err", err)
		if err := l.engine.Kill(ctx, id); err != nil && !errors.Is(err, runtime.ErrNoContainer) {
			b.log.Warn("a container cannot be killed", "container", c.Name, "id", id, "err", err)
		}
	default:
		b.log.Warn("a container cannot be attached", "container", c.Name, "id", id, "err", err)
	}
	return err
}

// overNow tells whether a container that was said to run has ended.
func (b *containers) overNow(ctx context.Context, l *engineLoop, c runtime.Container) bool {
	_, err := b.n.host.Resolve(strconv.Itoa(c.PID))
	return errors.Is(err, netlink.ErrNoTarget) && stopped(ctx, l.engine, c.ID)
}

// stopped waits until an engine notices that a container's process has gone, or
// ctx ends. It returns false where the engine goes on saying that it runs.
func stopped(ctx context.Context, engine runtime.Engine, id string) bool {
	limited, cancel := context.WithTimeout(ctx, vanishFor)
	defer cancel()
	for {
		c, err := engine.Inspect(limited, id)
		if errors.Is(err, runtime.ErrNoContainer) || (err == nil && !c.Running) {
			return true
		}
		select {
		case <-limited.Done():
			return ctx.Err() != nil
		case <-time.After(vanishPoll):
		}
	}
}

// resync compares what runs with what is known, after a time in which nothing was
// told.
func (b *containers) resync(ctx context.Context, l *engineLoop, running []runtime.Container) {
	alive := map[string]bool{}
	for _, c := range running {
		alive[c.ID] = true
		c.Engine = l.name
		b.begin(c.ID, runtime.Started, func(ctx context.Context) error { return b.insist(ctx, l, c) })
	}
	for _, id := range b.of(l.name) {
		if alive[id] {
			continue
		}
		b.begin(id, runtime.Died, func(ctx context.Context) error { return b.died(ctx, l, id) })
		if _, err := l.engine.Inspect(ctx, id); errors.Is(err, runtime.ErrNoContainer) {
			b.begin(id, runtime.Removed, func(ctx context.Context) error { return b.removed(ctx, id) })
		}
	}
}

// insist attaches a container that was found running, and goes on trying for a
// while: the network may not be complete yet.
func (b *containers) insist(ctx context.Context, l *engineLoop, c runtime.Container) error {
	wait, until := attachRetryMin, time.Now().Add(attachRetryFor)
	for {
		err := b.n.joinContainer(ctx, c, false)
		if err == nil || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		b.log.Warn("a container cannot be attached; trying again", "container", c.Name, "id", c.ID, "in", wait, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = wait * 3 / 2
		if now, err := l.engine.Inspect(ctx, c.ID); err == nil {
			now.Engine, c = l.name, now
		}
		if !c.Running {
			return nil
		}
	}
}

// died takes away a container's names, and its address as soon as its namespace
// is gone. A container that runs again already is attached again.
func (b *containers) died(ctx context.Context, l *engineLoop, id string) error {
	r, ok := b.recall(id)
	if !ok {
		return nil
	}
	c, err := l.engine.Inspect(ctx, id)
	if err == nil && c.Running {
		c.Engine = l.name
		return b.n.joinContainer(ctx, c, false)
	}
	b.n.nameless(ctx, id, nil)
	if r.Ident != id {
		return nil // the namespace is another's
	}
	return b.vanish(ctx, id)
}

// vanish waits for a namespace to go: engines clear up after they have told.
func (b *containers) vanish(ctx context.Context, ident string) error {
	until := time.Now().Add(vanishFor)
	for b.n.attachments.has(ident) {
		if _, err := b.n.reap(ctx); err != nil {
			return err
		}
		if !b.n.attachments.has(ident) || time.Now().After(until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(vanishPoll):
		}
	}
	return nil
}

// removed forgets a container for good: its addresses are free at once.
func (b *containers) removed(ctx context.Context, id string) error {
	r, ok := b.recall(id)
	if !ok {
		return nil
	}
	b.n.nameless(ctx, id, nil)
	if err := b.forget(id); err != nil {
		return err
	}
	if r.Ident != id || b.n.ipam == nil {
		return nil
	}
	if err := b.vanish(ctx, id); err != nil || b.n.attachments.has(id) {
		return err
	}
	select {
	case b.n.ipam.in <- ipamCall{in: ipam.Gone{Ident: id}}:
	case <-ctx.Done():
	}
	return nil
}
