package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"weave/internal/api"
	"weave/peer"
	"weave/policy"
	"weave/runtime"
	"weave/stack/filter"
)

// MaxPolicy is how long a policy may be, in bytes.
const MaxPolicy = filter.MaxText

// SetPolicy implements api.Policies.
func (l *policyLoop) SetPolicy(ctx context.Context, text string) (warnings []string, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, api.BadRequest("the policy is empty; 'weave policy clear' takes it away")
	}
	if _, err := filter.Parse(text); err != nil {
		return nil, api.BadRequest(err.Error())
	}
	return l.set(ctx, text)
}

// ClearPolicy implements api.Policies.
func (l *policyLoop) ClearPolicy(ctx context.Context) (warnings []string, err error) {
	return l.set(ctx, "")
}

func (l *policyLoop) set(ctx context.Context, text string) ([]string, error) {
	r, err := l.ask(ctx, policyCall{in: policy.Set{Text: text}})
	if err != nil {
		return nil, err
	}
	if r.status.Fault != "" {
		return []string{"the policy is not enforced on this host yet: " + r.status.Fault}, nil
	}
	return nil, nil
}

// PolicyStatus implements api.Policies.
func (l *policyLoop) PolicyStatus(ctx context.Context) (api.PolicyStatus, error) {
	r, err := l.ask(ctx, policyCall{})
	return r.status, err
}

// TestPolicy implements api.Policies.
func (l *policyLoop) TestPolicy(ctx context.Context, from, to, service string) (api.PolicyVerdict, error) {
	r, err := l.ask(ctx, policyCall{ask: &policyQuestion{from: from, to: to, service: service}})
	if err == nil {
		err = r.err
	}
	return r.verdict, err
}

// ask has the loop answer.
func (l *policyLoop) ask(ctx context.Context, call policyCall) (policyReply, error) {
	replies := make(chan policyReply, 1)
	call.reply = replies
	select {
	case l.queues.in <- call:
	case <-ctx.Done():
		return policyReply{}, ctx.Err()
	}
	select {
	case r := <-replies:
		return r, nil
	case <-ctx.Done():
		return policyReply{}, ctx.Err()
	}
}

// answer answers a question; without one, how the policy stands. Who has changed it needs to know only whether it is enforced.
func (l *policyLoop) answer(call policyCall) policyReply {
	switch {
	case call.ask != nil:
		verdict, err := l.test(*call.ask)
		return policyReply{verdict: verdict, err: err}
	case call.in != nil:
		return policyReply{status: api.PolicyStatus{Fault: l.fault}}
	}
	return policyReply{status: l.show()}
}

// show makes what status and report show.
func (l *policyLoop) show() api.PolicyStatus {
	d := l.core.Document()
	s := api.PolicyStatus{Version: d.Version, Text: d.Text, Fault: l.fault, Endpoints: len(l.ends), Rules: []api.PolicyRule{}, Groups: []api.PolicyGroup{}, Other: []api.PolicyCount{}}
	if d.Version > 0 {
		s.Author, s.SetAt = l.called(d.Author), d.Time
	}
	if l.doc == nil {
		return s
	}
	l.due.count = time.Now().Add(policyCounts)
	s.Default = l.doc.Default.String()
	for g, n := range l.meant.Sizes() {
		s.Groups = append(s.Groups, api.PolicyGroup{Name: l.doc.Groups[g].Name, Addresses: n})
	}
	counts := l.counts()
	for i := range l.doc.Rules {
		text := l.doc.RuleText(i)
		c := counts[text]
		s.Rules = append(s.Rules, api.PolicyRule{Line: l.doc.Rules[i].Line, PolicyCount: api.PolicyCount{Text: text, Packets: c.Packets, Bytes: c.Bytes}})
	}
	for _, name := range filter.CountNames {
		s.Other = append(s.Other, api.PolicyCount{Text: name, Packets: counts[name].Packets, Bytes: counts[name].Bytes})
	}
	l.crowded(counts[filter.CountUntracked].Packets)
	l.shown.Store(&s)
	return s
}

// crowded warns, once a minute, when there are more flows than are remembered.
func (l *policyLoop) crowded(count uint64) {
	if now := time.Now(); count > l.untracked.count && now.After(l.untracked.again) {
		l.log.Warn("there are more connections than this host remembers for the policy: is there a flood? See 'weave policy status', untracked", "so far", count)
		l.untracked.again = now.Add(policyWarning)
	}
	l.untracked.count = count
}

// counts reads the counters of this host.
func (l *policyLoop) counts() map[string]runtime.PolicyCount {
	if l.n.bridge != nil {
		counts, err := l.n.bridge.PolicyCounts()
		if err != nil {
			l.log.Debug("the policy's counters cannot be read", "err", err)
		}
		return counts
	}
	counts := map[string]runtime.PolicyCount{}
	read := func(name string) {
		c := l.user.counts.Of(name)
		counts[name] = runtime.PolicyCount{Packets: c.Packets.Load(), Bytes: c.Bytes.Load()}
	}
	for i := range l.doc.Rules {
		read(l.doc.RuleText(i))
	}
	for _, name := range filter.CountNames {
		read(name)
	}
	if l.user.flows != nil {
		counts[filter.CountUntracked] = runtime.PolicyCount{Packets: l.user.flows.Evicted()}
	}
	return counts
}

// called is a peer as status shows it.
func (l *policyLoop) called(n peer.Name) string {
	if nick := l.nicks[n]; nick != "" {
		return n.String() + "(" + nick + ")"
	}
	return n.String()
}

// test tells what the first packet of a flow would meet.
func (l *policyLoop) test(q policyQuestion) (api.PolicyVerdict, error) {
	var v api.PolicyVerdict
	var proto uint8
	var port uint16
	if q.service != "" {
		var err error
		if proto, port, err = filter.ParseService(q.service); err != nil {
			return v, api.BadRequest(err.Error())
		}
		if proto == unix.IPPROTO_TCP { // which is what a port alone is about
			q.service = fmt.Sprintf("tcp/%d", port)
		}
	}
	from, err := l.find(q.from)
	if err != nil {
		return v, err
	}
	to, err := l.find(q.to)
	if err != nil {
		return v, err
	}
	a, b, ok := pair(from, to)
	if !ok {
		return v, api.BadRequest(fmt.Sprintf("%s and %s have no addresses of the same family", q.from, q.to))
	}
	if l.doc == nil {
		return api.PolicyVerdict{Allowed: true, NoPolicy: true, From: l.end(a, nil), To: l.end(b, nil), Service: q.service}, nil
	}
	said := l.meant.Explain(a, b, proto, port)
	v = api.PolicyVerdict{
		Allowed: said.Action == filter.Allow, From: l.end(a, said.From), To: l.end(b, said.To), Service: q.service,
	}
	if said.Rule >= 0 {
		v.Line, v.Rule = l.doc.Rules[said.Rule].Line, l.doc.RuleText(said.Rule)
	}
	return v, nil
}

// find gives the addresses of what a user calls by an address, a name or an id.
func (l *policyLoop) find(text string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return []netip.Addr{a.Unmap().WithZone("")}, nil
	}
	var found []endKey
	for k, e := range l.ends {
		if k.id == text || slices.Contains(e.Names, text) || len(text) >= 12 && strings.HasPrefix(k.id, text) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return nil, api.BadRequest(fmt.Sprintf("there is no container %q on this network: give its name or an address", text))
	case 1:
		return l.ends[found[0]].Addrs, nil
	}
	return nil, api.BadRequest(fmt.Sprintf("%d containers are called %q: give an address", len(found), text))
}

// pair chooses addresses of one family, IPv4 if there are any.
func pair(from, to []netip.Addr) (a, b netip.Addr, ok bool) {
	for _, v4 := range []bool{true, false} {
		of := func(list []netip.Addr) int {
			return slices.IndexFunc(list, func(a netip.Addr) bool { return a.Is4() == v4 })
		}
		if i, j := of(from), of(to); i >= 0 && j >= 0 {
			return from[i], to[j], true
		}
	}
	return a, b, false
}

// end describes one end of a test.
func (l *policyLoop) end(a netip.Addr, groups []string) api.PolicyEnd {
	e := api.PolicyEnd{Address: a.String(), Groups: groups}
	for k, known := range l.ends {
		if slices.Contains(known.Addrs, a) {
			e.Peer = l.called(k.origin)
			if e.Name = k.id; len(known.Names) > 0 {
				e.Name = known.Names[0]
			}
		}
	}
	return e
}
