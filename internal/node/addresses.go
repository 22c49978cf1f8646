package node

import (
	"context"
	"errors"
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
	if err := n.checkNames(req); err != nil {
		return api.AttachReply{}, err
	}
	for _, extra := range req.AddHosts {
		if err := runtime.CheckHost(extra); err != nil {
			return api.AttachReply{}, api.BadRequest(err.Error())
		}
	}
	p, err := n.locate(ctx, req.Target)
	if err == nil {
		err = p.notRunning()
	}
	if err != nil {
		return api.AttachReply{}, userError(err)
	}
	if p.container != nil {
		release, err := n.containers.hold(ctx, p.container.ID)
		if err != nil {
			return api.AttachReply{}, err
		}
		defer release()
	}
	r := n.recordFor(p, req)
	if _, err := n.join(ctx, p, &r); err != nil {
		return api.AttachReply{}, err
	}
	return api.AttachReply{Addresses: r.given(req.Addresses)}, nil
}

// recordFor is what a place has, with what a request adds to it.
func (n *node) recordFor(p place, req api.AttachRequest) record {
	r := record{NoMulticastRoute: req.NoMulticastRoute}
	names := req.Names
	if p.container != nil {
		if was, ok := n.containers.recall(p.container.ID); ok {
			r = was
		}
		r.Engine = p.container.Engine
		if len(names) == 0 && !req.WithoutDNS && qualified(*p.container) != "" {
			names = []string{qualified(*p.container)}
		}
		r.RewriteHosts = r.RewriteHosts || req.RewriteHosts || len(req.AddHosts) > 0
		r.ExtraHosts = append(r.ExtraHosts, req.AddHosts...)
	} else if len(names) == 0 && !req.WithoutDNS {
		names = n.ownName(req.Target)
	}
	r.ask(req.Addresses, names)
	return r
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
	p, err := n.locate(ctx, req.Target)
	if errors.Is(err, netlink.ErrNoTarget) {
		// A namespace that has gone is found by the name it was attached by.
		p.ident, err = n.attachments.identNamed(req.Target), nil
		p.nameIdent = p.ident
	}
	if err != nil {
		return api.AttachReply{}, userError(err)
	}
	if p.container != nil {
		release, err := n.containers.hold(ctx, p.container.ID)
		if err != nil {
			return api.AttachReply{}, err
		}
		defer release()
	}
	list, err := n.heldOf(ctx, p.ident, req.Addresses)
	if err != nil {
		return api.AttachReply{}, err
	}
	if err := n.attachments.detach(ctx, p, n.dual(list)); err != nil {
		return api.AttachReply{}, err
	}
	if err := n.leaveContainer(p.container, list); err != nil {
		return api.AttachReply{}, err
	}
	n.nameless(ctx, p.nameIdent, n.dual(list))
	n.giveBack(ctx, p.ident, list)
	return api.AttachReply{Addresses: list}, nil
}

// heldOf finds the addresses that a detach means.
func (n *node) heldOf(ctx context.Context, ident string, specs []api.AddressSpec) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range specs {
		switch {
		case !s.Allocate:
			list = append(list, s.Prefix)
		case n.ipam == nil:
			return nil, api.BadRequest(api.NoAllocation)
		default:
			subnet := s.Prefix
			if !subnet.IsValid() {
				subnet = n.ipam.cfg.DefaultSubnet
			}
			held, err := n.ipam.Lookup(ctx, ident, subnet)
			if err != nil {
				return nil, err
			}
			list = append(list, held...)
		}
	}
	return list, nil
}

// lost forgets the attachments of namespaces that have gone, and names their
// idents, unless another namespace has that ident by now: the container has
// started again.
func (a *attachments) lost() ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var gone []string
	for id, at := range a.list {
		if a.host.Lives(at.Target) {
			continue
		}
		a.log.Info("a container is gone", "target", at.Target.Text, "ident", ident(at))
		if err := a.forget(id); err != nil {
			return nil, err
		}
		gone = append(gone, ident(at))
	}
	return slices.DeleteFunc(gone, a.holds), nil
}

// holds tells that a namespace has this ident.
func (a *attachments) holds(want string) bool {
	for _, at := range a.list {
		if ident(at) == want {
			return true
		}
	}
	return false
}

// has is holds for everybody.
func (a *attachments) has(want string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.holds(want)
}

// reap tells the allocator of namespaces that have gone; it tells whether there
// were any.
func (n *node) reap(ctx context.Context) (bool, error) {
	gone, err := n.attachments.lost()
	for _, ident := range gone {
		if err := n.bury(ctx, ident); err != nil {
			return true, err
		}
	}
	return len(gone) > 0, err
}

// bury takes its names from an ident whose namespace is gone, and its addresses
// after a while.
func (n *node) bury(ctx context.Context, ident string) error {
	n.nameless(ctx, ident, nil)
	if n.ipam == nil {
		return nil
	}
	select {
	case n.ipam.in <- ipamCall{in: ipam.Died{Ident: ident}}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// supplanted forgets an attachment of another ident if the namespace has no
// interface of ours: the kernel gives the number of a namespace that has gone to
// a new one. It returns the ident that lost its namespace by that, "" if none did.
func (a *attachments) supplanted(t runtime.Target, want string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.list[t.ID]
	if !ok || ident(at) == want {
		return "", nil
	}
	if _, _, present, err := a.host.Interface(t); err != nil || present {
		return "", err
	}
	if err := a.forget(t.ID); err != nil || a.holds(ident(at)) {
		return "", err
	}
	return ident(at), nil
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
		if h.Container && !alive[h.Ident] && h.Ident != exposeIdent {
			in := ipam.Input(ipam.Gone{Ident: h.Ident})
			if _, ok := n.containers.recall(h.Ident); ok {
				in = ipam.Died{Ident: h.Ident} // it may run again already
			}
			select {
			case n.ipam.in <- ipamCall{in: in}:
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
	for _, at := range a.list {
		out[ident(at)] = slices.Clone(at.Addresses)
	}
	return out
}
