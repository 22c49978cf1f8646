package ipam

import (
	"fmt"
	"slices"
	"strings"
)

// repair settles what we disagree about.
func (c *Core) repair(id ReqID) {
	var did []string
	if c.ring != nil {
		did = c.repairRings()
		for a, r := range c.work.strays {
			r.reason = ""
			delete(c.work.hunts, r.target())
			did = append(did, fmt.Sprintf("asking the owner of %s, in use by %s, for it again", a, r.hold.Ident))
		}
		slices.Sort(did)
		c.work.woken = true
	}
	for n, f := range c.world.faults {
		if strings.HasPrefix(f, incompatible) {
			did = append(did, c.label(n)+" has another range: launch it again with --ipalloc-range "+c.cfg.Range.String())
		}
	}
	slices.Sort(did)
	c.gossip.soon(c.now)
	c.reply(Reply{ID: id, Text: strings.Join(slices.Compact(did), "\n")})
}

func (c *Core) repairRings() []string {
	var did []string
	for n, g := range c.world.rivals {
		if c.ring.genesis.outranks(g) {
			c.supersede(g)
			did = append(did, fmt.Sprintf("the ring seeded by %s gives way to ours, seeded by %s", c.seedList(g), c.seedList(c.ring.genesis)))
			continue
		}
		c.send(n, &WireMessage{Delta: c.wireDelta(Delta{Genesis: c.ring.genesis}), GiveWay: c.ring.genesis.ID()})
		did = append(did, fmt.Sprintf("our ring, seeded by %s, gives way to the one seeded by %s", c.seedList(c.ring.genesis), c.seedList(g)))
	}
	return did
}

// supersede has another ring give way to ours.
func (c *Core) supersede(g Genesis) {
	c.mergeRing(c.cfg.Name, Delta{Genesis: c.ring.genesis, Settled: []uint64{g.ID()}})
	c.sendAll()
}

func (c *Core) seedList(g Genesis) string {
	out := make([]string, len(g.Seeds))
	for i, s := range g.Seeds {
		out[i] = c.label(s)
	}
	return "[" + strings.Join(out, " ") + "]"
}
