package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"weave/internal/api"
	"weave/internal/store"
	"weave/runtime"
)

// recordPrefix is that of engines' containers in the state file. A record
// outlives the container's runs, the daemon's and the machine's: a container that
// starts again gets what it had.
const recordPrefix = "container/"

// placement is an address that was asked for, and what came of it.
type placement struct {
	api.AddressSpec
	Got netip.Prefix // invalid: nothing yet
}

// record is how a container is attached.
type record struct {
	Engine           string
	Name             string            // what its engine calls it
	Labels           map[string]string // what its engine says of it
	Ident            string            // what its addresses are held under: its own id, or that of the container whose namespace it shares
	MAC              runtime.MAC
	Places           []placement
	Names            []string // for DNS
	NoMulticastRoute bool
	RewriteHosts     bool
	ExtraHosts       []string // NAME:ADDRESS
}

// ask adds addresses, names and hosts to what is wanted.
func (r *record) ask(specs []api.AddressSpec, names []string) {
	for _, s := range specs {
		there := func(p placement) bool {
			return p.AddressSpec == s || (!s.Allocate && p.Got == s.Prefix)
		}
		if !slices.ContainsFunc(r.Places, there) {
			r.Places = append(r.Places, placement{AddressSpec: s})
		}
	}
	for _, name := range names {
		if !slices.Contains(r.Names, name) {
			r.Names = append(r.Names, name)
		}
	}
}

// addresses lists what it was given.
func (r *record) addresses() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range r.Places {
		if p.Got.IsValid() && !slices.Contains(out, p.Got) {
			out = append(out, p.Got)
		}
	}
	return out
}

// given lists what came of the addresses asked for, in that order.
func (r *record) given(specs []api.AddressSpec) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range specs {
		for _, p := range r.Places {
			if p.AddressSpec == s || (!s.Allocate && p.Got == s.Prefix) {
				out = append(out, p.Got)
				break
			}
		}
	}
	return out
}

// drop forgets addresses; it tells whether any is left.
func (r *record) drop(list []netip.Prefix) bool {
	r.Places = slices.DeleteFunc(r.Places, func(p placement) bool { return slices.Contains(list, p.Got) })
	return len(r.Places) > 0
}

// load reads the records.
func (b *containers) load() error {
	saves, err := b.n.store.List(recordPrefix)
	if err != nil {
		return err
	}
	for _, s := range saves {
		var r record
		if err := json.Unmarshal(s.Value, &r); err != nil {
			b.log.Warn("a container's record is unreadable and forgotten", "key", s.Key, "err", err)
			if err := b.n.store.Delete(s.Key); err != nil {
				return err
			}
			continue
		}
		b.records[strings.TrimPrefix(s.Key, recordPrefix)] = r
	}
	return nil
}

// recall is what is known of a container.
func (b *containers) recall(id string) (record, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.records[id]
	r.Places, r.Names = slices.Clone(r.Places), slices.Clone(r.Names)
	return r, ok
}

// remember keeps a record: durable before it counts.
func (b *containers) remember(id string, r record) error {
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if was, ok := b.recall(id); ok {
		if old, err := json.Marshal(was); err == nil && string(old) == string(value) {
			return nil
		}
	}
	if err := b.n.store.Update([]store.Save{{Key: recordPrefix + id, Value: value}}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records[id] = r
	return nil
}

func (b *containers) forget(id string) error {
	b.mu.Lock()
	_, ok := b.records[id]
	delete(b.records, id)
	b.mu.Unlock()
	if !ok {
		return nil
	}
	return b.n.store.Delete(recordPrefix + id)
}

// of lists the containers of an engine that there are records of.
func (b *containers) of(engine string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for id, r := range b.records {
		if r.Engine == engine {
			out = append(out, id)
		}
	}
	return out
}

// order is what a container that runs is to get: what it had, or what it wishes
// for; false if nothing.
func (b *containers) order(c runtime.Container, all bool) (record, bool, error) {
	if r, ok := b.recall(c.ID); ok {
		return r, true, nil
	}
	wish, err := runtime.WishOf(c, all)
	if err != nil || !wish.Wanted {
		return record{}, false, err
	}
	r := record{Engine: c.Engine, NoMulticastRoute: b.n.cfg.Engines.NoMulticastRoute, RewriteHosts: c.Shimmed() && !b.n.cfg.Engines.NoRewriteHosts}
	specs, err := api.ParseAddresses(wish.Addresses)
	if err != nil {
		return record{}, false, fmt.Errorf("addresses of %s: %w", c.Name, err)
	}
	r.ask(specs, append(b.namesOf(c), wish.Names...))
	return r, true, nil
}

// namesOf is what a container is called: its host name where that has a domain,
// else the name that the proxy would have given it.
func (b *containers) namesOf(c runtime.Container) []string {
	if b.n.names == nil || b.n.cfg.Engines.WithoutDNS {
		return nil
	}
	if name := qualified(c); name != "" {
		return []string{name}
	}
	if name, ok := b.n.cfg.Engines.Naming.Hostname(c.Name, c.Labels); ok {
		return []string{name}
	}
	return nil
}

// qualified is a container's own name with its domain, "" where it has none.
func qualified(c runtime.Container) string {
	switch {
	case c.Domain != "":
		return c.Hostname + "." + c.Domain
	case strings.Contains(c.Hostname, "."):
		return c.Hostname
	}
	return ""
}

// claimAgain gives a container an address that it had. One that somebody has
// taken meanwhile is replaced, if it was an allocated one.
func (n *node) claimAgain(ctx context.Context, ident string, p placement) (netip.Prefix, error) {
	if n.ipam == nil {
		return p.Got, nil
	}
	err := n.claim(ctx, ident, p.Got)
	if err == nil || !p.Allocate || ctx.Err() != nil {
		return p.Got, err
	}
	if refused, ok := errors.AsType[*api.StatusError](err); !ok || refused.Code >= 500 {
		return p.Got, err
	}
	n.log.Info("an address that a container had is no longer free; it gets another", "address", p.Got, "ident", ident, "why", err)
	return n.ipam.allocate(ctx, ident, p.Prefix, true)
}
