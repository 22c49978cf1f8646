package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"weave/dns"
	"weave/internal/api"
	"weave/internal/store"
	"weave/runtime"
	"weave/runtime/netlink"
)

// namePrefix is that of names of ours in the state file: they outlive a restart
// of the daemon, as the containers do.
const namePrefix = "name/"

// savedName is a record as the state file has it.
type savedName struct {
	Boot string
	dns.Record
}

func nameKey(r dns.Record) string {
	return namePrefix + r.Ident + "\x00" + dns.Canonical(r.Name) + "\x00" + r.Addr.String()
}

// register adds records: durable before visible.
func (l *namesLoop) register(ctx context.Context, records []dns.Record) error {
	records = slices.DeleteFunc(records, func(r dns.Record) bool { return !l.cfg.Domain.Holds(dns.Canonical(r.Name)) })
	saves := make([]store.Save, 0, len(records))
	for i := range records {
		value, err := json.Marshal(savedName{l.boot, records[i]})
		if err != nil {
			return err
		}
		saves = append(saves, store.Save{Key: nameKey(records[i]), Value: value})
	}
	if len(records) == 0 {
		return nil
	}
	if err := l.store.Update(saves); err != nil {
		return err
	}
	defer l.changed()
	r, err := l.ask(ctx, func(id dns.ReqID) dns.Input { return dns.Add{ID: id, Records: records} })
	if err == nil && r.Fault != "" {
		for i := range saves {
			saves[i].Value = nil
		}
		_ = l.store.Update(saves)
		err = api.BadRequest(r.Fault)
	}
	return err
}

// unregister removes our records that match; "" and an invalid address match
// everything.
func (l *namesLoop) unregister(ctx context.Context, ident, name string, addr netip.Addr) error {
	all, err := l.store.List(namePrefix)
	if err != nil {
		return err
	}
	name = dns.Canonical(name)
	var gone []store.Save
	for _, s := range all {
		parts := strings.Split(strings.TrimPrefix(s.Key, namePrefix), "\x00")
		if len(parts) == 3 && (ident == "" || parts[0] == ident) && (name == "" || parts[1] == name) && (!addr.IsValid() || parts[2] == addr.String()) {
			gone = append(gone, store.Save{Key: s.Key})
		}
	}
	if len(gone) > 0 {
		if err := l.store.Update(gone); err != nil {
			return err
		}
		defer l.changed()
	}
	_, err = l.ask(ctx, func(id dns.ReqID) dns.Input { return dns.Remove{ID: id, Ident: ident, Name: name, Addr: addr} })
	return err
}

// recallNames registers again what was registered before a restart, but for
// namespaces that have gone meanwhile.
func (n *node) recallNames(ctx context.Context) error {
	if n.names == nil {
		return nil
	}
	all, err := n.store.List(namePrefix)
	if err != nil {
		return err
	}
	held := n.attachments.held()
	var records []dns.Record
	for _, s := range all {
		var r savedName
		if err := json.Unmarshal(s.Value, &r); err != nil || r.Boot != n.names.boot || !n.alive(held, r.Record) {
			if err := n.store.Delete(s.Key); err != nil {
				return err
			}
			continue
		}
		records = append(records, r.Record)
	}
	return n.names.register(ctx, records)
}

// alive tells that what a name stands for is there: an attached namespace or
// container, or something that is neither.
func (n *node) alive(held map[string][]netip.Prefix, r dns.Record) bool {
	ident := r.Ident
	if isEngineID(ident) {
		if c, ok := n.containers.recall(ident); ok {
			ident = c.Ident
		}
	} else if !strings.HasPrefix(ident, "net:[") {
		return true
	}
	_, there := held[ident]
	return there
}

// checkNames refuses what nameAttached could not register, before anything is
// attached.
func (n *node) checkNames(req api.AttachRequest) error {
	if n.names == nil && len(req.Names) > 0 {
		return api.BadRequest("names are switched off (--no-dns)")
	}
	for _, name := range req.Names {
		if _, err := dns.ParseDomain(n.cfg.Names.Domain.Qualify(name)); err != nil {
			return api.BadRequest(fmt.Sprintf("invalid name %q: it has labels of letters, digits, hyphens and underscores", name))
		}
	}
	return nil
}

// registerAll registers names for addresses.
func (l *namesLoop) registerAll(ctx context.Context, ident string, names []string, list []netip.Prefix) error {
	var records []dns.Record
	for _, name := range names {
		for _, p := range list {
			records = append(records, dns.Record{Name: name, Ident: ident, Addr: p.Addr()})
		}
	}
	return l.register(ctx, records)
}

// ownName is what a container calls itself, if that has a domain part.
func (n *node) ownName(target string) []string {
	host, err := netlink.Hostname(target)
	if err != nil || !strings.Contains(host, ".") {
		return nil
	}
	return []string{host}
}

// AddName implements api.Names.
func (n *node) AddName(ctx context.Context, req api.NameRequest) error {
	p, err := n.namePlace(ctx, req.Target)
	if err == nil {
		err = p.notRunning()
	}
	if err != nil {
		return err
	}
	names := []string{n.cfg.Names.Domain.Qualify(req.Name)}
	switch {
	case req.Name == "" && p.container != nil:
		names = n.qualifyAll([]string{qualified(*p.container)})
	case req.Name == "":
		names = n.ownName(req.Target)
	}
	addrs := req.Addrs
	if len(addrs) == 0 {
		held, ok := n.attachments.held()[p.ident]
		if !ok {
			return api.BadRequest(fmt.Sprintf("%s is not attached: give the addresses that the name is for", req.Target))
		}
		addrs = addrsOf(held)
		if err := n.rememberNames(p.container, names); err != nil {
			return err
		}
	}
	var services []dns.Service
	for _, s := range req.Services {
		services = append(services, dns.Service(s))
	}
	var records []dns.Record
	for _, name := range names {
		for _, a := range addrs {
			records = append(records, dns.Record{Name: name, Ident: p.nameIdent, Addr: a.Unmap(), Services: services})
		}
	}
	return n.names.register(ctx, records)
}

// rememberNames keeps names of a container for when it starts again.
func (n *node) rememberNames(c *runtime.Container, names []string) error {
	if c == nil {
		return nil
	}
	r, ok := n.containers.recall(c.ID)
	if !ok {
		return nil
	}
	r.ask(nil, names)
	return n.containers.remember(c.ID, r)
}

// forgetNames is the opposite; without a name all go.
func (n *node) forgetNames(c *runtime.Container, name string) error {
	if c == nil {
		return nil
	}
	r, ok := n.containers.recall(c.ID)
	if !ok {
		return nil
	}
	r.Names = slices.DeleteFunc(r.Names, func(had string) bool {
		return name == "" || dns.Canonical(n.cfg.Names.Domain.Qualify(had)) == dns.Canonical(name)
	})
	return n.containers.remember(c.ID, r)
}

// RemoveName implements api.Names.
func (n *node) RemoveName(ctx context.Context, req api.NameRequest) error {
	ident, name := "", req.Name
	if name != "" {
		name = n.cfg.Names.Domain.Qualify(name)
	}
	if req.Target != "" {
		p, err := n.namePlace(ctx, req.Target)
		if err != nil {
			return err
		}
		ident = p.nameIdent
		if len(req.Addrs) == 0 {
			if err := n.forgetNames(p.container, name); err != nil {
				return err
			}
		}
	}
	if len(req.Addrs) == 0 {
		return n.names.unregister(ctx, ident, name, netip.Addr{})
	}
	for _, a := range req.Addrs {
		if err := n.names.unregister(ctx, ident, name, a.Unmap()); err != nil {
			return err
		}
	}
	return nil
}

// namePlace is what names are about: an attached place, or the text itself where
// that is no namespace.
func (n *node) namePlace(ctx context.Context, target string) (place, error) {
	if target == "" || target == api.Extern {
		return place{ident: api.Extern, nameIdent: api.Extern}, nil
	}
	p, err := n.locate(ctx, target)
	if refused, ok := errors.AsType[*api.StatusError](err); errors.Is(err, netlink.ErrNoTarget) || (ok && refused.Code == http.StatusBadRequest) {
		ident := n.attachments.identNamed(target)
		if ident == "" {
			ident = target
		}
		return place{ident: ident, nameIdent: ident}, nil
	}
	if err != nil {
		return p, userError(err)
	}
	return p, nil
}

// NameServer implements api.Names.
func (n *node) NameServer() (string, netip.AddrPort) {
	return n.names.cfg.Domain.String(), n.names.address
}

// nameless forgets the names of a namespace for addresses that it lost, all of
// them if there are none.
func (n *node) nameless(ctx context.Context, ident string, list []netip.Prefix) {
	if n.names == nil || ident == "" {
		return
	}
	gone := make([]netip.Addr, 0, len(list))
	for _, p := range list {
		gone = append(gone, p.Addr())
	}
	if list == nil {
		gone = append(gone, netip.Addr{})
	}
	for _, a := range gone {
		if err := n.names.unregister(ctx, ident, "", a); err != nil && ctx.Err() == nil {
			n.log.Warn("names were not removed", "ident", ident, "err", err)
		}
	}
}

// report makes what status and report show.
func (l *namesLoop) report() *api.DNS {
	d := &api.DNS{
		Domain: l.cfg.Domain.String(), Upstream: []string{}, TTL: int(l.cfg.TTL.Seconds()),
		Entries: []api.DNSEntry{},
	}
	if l.address.IsValid() {
		d.Address = l.address.String()
	}
	for _, at := range l.upstreams.Servers() {
		text := at.String()
		if at.Port() == portDNS {
			text = at.Addr().String()
		}
		d.Upstream = append(d.Upstream, text)
	}
	for _, e := range l.index.Entries() {
		out := api.DNSEntry{
			Hostname: e.Name + ".", Origin: e.Origin.String(), ContainerID: e.Ident, Address: e.Addr.String(), Version: int(e.Version),
		}
		if e.Dead {
			out.Tombstone = e.Died.Unix()
		}
		d.Entries = append(d.Entries, out)
	}
	return d
}
