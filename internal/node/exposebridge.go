package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"weave/runtime"
)

const (
	// watchAgain is the pause before rules are watched anew.
	watchAgain = time.Minute
	// recallPatience bounds what a start waits for the network's agreement.
	recallPatience = 5 * time.Second
)

// recallExposed takes over what was exposed before, and makes the rules that
// keep containers of the bridge together.
func (n *node) recallExposed(ctx context.Context) error {
	e := n.exposure
	e.mu.Lock()
	defer e.mu.Unlock()
	text, ok, err := n.store.Get(keyExpose)
	if err != nil {
		return err
	}
	if ok && json.Unmarshal(text, &e.what) != nil {
		n.log.Warn("what was exposed is unreadable and forgotten")
		e.what = exposed{}
		if err := n.store.Delete(keyExpose); err != nil {
			return err
		}
	}
	claimErr := n.claimExposed(ctx, &e.what)
	warnings, err := n.show(ctx, e)
	for _, w := range warnings {
		n.log.Warn(w, "part", "expose")
	}
	return errors.Join(claimErr, err)
}

// claimExposed makes the allocator know what was exposed before. What cannot be
// claimed for now stays exposed, and is said.
func (n *node) claimExposed(ctx context.Context, what *exposed) error {
	ctx, cancel := context.WithTimeout(ctx, recallPatience)
	defer cancel()
	var errs []error
	for i, p := range what.Places {
		if n.ipam != nil && n.ipam.claim(ctx, exposeIdent, p.Got, true, true) == nil {
			continue
		}
		got, err := n.fillOne(ctx, exposeIdent, p)
		if err != nil {
			errs = append(errs, fmt.Errorf("claim %s: %w", p.Got, err))
			continue
		}
		what.readdress(i, got)
	}
	return errors.Join(errs...)
}

// showBridge is show where there is a bridge. had is what it was given before.
func (n *node) showBridge(list, plain, had []netip.Prefix) ([]string, error) {
	var want []runtime.Exposure
	for _, p := range list {
		for _, one := range n.dual([]netip.Prefix{p}) {
			want = append(want, runtime.Exposure{Prefix: one, Masquerade: !slices.Contains(plain, p)})
		}
	}
	return n.bridge.Expose(want, had)
}

// watchRules keeps the rules of the host where the kernel tells of changes.
func (n *node) watchRules(ctx context.Context) error {
	for {
		err := n.bridge.WatchRules(ctx)
		if ctx.Err() != nil {
			return nil
		}
		n.log.Warn("rules that somebody flushes are not noticed for now", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchAgain):
		}
	}
}
