package node

import (
	"context"
	"fmt"

	"weave/internal/api"
	"weave/ipam"
	"weave/runtime"
)

// parseHook reads what a hook tells.
func parseHook(req api.HookRequest) (runtime.Hook, error) {
	h, err := runtime.ParseHook(req.State, req.Config, req.Name, req.Labels)
	h.Container.Engine = req.Engine
	return h, err
}

// HookWanted tells whether a hook's container is to be attached by what it says itself, so that a host's other
// containers start without a daemon.
func HookWanted(req api.HookRequest) (bool, error) {
	h, err := parseHook(req)
	if err != nil {
		return false, err
	}
	wish, err := runtime.WishOf(h.Container, req.All)
	return wish.Wanted, err
}

// Hook implements api.Hooks.
func (n *node) Hook(ctx context.Context, req api.HookRequest) error {
	h, err := parseHook(req)
	if err != nil {
		return api.BadRequest(err.Error())
	}
	if !isEngineID(h.Container.ID) {
		return api.BadRequest(fmt.Sprintf("the hook's container has the id %q, which is none of an engine", h.Container.ID))
	}
	if h.Container.Running {
		return n.joinContainer(ctx, h.Container, req.All)
	}
	return n.containers.ended(ctx, h.Container.ID, h.AutoRemove)
}

// ended does what died and removed do, on a hook's word: its engine may not be
// watched, and this container's lock is held while the hook runs.
func (b *containers) ended(ctx context.Context, id string, removed bool) error {
	r, ok := b.recall(id)
	if !ok {
		return nil
	}
	b.n.nameless(ctx, id, nil)
	if removed {
		if err := b.forget(id); err != nil {
			return err
		}
	}
	if r.Ident != id {
		return nil
	}
	if _, err := b.n.reap(ctx); err != nil || !removed || b.n.ipam == nil || b.n.attachments.has(id) {
		return err
	}
	select {
	case b.n.ipam.in <- ipamCall{in: ipam.Gone{Ident: id}}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
