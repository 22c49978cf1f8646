package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weave/internal/api"
	"weave/ipam"
	"weave/runtime"
	"weave/runtime/netlink"
)

// reapInterval is how often namespaces that have gone are looked for.
const reapInterval = 5 * time.Second

// Attach implements api.Attacher: addresses are allocated or claimed first, so
// that nobody else waits meanwhile, and given back if the rest fails.
func (n *node) Attach(ctx context.Context, req api.AttachRequest) (api.AttachReply, error) {
	t, err := n.host.Resolve(req.Target)
	if err != nil {
		return api.AttachReply{}, userError(err)
	}
	if err := n.checkNames(req); err != nil {
		return api.AttachReply{}, err
	}
	got, fresh, err := n.take(ctx, t.ID.String(), req.Addresses)
	if err == nil {
		err = n.attachments.attach(ctx, placing{target: req.Target, addresses: n.dual(got), noMulticastRoute: req.NoMulticastRoute})
	}
	if err != nil {
		n.giveBack(ctx, t.ID.String(), fresh)
		return api.AttachReply{}, err
	}
	if err := n.nameAttached(ctx, req, t.ID.String(), n.dual(got)); err != nil {
		return api.AttachReply{}, err
	}
	return api.AttachReply{Addresses: got}, nil
}

// take gets the addresses asked for. fresh are those that the ident did not have
// before.
func (n *node) take(ctx context.Context, ident string, specs []api.AddressSpec) (got, fresh []netip.Prefix, err error) {
	if n.ipam == nil {
		for _, s := range specs {
			if s.Allocate {
				return nil, nil, api.BadRequest(api.NoAllocation)
			}
			got = append(got, s.Prefix)
		}
		return got, nil, nil
	}
	had, err := n.ipam.Lookup(ctx, ident, netip.Prefix{})
	if err != nil {
		return nil, nil, err
	}
	for _, s := range specs {
		p := s.Prefix
		if s.Allocate {
			p, err = n.ipam.allocate(ctx, ident, s.Prefix, true)
		} else {
			err = n.claim(ctx, ident, s.Prefix)
		}
		if err != nil {
			return nil, fresh, err
		}
		if !slices.ContainsFunc(had, func(h netip.Prefix) bool { return h.Addr() == p.Addr() }) {
			fresh = append(fresh, p)
		}
		got = append(got, p)
	}
	return got, fresh, nil
}

// claim takes an address that the user chose. A namespace that has just gone may
// still have it.
func (n *node) claim(ctx context.Context, ident string, p netip.Prefix) error {
	err := n.ipam.claim(ctx, ident, p, false, true)
	if err == nil || !strings.Contains(err.Error(), "already owned by") {
		return err
	}
	if reaped, reapErr := n.reap(ctx); reapErr != nil || !reaped {
		return err
	}
	return n.ipam.claim(ctx, ident, p, false, true)
}

// giveBack frees addresses after a failure.
func (n *node) giveBack(ctx context.Context, ident string, list []netip.Prefix) {
	if n.ipam == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for _, p := range list {
		if err := n.ipam.Free(ctx, ident, p.Addr()); err != nil {
			n.log.Debug("an address was not given back", "address", p, "ident", ident, "err", err)
		}
	}
}

// dual adds the IPv6 addresses beside those of the range.
func (n *node) dual(list []netip.Prefix) []netip.Prefix {
	out := slices.Clone(list)
	for _, p := range list {
		if c := n.cfg.Addresses; c.V6.IsValid() && c.Range.Contains(p.Addr()) {
			out = append(out, ipam.V6(c.V6, p))
		}
	}
	return out
}

// Detach implements api.Attacher. It never allocates, and waits for nobody.
func (n *node) Detach(ctx context.Context, req api.AttachRequest) (api.AttachReply, error) {
	ident, err := n.attachments.ident(req.Target)
	if err != nil {
		return api.AttachReply{}, userError(err)
	}
	var list []netip.Prefix
	for _, s := range req.Addresses {
		switch {
		case !s.Allocate:
			list = append(list, s.Prefix)
		case n.ipam == nil:
			return api.AttachReply{}, api.BadRequest(api.NoAllocation)
		default:
			subnet := s.Prefix
			if !subnet.IsValid() {
				subnet = n.ipam.cfg.DefaultSubnet
			}
			held, err := n.ipam.Lookup(ctx, ident, subnet)
			if err != nil {
				return api.AttachReply{}, err
			}
			list = append(list, held...)
		}
	}
	if err := n.attachments.detach(ctx, placing{target: req.Target, addresses: n.dual(list)}); err != nil {
		return api.AttachReply{}, err
	}
	n.nameless(ctx, ident, n.dual(list))
	n.giveBack(ctx, ident, list)
	return api.AttachReply{Addresses: list}, nil
}

// ident is what a target's addresses are held under. A namespace that has gone
// is found by the name it was attached by; one nobody knows is "".
func (a *attachments) ident(target string) (string, error) {
	t, err := a.host.Resolve(target)
	if err == nil {
		return t.ID.String(), nil
	}
	if !errors.Is(err, netlink.ErrNoTarget) {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, at := range a.list {
		if at.Target.Text == target {
			return id.String(), nil
		}
	}
	return "", nil
}

// lost forgets the attachments of namespaces that have gone, and names them.
func (a *attachments) lost() ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for id, at := range a.list {
		if _, err := net.InterfaceByName(runtime.HostVeth(id)); err == nil {
			continue // it goes with the namespace
		}
		if _, err := a.host.Inspect(at.Target); !errors.Is(err, netlink.ErrNoTarget) {
			continue
		}
		a.log.Info("a container is gone", "target", at.Target.Text)
		if err := a.forget(id); err != nil {
			return out, err
		}
		out = append(out, id.String())
	}
	return out, nil
}

// reap tells the allocator of namespaces that have gone; it tells whether there
// were any.
func (n *node) reap(ctx context.Context) (bool, error) {
	gone, err := n.attachments.lost()
	for _, ident := range gone {
		n.nameless(ctx, ident, nil)
		if n.ipam == nil {
			continue
		}
		select {
		case n.ipam.in <- ipamCall{in: ipam.Died{Ident: ident}}:
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
	return len(gone) > 0, err
}

// watchContainers notices when namespaces go.
func (n *node) watchContainers(ctx context.Context) error {
	tick := time.NewTicker(reapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := n.reap(ctx); err != nil {
			return unlessDone(ctx, err)
		}
	}
}

// adopt makes the allocator know what is attached, and free what belonged to
// namespaces that went while no daemon ran. It comes before anybody can attach.
func (n *node) adopt(ctx context.Context) error {
	if n.ipam == nil {
		return nil
	}
	alive := map[string]bool{}
	for ident, list := range n.attachments.held() {
		alive[ident] = true
		for _, p := range list {
			if !p.Addr().Is4() && n.cfg.Addresses.V6.IsValid() && n.cfg.Addresses.V6.Contains(p.Addr()) {
				continue
			}
			if err := n.ipam.claim(ctx, ident, p, true, true); err != nil {
				n.log.Warn("an attached address cannot be claimed", "address", p, "ident", ident, "err", err)
			}
		}
	}
	all, err := n.ipam.holdings(ctx)
	if err != nil {
		return err
	}
	for _, h := range all {
		if h.Container && !alive[h.Ident] {
			select {
			case n.ipam.in <- ipamCall{in: ipam.Gone{Ident: h.Ident}}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// held lists what is attached, by ident.
func (a *attachments) held() map[string][]netip.Prefix {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string][]netip.Prefix{}
	for id, at := range a.list {
		out[id.String()] = slices.Clone(at.Addresses)
	}
	return out
}
