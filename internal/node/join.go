package node

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"weave/internal/api"
	"weave/runtime"
)

// joinContainer gives a container that runs what it had or wishes for; nothing if
// that is nothing. all says that containers without wishes want an address too.
func (n *node) joinContainer(ctx context.Context, c runtime.Container, all bool) error {
	release, err := n.containers.hold(ctx, c.ID)
	if err != nil {
		return err
	}
	defer release()
	r, wanted, err := n.containers.order(c, all)
	if err != nil || !wanted {
		return err
	}
	p, err := n.placeOf(ctx, c)
	if err != nil {
		return userError(err)
	}
	_, err = n.join(ctx, p, &r)
	return err
}

// join gives a place what its record says, and fills in what the record lacks.
// Either all of it works, or what was taken for it is given back.
func (n *node) join(ctx context.Context, p place, r *record) ([]netip.Prefix, error) {
	fresh, err := n.fill(ctx, p.ident, r)
	if err == nil {
		if r.MAC.IsZero() {
			r.MAC = newMAC()
		}
		if p.container != nil { // before the interface is there, which its program waits for
			n.rewriteHosts(*p.container, *r)
		}
		err = n.attachments.attach(ctx, placing{
			target: p.target, ident: p.ident, mac: r.MAC, addresses: n.dual(r.addresses()), noMulticastRoute: r.NoMulticastRoute,
		})
	}
	if err != nil {
		n.giveBack(ctx, p.ident, fresh)
		return nil, err
	}
	got := r.addresses()
	if p.container != nil {
		r.Ident, r.Name, r.Labels = p.ident, p.container.Name, p.container.Labels
		if err := n.containers.remember(p.container.ID, *r); err != nil {
			return nil, err
		}
	}
	if n.names == nil {
		return got, nil
	}
	return got, n.names.registerAll(ctx, p.nameIdent, n.qualifyAll(r.Names), n.dual(got))
}

// fill gets the addresses that a record asks for. fresh are those that the ident
// did not have before.
func (n *node) fill(ctx context.Context, ident string, r *record) (fresh []netip.Prefix, err error) {
	var had []netip.Prefix
	if n.ipam != nil {
		if had, err = n.ipam.Lookup(ctx, ident, netip.Prefix{}); err != nil {
			return nil, err
		}
	}
	for i := range r.Places {
		got, err := n.fillOne(ctx, ident, r.Places[i])
		if err != nil {
			return fresh, err
		}
		r.Places[i].Got = got
		if !slices.ContainsFunc(had, func(h netip.Prefix) bool { return h.Addr() == got.Addr() }) {
			fresh = append(fresh, got)
		}
	}
	return fresh, nil
}

func (n *node) fillOne(ctx context.Context, ident string, p placement) (netip.Prefix, error) {
	switch {
	case p.Got.IsValid():
		return n.claimAgain(ctx, ident, p)
	case n.ipam == nil && p.Allocate:
		return netip.Prefix{}, api.BadRequest(api.NoAllocation)
	case n.ipam == nil:
		return p.Prefix, nil
	case p.Allocate:
		return n.ipam.allocate(ctx, ident, p.Prefix, true)
	}
	return p.Prefix, n.claim(ctx, ident, p.Prefix)
}

// leaveContainer forgets addresses of a container, and the container with the last
// of them.
func (n *node) leaveContainer(c *runtime.Container, list []netip.Prefix) error {
	if c == nil {
		return nil
	}
	r, ok := n.containers.recall(c.ID)
	if !ok {
		return nil
	}
	if !r.drop(list) {
		return n.containers.forget(c.ID)
	}
	return n.containers.remember(c.ID, r)
}

// qualifyAll completes names with the domain.
func (n *node) qualifyAll(names []string) []string {
	var out []string
	for _, name := range names {
		if name = strings.TrimSpace(name); name != "" {
			out = append(out, n.cfg.Names.Domain.Qualify(name))
		}
	}
	return out
}
