package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"weave/dns"
	"weave/internal/api"
	"weave/internal/store"
	"weave/runtime"
	overlay "weave/stack/host"
)

// exposeIdent is what addresses of the host are held under.
const exposeIdent = "weave:expose"

// keyExpose is where the state file has what is exposed.
const keyExpose = "expose"

// exposed is what the host has on the overlay, and shows of it. It outlives
// restarts, of the machine too.
type exposed struct {
	Places  []placement
	Plain   []netip.Prefix // those of Places that are not masqueraded
	Shown   []netip.Prefix // what the bridge may have of ours
	Named   []named
	Publish []api.Publication
	Proxy   string // where programs of the host connect by SOCKS5 and HTTP, ip:port; "" = nowhere
}

// named is a name of the host for one of its addresses: containers of other subnets
// might not reach it there.
type named struct {
	Name string
	At   netip.Prefix
}

// readdress notes that a place has another address now, with all that was said of the one before.
func (x *exposed) readdress(i int, got netip.Prefix) {
	was := x.Places[i].Got
	x.Places[i].Got = got
	for k := range x.Plain {
		if x.Plain[k] == was {
			x.Plain[k] = got
		}
	}
	for k := range x.Named {
		if x.Named[k].At == was {
			x.Named[k].At = got
		}
	}
}

// exposure guards it: one change at a time.
type exposure struct {
	mu    sync.Mutex
	what  exposed
	opens map[api.Publication]*overlay.Forward
	proxy *overlay.Proxy
}

func newExposure() *exposure {
	return &exposure{opens: map[api.Publication]*overlay.Forward{}}
}

// Expose implements api.Exposer.
func (n *node) Expose(ctx context.Context, req api.ExposeRequest) (api.AttachReply, error) {
	if err := n.checkNames(api.AttachRequest{Names: req.Names}); err != nil {
		return api.AttachReply{}, err
	}
	if n.bridge != nil && len(req.Publish) > 0 {
		return api.AttachReply{}, api.BadRequest("--publish and --import are for hosts without root: here 'weave service export' and 'weave service import' lead ports")
	}
	e := n.exposure
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.what
	r := record{Places: slices.Clone(before.Places)}
	r.ask(req.Addresses, nil)
	fresh, err := n.fill(ctx, exposeIdent, &r)
	var warnings []string
	if err == nil {
		e.what = exposed{
			Places: r.Places, Named: slices.Clone(before.Named), Publish: slices.Clone(before.Publish), Plain: slices.Clone(before.Plain),
			Shown: slices.Clone(before.Shown), Proxy: before.Proxy,
		}
		got := r.given(req.Addresses)
		e.what.Plain = slices.DeleteFunc(e.what.Plain, func(p netip.Prefix) bool { return slices.Contains(got, p) })
		if req.WithoutMasquerade {
			e.what.Plain = append(e.what.Plain, got...)
		}
		for _, at := range got {
			for _, name := range req.Names {
				e.what.Named = addMissing(e.what.Named, []named{{name, at}})
			}
		}
		e.what.Publish = addMissing(e.what.Publish, req.Publish)
		warnings, err = n.show(ctx, e)
	}
	if err != nil {
		before.Shown = e.what.Shown
		e.what = before
		n.giveBack(ctx, exposeIdent, fresh)
		if _, again := n.show(ctx, e); again != nil {
			n.log.Warn("what was exposed before could not be restored", "err", again)
		}
		return api.AttachReply{}, userError(err)
	}
	return api.AttachReply{Addresses: r.given(req.Addresses), Warnings: warnings}, nil
}

func addMissing[T comparable](list, more []T) []T {
	for _, m := range more {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// Hide implements api.Exposer.
func (n *node) Hide(ctx context.Context, req api.ExposeRequest) (api.AttachReply, error) {
	e := n.exposure
	e.mu.Lock()
	defer e.mu.Unlock()
	list, err := n.heldOf(ctx, exposeIdent, req.Addresses)
	if err != nil {
		return api.AttachReply{}, err
	}
	list = slices.DeleteFunc(list, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(e.what.Places, func(had placement) bool { return had.Got == p })
	})
	r := record{Places: slices.Clone(e.what.Places)}
	left := r.drop(list)
	e.what.Places = r.Places
	e.what.Plain = slices.DeleteFunc(slices.Clone(e.what.Plain), func(p netip.Prefix) bool { return slices.Contains(list, p) })
	e.what.Publish = slices.DeleteFunc(slices.Clone(e.what.Publish), func(p api.Publication) bool { return !left || slices.Contains(req.Publish, p) })
	n.nameless(ctx, exposeIdent, n.dual(list))
	e.what.Named = slices.DeleteFunc(slices.Clone(e.what.Named), func(x named) bool { return slices.Contains(list, x.At) })
	warnings, err := n.show(ctx, e)
	if err != nil {
		return api.AttachReply{}, err
	}
	n.giveBack(ctx, exposeIdent, list)
	return api.AttachReply{Addresses: list, Warnings: warnings}, nil
}

func (n *node) saveExposed(what exposed) error {
	if len(what.Places) == 0 && len(what.Shown) == 0 && what.Proxy == "" {
		return n.store.Delete(keyExpose)
	}
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return n.store.Update([]store.Save{{Key: keyExpose, Value: text}})
}

// show makes the kernel, or our own stack, and the catalogue have what is
// exposed; it is saved before, so that a crash leaves nothing that nobody knows
// of. e.mu is held.
func (n *node) show(ctx context.Context, e *exposure) (warnings []string, err error) {
	r := record{Places: e.what.Places}
	all := n.dual(r.addresses())
	had := e.what.Shown
	e.what.Shown = runtime.Add(had, all)
	if err := n.saveExposed(e.what); err != nil {
		return nil, err
	}
	if n.bridge != nil {
		warnings, err = n.showBridge(r.addresses(), e.what.Plain, had)
	} else {
		err = n.presence.have(all)
	}
	if err != nil {
		return nil, err
	}
	e.what.Shown = all
	if err := n.saveExposed(e.what); err != nil {
		return nil, err
	}
	n.services.rouse() // names of imports are at these addresses
	n.policy.rouse()
	if err := n.publish(e); err != nil {
		return nil, err
	}
	if err := n.openHostProxy(ctx, e); err != nil {
		return nil, err
	}
	return warnings, n.nameExposed(ctx, e.what.Named)
}

// nameExposed registers the host's names.
func (n *node) nameExposed(ctx context.Context, all []named) error {
	if n.names == nil {
		return nil
	}
	for _, x := range all {
		if err := n.names.registerAll(ctx, exposeIdent, n.qualifyAll([]string{x.Name}), n.dual([]netip.Prefix{x.At})); err != nil {
			return err
		}
	}
	return nil
}

// publish opens the ports that are wanted and closes the others.
func (n *node) publish(e *exposure) error {
	for p, f := range e.opens {
		if !slices.Contains(e.what.Publish, p) {
			delete(e.opens, p)
			if err := f.Close(); err != nil {
				n.log.Debug("a published port was closed twice", "port", p, "err", err)
			}
		}
	}
	for _, p := range e.what.Publish {
		if e.opens[p] != nil {
			continue
		}
		f, err := n.open1(p)
		if err != nil {
			return api.BadRequest(fmt.Sprintf("publish %s: %v", p.At, err))
		}
		e.opens[p] = f
	}
	return nil
}

// openHostProxy opens the proxy for programs of the host, if it is wanted and not
// open, and closes it if it is not.
func (n *node) openHostProxy(ctx context.Context, e *exposure) error {
	if e.proxy != nil && (e.what.Proxy == "" || e.proxy.Addr().String() != e.what.Proxy) {
		err := e.proxy.Close()
		if e.proxy = nil; err != nil {
			return err
		}
	}
	if e.proxy != nil || e.what.Proxy == "" {
		return nil
	}
	var err error
	e.proxy, err = n.presence.serveProxy(ctx, e.what.Proxy, n.lookup)
	return err
}

// HostProxy implements api.Exposer.
func (n *node) HostProxy(ctx context.Context, at string) (string, error) {
	if n.presence == nil {
		return "", errOnNetwork
	}
	e := n.exposure
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.what.Proxy
	e.what.Proxy = at
	if err := n.openHostProxy(ctx, e); err != nil {
		e.what.Proxy = before
		return "", api.BadRequest(err.Error())
	}
	return at, n.saveExposed(e.what)
}

// errOnNetwork answers what only hosts without a bridge need.
var errOnNetwork = api.BadRequest("this host has a bridge: 'weave expose' puts it on the network, and its programs reach containers without a proxy")

// open1 opens one port.
func (n *node) open1(p api.Publication) (*overlay.Forward, error) {
	target := overlay.Named(n.lookup, p.Host, p.Port)
	if a, err := netip.ParseAddr(p.Host); err == nil {
		target = overlay.To(netip.AddrPortFrom(a, p.Port))
	}
	if !p.Import {
		return n.presence.Publish(p.Network, p.At, target)
	}
	at := p.At
	if at.Addr().IsUnspecified() {
		first := n.presence.exposedAddress()
		if !first.IsValid() {
			return nil, fmt.Errorf("the host has no address on the overlay")
		}
		at = netip.AddrPortFrom(first, at.Port())
	}
	return n.presence.Import(p.Network, at, target)
}

// lookup finds the addresses of a name in our catalogue, for programs of the host.
func (n *node) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	if n.names == nil {
		return nil, fmt.Errorf("names are switched off (--no-dns): give an address")
	}
	want := dns.Canonical(n.cfg.Names.Domain.Qualify(strings.TrimSuffix(name, ".")))
	var out []netip.Addr
	for _, e := range n.names.index.Entries() {
		if !e.Dead && dns.Canonical(e.Name) == want && e.Addr.Is4() {
			out = append(out, e.Addr)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no container is called %s", name)
	}
	return out, nil
}

// Lookup implements api.Names.
func (n *node) Lookup(ctx context.Context, name string) ([]netip.Addr, bool) {
	if n.presence == nil {
		return nil, false
	}
	addrs, _ := n.lookup(ctx, name) // none is an answer too
	return addrs, true
}

// shownExposed is the first line of weave ps, if anything is exposed.
func (n *node) shownExposed() []api.Container {
	if n.bridge != nil {
		mac, addresses, ok := n.bridge.Exposed()
		if !ok || len(addresses) == 0 {
			return nil
		}
		return []api.Container{{ID: exposeIdent, MAC: mac[:], Addresses: addresses}}
	}
	addresses := n.presence.exposedAddresses()
	if len(addresses) == 0 {
		return nil
	}
	return []api.Container{{ID: exposeIdent, MAC: n.presence.MAC(), Addresses: addresses}}
}
