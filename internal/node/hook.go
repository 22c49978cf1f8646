package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

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
func (n *node) Hook(ctx context.Context, req api.HookRequest) (api.HookReply, error) {
	var reply api.HookReply
	h, err := parseHook(req)
	if err != nil {
		return reply, api.BadRequest(err.Error())
	}
	if !isEngineID(h.Container.ID) {
		return reply, api.BadRequest(fmt.Sprintf("the hook's container has the id %q, which is none of an engine", h.Container.ID))
	}
	if !h.Container.Running {
		return reply, n.containers.ended(ctx, h.Container.ID, h.AutoRemove)
	}
	if err := n.joinContainer(ctx, h.Container, req.All); err != nil {
		return reply, err
	}
	if _, attached := n.containers.recall(h.Container.ID); attached && n.names != nil && n.names.address.IsValid() && h.Container.Labels[runtime.LabelDNS] != "false" {
		reply = api.HookReply{NameServer: n.names.address.Addr().String(), Domain: n.cfg.Names.Domain.String()}
	}
	return reply, nil
}

// WriteHookFiles does what the daemon's reply says in the mounts of the hook, which are the engine's.
func WriteHookFiles(req api.HookRequest, reply api.HookReply) error {
	if reply.NameServer == "" {
		return nil
	}
	h, err := parseHook(req)
	if err != nil {
		return err
	}
	r := runtime.Resolver{Domain: reply.Domain}
	if r.Server, err = netip.ParseAddr(reply.NameServer); err != nil {
		return err
	}
	if path := h.Container.ResolvPath; path != "" {
		was, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return overwrite(path, r.Merge(string(was)))
	}
	return writeInRoot(h.Root, "etc/resolv.conf", r)
}

// writeInRoot writes to a container's own file, where its engine gives it none: it has no network but ours. The
// image's links are not followed out of it.
func writeInRoot(dir, path string, r runtime.Resolver) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	was, err := root.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.WriteFile(path, []byte(r.Merge(string(was))), 0o644)
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
