package netlink

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// bridgeTables is what is wanted of our tables of the bridge family.
type bridgeTables struct {
	policy  *runtime.Policy // nil: none
	written *written        // of the policy's table; nil: that is not known
	sides   sideNumbers
	plain   bool // the kernel has no maps of ranges: it looks at all rules in their order
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
	tampered := h.tampered.Swap(false)
	if h.policy != nil {
		ok, err := h.policyIntact()
		if err == nil && (!ok || tampered) {
			h.log.Info("the table of the policy is made anew")
			err = h.rewritePolicy()
		}
		errs = append(errs, err)
	}
	if len(h.guards) > 0 {
		b := &batch{table: h.cfg.Bridge}
		h.guardBatch(b)
		ok, err := h.intact(b.table, shapeOf(b))
		if err == nil && (!ok || tampered) {
			h.log.Info("the table that guards containers' ports is made anew")
			err = h.writeGuards()
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if err != nil && tampered { // to be looked at again
		h.tampered.Store(true)
	}
	return err
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

// policyIntact tells whether the policy's table has what was written, as far as counts tell: what its thousands of rules are is not read.
func (h *Host) policyIntact() (bool, error) {
	if h.written == nil {
		return false, nil
	}
	seen, err := h.lookAtTable(h.policyTable())
	return seen.there && seen.shape() == h.written.shape(), err
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
	if h.written == nil { // it could not be written either
		return h.changedMembers(list)
	}
	b := &batch{table: h.policyTable()}
	again := h.policy.Allow || slices.ContainsFunc(h.policy.Rules, func(r runtime.PolicyRule) bool { return !r.Allow })
	for _, c := range list {
		again = again || !c.Added
		h.policy.Members[c.Side] = withMember(h.policy.Members[c.Side], c)
		h.written.change(b, c)
	}
	if again { // what was allowed may not be any more; with nothing but allowing rules more members never forbid
		forgetFast(b)
	}
	if err := h.commit(b); err != nil {
		h.log.Debug("members of the policy could not be changed; it is written anew", "err", err)
		if err := h.rewritePolicy(); err != nil {
			return fmt.Errorf("change members: %w", err)
		}
	}
	return nil
}

// changedMembers notes changes and writes the whole policy.
func (h *Host) changedMembers(list []runtime.PolicyChange) error {
	for _, c := range list {
		h.policy.Members[c.Side] = withMember(h.policy.Members[c.Side], c)
	}
	if err := h.rewritePolicy(); err != nil {
		return fmt.Errorf("change members: %w", err)
	}
	return nil
}

// withMember is a list of members after a change.
func withMember(list []netip.Addr, c runtime.PolicyChange) []netip.Addr {
	i := slices.Index(list, c.Addr)
	switch {
	case c.Added && i < 0:
		return append(list, c.Addr)
	case !c.Added && i >= 0:
		list[i] = list[len(list)-1]
		return list[:len(list)-1]
	}
	return list
}

// change puts a change of a side, and what it makes of unions, on a batch.
func (w *written) change(b *batch, c runtime.PolicyChange) {
	set := func(number uint32, in bool) {
		m := memberID{number, c.Addr}
		if _, was := w.members[m]; was == in {
			return
		}
		kind := unix.NFT_MSG_NEWSETELEM
		if w.members[m] = struct{}{}; !in {
			delete(w.members, m)
			kind = unix.NFT_MSG_DELSETELEM
		}
		b.elements(kind, memberSet(m.family()), []element{m.element()})
	}
	set(w.numbers[c.Side], c.Added)
	for _, u := range w.unions[c.Side] {
		parts := w.parts[u]
		union := parts[len(parts)-1]
		set(union, slices.ContainsFunc(parts[:len(parts)-1], func(n uint32) bool {
			_, in := w.members[memberID{n, c.Addr}]
			return in
		}))
	}
}

// writePolicy makes the table what it should be: by what differs from before, or from the ground up.
func (h *Host) writePolicy() error {
	if h.policy == nil {
		return h.removePolicy()
	}
	if h.written == nil {
		return h.rewritePolicy()
	}
	return h.quietly(func() error {
		p := h.newProgram(h.written, h.plan())
		p.difference()
		err := h.commit(p.batch)
		if h.written = p.after; err != nil {
			h.log.Debug("the table of the policy is not as it was; it is written anew", "err", err)
			return h.rewriteQuietly()
		}
		return nil
	})
}

// removePolicy takes the table away.
func (h *Host) removePolicy() error {
	h.written = nil
	seen, err := h.lookAtTable(h.policyTable())
	if err != nil || !seen.there { // a kernel without nf_tables has none
		return nil
	}
	b := &batch{table: h.policyTable()}
	b.delTable()
	return h.commit(b)
}

// rewritePolicy writes the table from the ground up, whatever it is.
func (h *Host) rewritePolicy() error { return h.quietly(h.rewriteQuietly) }

func (h *Host) rewriteQuietly() error {
	h.written = nil
	seen, err := h.lookAtTable(h.policyTable())
	if err != nil {
		return err
	}
	if err = h.wholePolicy(seen); err == nil {
		return nil
	}
	if !h.plain && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) { // so before Linux 5.6
		h.plain = true
		if h.wholePolicy(seen) == nil {
			h.log.Info("the kernel looks at the rules of policies in their order: it has no maps of ranges", "err", err)
			return nil
		}
		h.plain = false
	}
	if !seen.there {
		return err
	}
	h.log.Warn("the table of the policy is not as we made it, and is made anew: flows of containers are forgotten", "err", err)
	return h.wholePolicy(tableSeen{foreign: true})
}

// plan is how the rules of the policy are looked at.
func (h *Host) plan() runtime.PolicyPlan {
	if h.plain {
		return runtime.PlainPlan(h.policy)
	}
	return runtime.PlanPolicy(h.policy)
}

func (h *Host) wholePolicy(seen tableSeen) error { return h.wholePlan(seen, h.plan()) }

func (h *Host) wholePlan(seen tableSeen, plan runtime.PolicyPlan) error {
	p := h.newProgram(&written{}, plan)
	p.anew(seen)
	if err := h.commit(p.batch); err != nil {
		return err
	}
	h.written = p.after
	return nil
}
