package node

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weave/dns"
	"weave/policy"
	"weave/runtime"
	"weave/stack/filter"
)

// adopt makes the document of the core what is enforced.
func (l *policyLoop) adopt() {
	l.due.retry = time.Time{}
	d := l.core.Document()
	if d.Text == "" {
		l.doc, l.meant, l.fault = nil, nil, ""
		l.due.count = time.Time{}
		l.enforced(l.enforce())
		l.shown.Store(nil)
		return
	}
	doc, err := filter.Parse(d.Text)
	if err != nil { // of a host with a newer version: what was enforced before stays
		l.fault = fmt.Sprintf("this host cannot read it: %v", err)
		l.log.Warn("the policy of the network cannot be read by this version of weave; the one before stays in force", "err", err)
		l.show()
		return
	}
	l.doc, l.meant = doc, filter.NewMembers(doc)
	for k, e := range l.ends {
		l.meant.Put(l.endpoint(k, e))
		if k.origin != l.n.memory.name {
			l.dirty[k.origin] = true
		}
	}
	l.due.save = time.Now().Add(policySaving)
	l.enforced(l.enforce())
	l.log.Info("policy", "version", d.Version, "author", d.Author, "rules", len(doc.Rules), "groups", len(doc.Groups))
	l.show()
}

// enforce has the kernel, or the data plane, follow the policy as it is.
func (l *policyLoop) enforce() error {
	switch {
	case l.n.bridge != nil && l.doc == nil:
		return l.n.bridge.SetPolicy(nil)
	case l.n.bridge != nil:
		return l.n.bridge.SetPolicy(kernelPolicy(l.doc, l.meant))
	case l.doc == nil:
		l.n.dp.policy.Store(nil)
		return nil
	}
	if l.user.flows == nil {
		l.user.flows = filter.NewFlows(maphash.MakeSeed())
	}
	l.n.dp.policy.Store(filter.New(l.doc, l.meant, l.n.presence.service, l.user.flows, l.user.counts))
	return nil
}

// enforceChanges has it follow changes of members.
func (l *policyLoop) enforceChanges(list []filter.Change) error {
	if l.n.bridge != nil {
		return l.n.bridge.ChangeMembers(kernelChanges(list))
	}
	if f := l.n.dp.policy.Load(); f != nil {
		l.n.dp.policy.Store(f.With(l.meant, list))
		return nil
	}
	return l.enforce()
}

// enforced notes whether that worked; if it did not, it is tried again.
func (l *policyLoop) enforced(err error) {
	if err == nil {
		l.fault = ""
		return
	}
	if l.fault == "" {
		l.log.Warn("the policy is not enforced on this host; trying on", "err", err)
	}
	l.fault = err.Error()
	l.due.retry = time.Now().Add(policyRetry)
}

// endpoint is one as the filter knows it.
func (l *policyLoop) endpoint(k endKey, e policy.Endpoint) filter.Endpoint {
	return filter.Endpoint{
		ID: k.origin.String() + "/" + k.id, Peer: k.origin.String(), Nickname: l.nicks[k.origin],
		Names: e.Names, Labels: e.Labels, Addrs: e.Addrs,
	}
}

// changed follows endpoints that came, went or have changed.
func (l *policyLoop) changed(list []policy.Change) {
	var all []filter.Change
	for _, c := range list {
		k := endKey{c.Origin, c.ID}
		if l.ends[k] = c.Endpoint; len(c.Addrs) == 0 {
			delete(l.ends, k)
		}
		if l.meant == nil {
			continue
		}
		e := l.endpoint(k, c.Endpoint)
		if len(c.Addrs) == 0 {
			all = append(all, l.meant.Remove(e.ID)...)
		} else {
			all = append(all, l.meant.Put(e)...)
		}
		if c.Origin != l.n.memory.name {
			l.dirty[c.Origin] = true
			if l.due.save.IsZero() {
				l.due.save = time.Now().Add(policySaving)
			}
		}
	}
	if len(all) == 0 {
		return
	}
	l.enforced(l.enforceChanges(all))
}

// kernelChanges are changes as the kernel's edge takes them. What comes and goes at once, as one that moves, is no change.
func kernelChanges(all []filter.Change) []runtime.PolicyChange {
	net := map[filter.Change]int{}
	for _, c := range all {
		opposite := c
		opposite.Added = !c.Added
		if net[opposite] > 0 {
			net[opposite]--
		} else {
			net[c]++
		}
	}
	var changes []runtime.PolicyChange
	for c, n := range net {
		if n > 0 {
			changes = append(changes, runtime.PolicyChange{Side: c.Operand, Addr: c.Addr, Added: c.Added})
		}
	}
	return changes
}

// kernelPolicy is a policy as the kernel's edge takes it.
func kernelPolicy(d *filter.Document, m *filter.Members) *runtime.Policy {
	p := &runtime.Policy{Allow: d.Default == filter.Allow}
	members := m.All()
	for i := range d.Operands {
		o := &d.Operands[i]
		p.Sides = append(p.Sides, runtime.Side{Text: o.Text, Any: o.Any, Living: o.Living(), Nets: o.Nets()})
		p.Members = append(p.Members, members[i])
	}
	for i := range d.Rules {
		r := &d.Rules[i]
		one := runtime.PolicyRule{Text: d.RuleText(i), Allow: r.Action == filter.Allow, From: r.From, To: r.To, Protos: r.Protos}
		for _, ports := range r.Ports {
			one.Ports = append(one.Ports, runtime.PortRange(ports))
		}
		p.Rules = append(p.Rules, one)
	}
	return p
}

// endpoints lists what this host has on the network, as policies know it.
func (n *node) endpoints() []policy.Endpoint {
	names := n.namesByIdent()
	var out []policy.Endpoint
	for id, held := range n.attachments.held() {
		e := policy.Endpoint{ID: id, Names: names[id], Addrs: sortedAddrs(held)}
		if r, ok := n.containers.recall(id); ok {
			e.Names = append([]string{r.Name}, e.Names...)
			e.Labels = r.Labels
		} else if text := n.attachments.textOf(id); text != "" {
			e.Names = append([]string{text}, e.Names...)
		}
		e.Names = slices.DeleteFunc(e.Names, func(s string) bool { return s == "" })
		out = append(out, e)
	}
	if held := n.exposedAddresses(); len(held) > 0 {
		out = append(out, policy.Endpoint{ID: exposeIdent, Names: names[exposeIdent], Addrs: sortedAddrs(held)})
	}
	return out
}

func sortedAddrs(list []netip.Prefix) []netip.Addr {
	out := addrsOf(list)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// namesByIdent lists the names that are registered here, with the domain and without it.
func (n *node) namesByIdent() map[string][]string {
	if n.names == nil {
		return nil
	}
	saves, err := n.store.List(namePrefix)
	if err != nil {
		n.log.Warn("names cannot be listed", "err", err)
		return nil
	}
	domain := "." + dns.Canonical(n.cfg.Names.Domain.String())
	out := map[string][]string{}
	for _, s := range saves {
		parts := strings.Split(strings.TrimPrefix(s.Key, namePrefix), "\x00")
		if len(parts) != 3 || slices.Contains(out[parts[0]], parts[1]) {
			continue
		}
		list := append(out[parts[0]], parts[1])
		if short, ok := strings.CutSuffix(parts[1], strings.TrimSuffix(domain, ".")); ok {
			list = append(list, short)
		}
		out[parts[0]] = list
	}
	for id := range out {
		slices.Sort(out[id])
	}
	return out
}

// textOf is the name by which a plain namespace was attached; "" for a path or a pid.
func (a *attachments) textOf(want string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.list {
		if ident(at) == want && !isEngineID(at.ID) && !strings.Contains(at.Target.Text, "/") && strings.Trim(at.Target.Text, "0123456789") != "" {
			return at.Target.Text
		}
	}
	return ""
}
