package netlink

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// written is what the policy's table has, as it was written last. What a chain or a set of constants is called says what is in it, but for the
// chains that there always are; so a new policy is the difference between two of these, one transaction.
type written struct {
	chains    map[string]chainMark
	constants map[string]int // sets, and how many chains they name
	counters  map[string]bool
	members   map[memberID]struct{}
	numbers   []uint32   // of sides and unions
	unions    [][]uint32 // of each side: the numbers of the unions that it is of
	parts     [][]uint32 // of each union: the numbers of its sides
}

// chainMark is what is remembered of a chain.
type chainMark struct {
	digest      [32]byte
	rules, uses int // uses: how often its rules name chains
}

// constantSet is one that only a new policy changes.
type constantSet struct {
	spec     setSpec
	elements []element
}

// program makes the table of a policy.
type program struct {
	*batch
	policy    *runtime.Policy
	plan      runtime.PolicyPlan
	sides     []runtime.Side // with unions
	numbers   []uint32
	service   netip.Addr
	limit     uint32 // of flows
	before    *written
	after     *written
	fresh     map[string]*freshChain // by name
	made      map[string]bool
	constants map[string]constantSet
	nets      [2][][]element // intervals of each side, by family
}

// freshChain is a chain as it is to be.
type freshChain struct {
	rules batch
	uses  int
}

// policyHooks are the chains that frames come by.
var policyHooks = map[string]uint32{"input": 1, "forward": 2, "output": 3}

// newProgram makes all that a policy's table should have; before is what it has, empty if that is not known.
func (h *Host) newProgram(before *written, plan runtime.PolicyPlan) *program {
	p := &program{
		batch: &batch{table: h.policyTable()}, policy: h.policy, plan: plan, service: h.service, limit: cmp.Or(h.cfg.PolicyFlows, flowSetSize), before: before,
		after: &written{chains: map[string]chainMark{}, constants: map[string]int{}, counters: map[string]bool{}, members: map[memberID]struct{}{}},
		fresh: map[string]*freshChain{}, made: map[string]bool{}, constants: map[string]constantSet{},
	}
	p.number(&h.sides)
	p.netSets()
	p.chains()
	for name, c := range p.fresh {
		p.after.chains[name] = c.mark()
	}
	for name, s := range p.constants {
		calls := 0
		if s.spec.flags&unix.NFT_SET_MAP != 0 {
			calls = len(s.elements)
		}
		p.after.constants[name] = calls
	}
	for _, name := range []string{countDefault, countOther, countTagged, countBroken, countPieces, countUntracked} {
		p.after.counters[name] = true
	}
	for i := range p.policy.Rules {
		p.after.counters[counterName(p.policy.Rules[i].Text)] = true
	}
	p.membersOf()
	return p
}

func (c *freshChain) mark() chainMark {
	sum := sha256.New()
	for i := range c.rules.messages {
		sum.Write(c.rules.messages[i].Data)
	}
	return chainMark{[32]byte(sum.Sum(nil)), len(c.rules.messages), c.uses}
}

// sideNumbers gives sides numbers that they keep from one policy to the next.
type sideNumbers struct {
	known map[string]uint32
	last  uint32
}

// number numbers the sides and unions.
func (p *program) number(all *sideNumbers) {
	now := map[string]uint32{}
	give := func(key string) uint32 {
		for _, taken := now[key]; taken; _, taken = now[key] { // two sides that call themselves the same
			key += "\x00"
		}
		n, known := all.known[key]
		if !known {
			all.last++
			n = all.last
		}
		now[key] = n
		p.numbers = append(p.numbers, n)
		return n
	}
	p.sides = slices.Clone(p.policy.Sides)
	p.after.unions = make([][]uint32, len(p.sides))
	for _, s := range p.sides {
		give(fmt.Sprint("side ", s.Text, s.Any, s.Living, s.Nets))
	}
	for _, list := range p.plan.Unions {
		union := runtime.Side{}
		var parts []uint32
		for _, s := range list {
			union.Living = union.Living || p.sides[s].Living
			union.Nets = append(union.Nets, p.sides[s].Nets...)
			parts = append(parts, p.numbers[s])
		}
		slices.Sort(parts)
		n := give(fmt.Sprint("union ", parts))
		for _, s := range list {
			p.after.unions[s] = append(p.after.unions[s], uint32(len(p.after.parts)))
		}
		p.sides, p.after.parts = append(p.sides, union), append(p.after.parts, append(parts, n))
	}
	p.after.numbers, all.known = p.numbers, now
}

// chain makes a chain that may have no rules.
func (p *program) chain(name string) *freshChain {
	c := p.fresh[name]
	if c == nil {
		c = &freshChain{rules: batch{table: p.table}}
		p.fresh[name] = c
	}
	return c
}

// rule puts a rule behind those that a chain has so far.
func (p *program) rule(chain string, exprs ...expression) {
	c := p.chain(chain)
	c.rules.rule(chain, exprs...)
	for _, e := range exprs {
		if e.calls {
			c.uses++
		}
	}
}

// anew writes the table whatever it has, but for the sets that packets fill.
func (p *program) anew(seen tableSeen) {
	if seen.foreign {
		p.delTable()
		seen = tableSeen{}
	}
	p.newTable()
	if seen.there {
		p.flushRules("")
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
	for _, c := range seen.chains {
		if _, stays := p.after.chains[c.name]; !stays {
			p.delChain(c.name)
		}
	}
	counters := map[string]bool{}
	for _, name := range seen.counters {
		counters[name] = true
	}
	p.before = &written{counters: counters}
	for name := range p.after.chains {
		if hook, base := policyHooks[name]; base {
			p.newBase(name, hook, policyPriority)
		} else {
			p.newChain(name)
		}
	}
	p.dynamicSets()
	for i := range families {
		f := &families[i]
		p.newSet(setSpec{name: memberSet(f), keyType: concat(nftTypeMark, f.nftType), keyLen: 4 + f.size})
	}
	p.difference()
}

// difference writes what is not as before.
func (p *program) difference() {
	b := p.before
	for name := range p.after.counters {
		if !b.counters[name] {
			p.newCounter(name)
		}
	}
	for name := range p.after.chains {
		if _, there := b.chains[name]; !there && b.chains != nil {
			p.newChain(name)
		}
	}
	for name, s := range p.constants {
		if _, there := b.constants[name]; !there {
			p.newSet(s.spec)
			p.elements(unix.NFT_MSG_NEWSETELEM, name, s.elements)
		}
	}
	p.memberDifference()
	for _, name := range slices.Sorted(maps.Keys(p.fresh)) {
		was, there := b.chains[name]
		if there && was == p.after.chains[name] {
			continue
		}
		if there {
			p.flushRules(name)
		}
		p.messages = append(p.messages, p.fresh[name].rules.messages...)
	}
	p.removals()
	forgetFast(p.batch)
}

// memberDifference writes who came and went.
func (p *program) memberDifference() {
	lists := map[string][]element{}
	note := func(kind string, m memberID) {
		lists[kind+m.family().suffix] = append(lists[kind+m.family().suffix], m.element())
	}
	for m := range p.after.members {
		if _, there := p.before.members[m]; !there {
			note("new", m)
		}
	}
	for m := range p.before.members {
		if _, stays := p.after.members[m]; !stays {
			note("gone", m)
		}
	}
	for i := range families {
		f := &families[i]
		p.elements(unix.NFT_MSG_DELSETELEM, memberSet(f), lists["gone"+f.suffix])
		p.elements(unix.NFT_MSG_NEWSETELEM, memberSet(f), lists["new"+f.suffix])
	}
}

// removals takes away what is not needed any more. What names something goes before it.
func (p *program) removals() {
	b := p.before
	var gone []string
	for name := range b.chains {
		if _, stays := p.after.chains[name]; !stays {
			gone = append(gone, name)
			p.flushRules(name)
		}
	}
	for name := range b.constants {
		if _, stays := p.constants[name]; !stays {
			p.delSet(name)
		}
	}
	for _, name := range gone {
		p.delChain(name)
	}
	for name := range b.counters {
		if !p.after.counters[name] {
			p.delCounter(name)
		}
	}
}

// shape is by what the table is known to be as it was written: how often its chains are used, by rules in them and by others that name them.
func (w *written) shape() policyShape {
	s := policyShape{chains: len(w.chains), sets: len(w.constants) + len(families)*(len(dynamicKinds)+1)}
	for _, c := range w.chains {
		s.uses += c.rules + c.uses
	}
	for _, calls := range w.constants {
		s.uses += calls
	}
	return s
}

type policyShape struct{ chains, sets, uses int }

func (t *tableSeen) shape() policyShape {
	s := policyShape{chains: len(t.chains), sets: len(t.sets)}
	for _, c := range t.chains {
		s.uses += c.uses
	}
	return s
}
