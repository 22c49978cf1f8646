package netlink

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// The rules of the host are in one table named after the bridge:
//
//	table inet weave {
//		chain postrouting { type nat hook postrouting priority srcnat; policy accept; ... }
//		chain forward     { type filter hook forward priority filter; policy accept; ... }
//		chain prerouting  { type nat hook prerouting priority dstnat; policy accept; ... }   with services
//		chain output      { type nat hook output priority -100; policy accept; ... }
//	}
//
// A chain that accepts does not keep another from dropping, so that rules that accept also stand at the head of every
// other chain of the hooks forward and input that drops what its rules do not decide. They are written as iptables would, which
// otherwise refuses to touch the table any more. Ours are known by their comment, here and there.
const rulePatience = 3 // times that rules are looked at and changed while others change them

// others are the families in which chains of others matter.
var others = map[nftables.TableFamily]runtime.Family{
	nftables.TableFamilyIPv4: runtime.IPv4, nftables.TableFamilyIPv6: runtime.IPv6, nftables.TableFamilyINet: runtime.Inet,
}

// packetFilter is what is seen of the host's rules.
type packetFilter struct {
	runtime.PacketFilter
	chains []*nftables.Chain  // those of Others
	ours   [][]*nftables.Rule // our rules in each of them

	warnings []string
}

func (h *Host) table() *nftables.Table {
	return &nftables.Table{Name: h.cfg.Bridge, Family: nftables.TableFamilyINet}
}

// comment is that of a rule of ours with this label.
func (h *Host) comment(label string) string {
	return "made by weave for " + h.cfg.Bridge + ": " + label
}

// label tells whether a rule is ours, and its label. iptables-save and iptables-restore make a match of a comment.
func (h *Host) label(r *nftables.Rule) (string, bool) {
	text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	for _, e := range r.Exprs {
		if m, ok := e.(*expr.Match); ok && m.Name == "comment" {
			if info, ok := m.Info.(*xt.Comment); ok {
				text = string(*info)
			}
		}
	}
	return strings.CutPrefix(text, h.comment(""))
}

// netfilter opens the host's nf_tables.
func (h *Host) netfilter() (*nftables.Conn, error) {
	deadline := func(c *mnl.Conn) error { return c.SetDeadline(time.Now().Add(filterPatience)) }
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.space.file.Fd())), nftables.AsLasting(), nftables.WithSockOptions(deadline))
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return conn, nil
}

// assertRules makes what is missing of the rules, our own table first, and takes away what is not wanted any more.
// Warnings tell of chains of others that cannot be changed.
func (h *Host) assertRules() (warnings []string, err error) {
	var rules []runtime.Rule
	if h.exposing {
		// What is led comes first: before a rule drops it, or masquerades by the subnet.
		rules = append(runtime.ForwardRules(h.cfg.Bridge, h.exposed, h.forwardings), runtime.ExposeRules(h.cfg.Bridge, h.exposed)...)
		rules = slices.DeleteFunc(rules, h.idle)
	}
	for range rulePatience {
		if warnings, err = h.changeRules(rules); err == nil {
			return warnings, nil
		}
	}
	return nil, err
}

// idle tells that a rule has nothing to match, but would have the kernel track all connections of the host: each packet of
// the kernel path would pay for it. watch.go sees when it is needed.
func (h *Host) idle(r runtime.Rule) bool {
	return r.Known && r.In == runtime.DockerBridge && !h.surroundings().docker
}

// changeRules looks at the rules and changes them. Our table and each chain of others are transactions of their own: one
// that is refused does not keep the others from it. It fails where others have changed what was seen meanwhile.
func (h *Host) changeRules(rules []runtime.Rule) (warnings []string, err error) {
	conn, err := h.netfilter()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.CloseLasting() }()
	seen, err := h.lookAtRules(conn)
	if err != nil {
		return nil, err
	}
	warnings = seen.warnings
	repair := runtime.CheckFilter(rules, seen.PacketFilter)
	if repair.Own {
		h.writeTable(conn, rules, seen.Own != nil)
		if err := conn.Flush(); err != nil {
			return nil, fmt.Errorf("change the nftables table inet %s: %w", h.cfg.Bridge, err)
		}
	}
	for _, i := range repair.Others {
		c := seen.chains[i]
		err := h.writeForeign(c, seen.ours[i], seen.Others[i].Wanted(rules))
		if errors.Is(err, unix.EPERM) { // the table has an owner: no other process may change it
			warnings = append(warnings, fmt.Sprintf("chain %s of the nftables table %s drops what passes the host or is for it, and the table belongs to "+
				"another program, which has to let pass what comes from interface %s or goes there", c.Name, c.Table.Name, h.cfg.Bridge))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("change chain %s of the nftables table %s: %w", c.Name, c.Table.Name, err)
		}
	}
	if !repair.None() {
		h.log.Info("rules were made", "own table", repair.Own, "chains of others", len(repair.Others))
	}
	return warnings, nil
}

// lookAtRules shows our table, and the chains of others that decide what passes the host, or reaches it.
func (h *Host) lookAtRules(conn *nftables.Conn) (packetFilter, error) {
	var seen packetFilter
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return seen, fmt.Errorf("list tables: %w", err)
	}
	if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == h.cfg.Bridge }) {
		seen.Own = map[runtime.Place][]string{}
	}
	all, err := conn.ListChains()
	if err != nil {
		return seen, fmt.Errorf("list chains: %w", err)
	}
	watched := map[chainID]bool{}
	for _, c := range all {
		family, counts := others[c.Table.Family]
		own := c.Table.Name == h.cfg.Bridge && c.Table.Family == nftables.TableFamilyINet
		place := foreignPlace(c)
		if !own && (place == 0 || !counts) {
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil && own {
			return seen, fmt.Errorf("list rules of %s %s: %w", c.Table.Name, c.Name, err)
		}
		if err != nil {
			seen.warnings = append(seen.warnings, fmt.Sprintf("chain %s of the nftables table %s cannot be read: %v", c.Name, c.Table.Name, err))
			continue
		}
		if own {
			seen.Own[placeOf(c)] = h.labels(rules)
			continue
		}
		watched[chainID{byte(c.Table.Family), c.Table.Name, c.Name}] = true
		ours, theirs := h.split(rules)
		seen.Others = append(seen.Others, runtime.Chain{Place: place, Family: family, Closed: closed(c, theirs), Ours: h.labels(ours)})
		seen.chains, seen.ours = append(seen.chains, c), append(seen.ours, ours)
	}
	h.watched.Store(&watched)
	return seen, nil
}

// foreignPlace tells whether another's chain decides what passes the host, or what reaches it; 0 is neither.
func foreignPlace(c *nftables.Chain) runtime.Place {
	switch {
	case c.Type != nftables.ChainTypeFilter || c.Hooknum == nil:
		return 0
	case *c.Hooknum == *nftables.ChainHookForward:
		return runtime.Foreign
	case *c.Hooknum == *nftables.ChainHookInput:
		return runtime.ForeignInput
	}
	return 0
}

// hook says where one of our chains stands.
type hook struct {
	name     string
	kind     nftables.ChainType
	num      *nftables.ChainHook
	priority *nftables.ChainPriority
}

var hooks = map[runtime.Place]hook{
	runtime.Postrouting: {"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource},
	runtime.Forward:     {"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter},
	runtime.Prerouting:  {"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest},
	runtime.Output:      {"output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest},
}

// placeOf tells which of our chains this is; 0 for one that is none of them.
func placeOf(c *nftables.Chain) runtime.Place {
	for place, k := range hooks {
		if k.name == c.Name {
			return place
		}
	}
	return 0
}

func (h *Host) split(rules []*nftables.Rule) (ours, theirs []*nftables.Rule) {
	for _, r := range rules {
		if _, is := h.label(r); is {
			ours = append(ours, r)
		} else {
			theirs = append(theirs, r)
		}
	}
	return ours, theirs
}

// labels are those of the rules; one of somebody else has none, and shows so.
func (h *Host) labels(rules []*nftables.Rule) []string {
	var out []string
	for _, r := range rules {
		label, _ := h.label(r)
		out = append(out, label)
	}
	return out
}

// closed tells that a chain drops what its rules say nothing of: by its policy, as Docker and ufw have it, or by a last
// rule without a condition, as firewalld has it.
func closed(c *nftables.Chain, rules []*nftables.Rule) bool {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return true
	}
	if len(rules) == 0 {
		return false
	}
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			return true
		case *expr.Verdict:
			return e.Kind == expr.VerdictDrop
		case *expr.Target:
			return e.Name == "REJECT" || e.Name == "DROP"
		default:
			return false
		}
	}
	return false
}

// writeTable makes our table anew, or takes it away where there are no rules.
func (h *Host) writeTable(conn *nftables.Conn, rules []runtime.Rule, there bool) {
	if there {
		conn.DelTable(h.table())
	}
	if len(rules) == 0 {
		return
	}
	table := conn.AddTable(h.table())
	chains := map[runtime.Place]*nftables.Chain{}
	for _, r := range rules {
		k, ours := hooks[r.Place]
		if !ours {
			continue
		}
		if chains[r.Place] == nil {
			chains[r.Place] = conn.AddChain(&nftables.Chain{Table: table, Name: k.name, Type: k.kind, Hooknum: k.num, Priority: k.priority})
		}
		conn.AddRule(h.rule(chains[r.Place], r))
	}
}

// writeForeign puts the wanted rules of ours into a chain of others in place of those that are there. It has a connection
// of its own: where a change is refused, some answers are never read.
func (h *Host) writeForeign(c *nftables.Chain, ours []*nftables.Rule, want []runtime.Rule) error {
	conn, err := h.netfilter()
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	for _, r := range ours {
		if err := conn.DelRule(&nftables.Rule{Table: c.Table, Chain: c, Handle: r.Handle}); err != nil {
			return err
		}
	}
	for _, r := range slices.Backward(want) { // each goes to the head
		conn.InsertRule(h.rule(c, r))
	}
	return conn.Flush()
}

func (h *Host) rule(c *nftables.Chain, r runtime.Rule) *nftables.Rule {
	return &nftables.Rule{
		Table: c.Table, Chain: c, Exprs: ruleExprs(r, c.Table.Family == nftables.TableFamilyINet),
		UserData: userdata.AppendString(nil, userdata.TypeComment, h.comment(r.Label)),
	}
}
