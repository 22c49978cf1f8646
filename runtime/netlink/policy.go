package netlink

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// bridgeTables is what is wanted of our tables of the bridge family.
type bridgeTables struct {
	policy  *runtime.Policy // nil: none
	written shape           // of the policy's table
	guards  map[string]guard
}

// shape is by what a table is known to be as it was written.
type shape struct{ rules, sets int }

func shapeOf(b *batch) shape {
	var s shape
	for i := range b.messages {
		switch b.messages[i].Header.Type & 0xff {
		case unix.NFT_MSG_NEWRULE:
			s.rules++
		case unix.NFT_MSG_NEWSET:
			s.sets++
		}
	}
	return s
}

// resetBridgeTables takes them away.
func (h *Host) resetBridgeTables() error {
	h.policy, h.guards = nil, nil
	return errors.Join(h.writePolicy(), h.writeGuards())
}

// keepBridgeTables makes them anew if somebody has taken them, or part of them, away.
func (h *Host) keepBridgeTables() error {
	var errs []error
	if h.policy != nil {
		ok, err := h.intact(h.policyTable(), h.written)
		if err == nil && !ok {
			h.log.Info("the table of the policy is made anew")
			err = h.writePolicy()
		}
		errs = append(errs, err)
	}
	if len(h.guards) > 0 {
		b := &batch{table: h.cfg.Bridge}
		h.guardBatch(b)
		ok, err := h.intact(b.table, shapeOf(b))
		if err == nil && !ok {
			h.log.Info("the table that guards containers' ports is made anew")
			err = h.writeGuards()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// intact tells whether a table has as many rules and sets as were written.
func (h *Host) intact(table string, want shape) (bool, error) {
	seen, err := h.lookAtTable(table)
	if err != nil || !seen.there {
		return false, err
	}
	rules := 0
	err = h.dump(table, unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, func(*mnl.AttributeDecoder) { rules++ })
	if err != nil {
		return false, err
	}
	return shape{rules, len(seen.sets)} == want, nil
}

func (h *Host) policyTable() string { return h.cfg.Bridge + policySuffix }

// SetPolicy holds what passes the bridge against a policy; nil takes it away. It takes effect at one stroke: flows that were allowed
// and still are go on, as do the counters of rules that stay. The policy is not changed by the caller afterwards.
func (h *Host) SetPolicy(p *runtime.Policy) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.policy = p
	if err := h.writePolicy(); err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	return nil
}

// ChangeMembers tells which members of the policy's sides came and went.
func (h *Host) ChangeMembers(list []runtime.PolicyChange) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.policy == nil || len(list) == 0 {
		return nil
	}
	b := &batch{table: h.policyTable()}
	again := h.policy.Allow || slices.ContainsFunc(h.policy.Rules, func(r runtime.PolicyRule) bool { return !r.Allow })
	for _, c := range list {
		kind := unix.NFT_MSG_NEWSETELEM
		members := h.policy.Members[c.Side]
		if c.Added {
			members = append(members, c.Addr)
		} else {
			again = true
			kind = unix.NFT_MSG_DELSETELEM
			if i := slices.Index(members, c.Addr); i >= 0 {
				members[i] = members[len(members)-1]
				members = members[:len(members)-1]
			}
		}
		h.policy.Members[c.Side] = members
		f := &families[1]
		if c.Addr.Is4() {
			f = &families[0]
		}
		b.elements(kind, memberSet(f), []element{memberKey(c.Side, c.Addr)})
	}
	if again { // what was allowed may not be any more; with nothing but allowing rules more members never forbid
		forgetFast(b)
	}
	if err := h.commit(b); err != nil {
		h.log.Debug("members of the policy could not be changed; it is written anew", "err", err)
		if err := h.writePolicy(); err != nil {
			return fmt.Errorf("change members: %w", err)
		}
	}
	return nil
}

// writePolicy makes the table what it should be, whatever it is.
func (h *Host) writePolicy() error {
	seen, err := h.lookAtTable(h.policyTable())
	if h.policy == nil && (err != nil || !seen.there) { // a kernel without nf_tables has none
		return nil
	}
	if err != nil {
		return err
	}
	if h.policy == nil {
		b := &batch{table: h.policyTable()}
		b.delTable()
		return h.commit(b)
	}
	return h.quietly(func() error {
		b := h.policyBatch(seen)
		h.written = shapeOf(b)
		err := h.commit(b)
		if err != nil && seen.there {
			h.log.Warn("the table of the policy is not as we made it, and is made anew: flows of containers are forgotten", "err", err)
			err = h.commit(h.policyBatch(tableSeen{there: true, foreign: true}))
		}
		return err
	})
}

// tableSeen is what is seen of a table of the bridge family.
type tableSeen struct {
	there    bool
	foreign  bool // it is to be taken away first
	sets     []string
	counters []string
}

// policyBatch writes all but the sets that packets fill.
func (h *Host) policyBatch(seen tableSeen) *batch {
	p := &program{batch: &batch{table: h.policyTable()}, policy: h.policy, service: h.service}
	if seen.foreign {
		p.delTable()
	}
	p.newTable()
	if seen.there && !seen.foreign {
		p.flushRules()
	}
	dynamic := map[string]bool{}
	for i := range families {
		for _, kind := range dynamicKinds {
			dynamic[families[i].set(kind)] = true
		}
	}
	for _, name := range seen.sets {
		if !dynamic[name] {
			p.delSet(name)
		}
	}
	p.counters(seen.counters)
	p.dynamicSets()
	forgetFast(p.batch)
	p.sides()
	p.chains()
	return p.batch
}

// counters makes those that are missing, and takes away those of rules that are no more.
func (p *program) counters(seen []string) {
	want := map[string]bool{countDefault: true, countOther: true, countTagged: true, countBroken: true, countPieces: true}
	for i := range p.policy.Rules {
		want[counterName(p.policy.Rules[i].Text)] = true
	}
	for _, name := range seen {
		if !want[name] {
			p.delCounter(name)
		}
		delete(want, name)
	}
	for name := range want {
		p.newCounter(name)
	}
}

// lookAtTable finds what a table has.
func (h *Host) lookAtTable(name string) (tableSeen, error) {
	var seen tableSeen
	conn, err := h.netfilter()
	if err != nil {
		return seen, err
	}
	defer func() { _ = conn.CloseLasting() }()
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err != nil {
		return seen, fmt.Errorf("list tables: %w", err)
	}
	if seen.there = slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == name }); !seen.there {
		return seen, nil
	}
	if seen.sets, err = h.list(name, unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME); err != nil {
		return seen, err
	}
	seen.counters, err = h.list(name, unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME)
	return seen, err
}

// list asks for the names of what a table has of one kind.
func (h *Host) list(table string, kind int, tableAttr, nameAttr uint16) ([]string, error) {
	var names []string
	err := h.dump(table, kind, tableAttr, func(ad *mnl.AttributeDecoder) {
		for ad.Next() {
			if ad.Type() == nameAttr {
				names = append(names, ad.String())
			}
		}
	})
	return names, err
}

// dump asks for all that a table has of one kind.
func (h *Host) dump(table string, kind int, tableAttr uint16, take func(*mnl.AttributeDecoder)) error {
	conn, err := h.nftConn()
	if err != nil {
		return err
	}
	defer conn.Close()
	b := &batch{table: table}
	b.add(kind, mnl.Dump, func(a *attrs) { a.text(tableAttr, table) })
	got, err := conn.Execute(b.messages[0])
	if err != nil {
		return fmt.Errorf("list what table bridge %s has: %w", table, err)
	}
	for _, m := range got {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := mnl.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return err
		}
		take(ad)
	}
	return nil
}

// PolicyCounts are the counters of rules, by text, and those of what no rule is about, by name.
func (h *Host) PolicyCounts() (map[string]runtime.PolicyCount, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.policy == nil {
		return nil, nil
	}
	texts := map[string]string{}
	for i := range h.policy.Rules {
		texts[counterName(h.policy.Rules[i].Text)] = h.policy.Rules[i].Text
	}
	out := map[string]runtime.PolicyCount{}
	err := h.dump(h.policyTable(), unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, func(ad *mnl.AttributeDecoder) {
		name, count := readCounter(ad)
		if text, ok := texts[name]; ok {
			name = text
		}
		out[name] = count
	})
	if errors.Is(err, unix.ENOENT) { // somebody flushed it this moment
		return out, nil
	}
	return out, err
}

func readCounter(ad *mnl.AttributeDecoder) (name string, count runtime.PolicyCount) {
	ad.ByteOrder = bigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_OBJ_NAME:
			name = ad.String()
		case unix.NFTA_OBJ_DATA:
			ad.Nested(func(in *mnl.AttributeDecoder) error {
				in.ByteOrder = bigEndian
				for in.Next() {
					switch in.Type() {
					case unix.NFTA_COUNTER_BYTES:
						count.Bytes = in.Uint64()
					case unix.NFTA_COUNTER_PACKETS:
						count.Packets = in.Uint64()
					}
				}
				return nil
			})
		}
	}
	return name, count
}
