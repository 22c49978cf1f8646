package ipam

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// churner does at random what users and misfortune do.
type churner struct {
	*network
	next   ReqID
	idents int
	spare  int // hosts that may still die for good
	names  int
}

func (n *churner) id() ReqID { n.next++; return n.next }

func (n *churner) anyHost() *simHost { return n.hosts[n.rng.IntN(len(n.hosts))] }

func (n *churner) ident(h *simHost) string {
	return fmt.Sprintf("c%d-%d", h.name[5], n.rng.IntN(n.idents))
}

// holder is somebody who has an address.
func (n *churner) holder(h *simHost) string {
	if h.core != nil {
		if all := h.core.held.all(); len(all) > 0 {
			return all[n.rng.IntN(len(all))].Ident
		}
	}
	return n.ident(h)
}

// subnet is the range, or one of its parts.
func (n *churner) subnet() netip.Prefix {
	r := netip.MustParsePrefix(n.cfg.rng)
	s := spanOf(r)
	bits := r.Bits() + n.rng.IntN(MinSubnet-r.Bits()+1)
	if n.rng.IntN(3) > 0 {
		bits = r.Bits()
	}
	at := s.first + uint32(n.rng.Uint64N(s.size()))
	return netip.PrefixFrom(toAddr(at), bits).Masked()
}

func (n *churner) input(h *simHost) Input {
	r := spanOf(netip.MustParsePrefix(n.cfg.rng))
	addr := toAddr(r.first + uint32(n.rng.Uint64N(r.size())))
	id := n.id()
	switch n.rng.IntN(12) {
	case 0, 1, 2, 3, 4:
		return Allocate{ID: id, Ident: n.ident(h), Subnet: n.subnet(), Container: n.rng.IntN(2) == 0}
	case 5, 6:
		return Claim{
			ID: id, Ident: n.ident(h), CIDR: netip.PrefixFrom(addr, 24), Container: true,
			Anonymous: n.rng.IntN(8) == 0, Assume: n.rng.IntN(8) == 0,
		}
	case 7, 8:
		return Free{ID: id, Ident: n.holder(h)}
	case 9:
		return Died{Ident: n.holder(h)}
	case 10:
		return Gone{Ident: n.holder(h)}
	}
	for wait := range h.waits {
		return Cancel{ID: wait}
	}
	return Prime{ID: id}
}

func (n *churner) act() {
	h := n.anyHost()
	switch n.rng.IntN(90) {
	case 0:
		n.crash(h, n.input(h))
	case 1, 2:
		n.restart(h)
	case 3: // a cut
		for _, o := range n.hosts {
			o.group = n.rng.IntN(2)
		}
		n.announce()
	case 4, 5: // mended
		for _, o := range n.hosts {
			o.group = 0
		}
		n.announce()
	case 6:
		n.crash(h, Tick{})
	case 7:
		n.bury(h)
	case 8:
		if n.rng.IntN(4) == 0 {
			n.leave(h)
		}
	default:
		if h.core != nil {
			in := n.input(h)
			n.step(h, in)
		}
	}
}

// bury has a host die for good and two others remove it at once. A careful
// operator does so when all others can be reached.
func (n *churner) bury(h *simHost) {
	if n.spare == 0 || h.dead || n.someLackRing() {
		return
	}
	n.spare--
	h.dead, h.core = true, nil
	n.note("%s dies", h.name)
	for _, o := range n.hosts {
		o.group = 0
		n.restart(o)
	}
	n.announce()
	n.run(time.Minute)
	for range 2 {
		o := n.anyHost()
		if o.core != nil {
			n.step(o, Remove{ID: n.id(), Peers: []string{h.name.String()}})
		}
	}
	n.run(time.Minute)
	h.removed = true
}

// leave hands a host's space over and begins it anew under another name.
func (n *churner) leave(h *simHost) {
	// Before everybody has the ring, a host that comes back as another would
	// have two votes on it.
	if h.core == nil || n.someLackRing() || !slices.ContainsFunc(n.hosts, func(o *simHost) bool { return o != h && !o.dead }) {
		return
	}
	n.step(h, HandOver{ID: n.id()})
	n.run(5 * time.Second)
	if !h.core.left {
		return
	}
	n.note("%s leaves", h.name)
	n.names++
	h.name[4]++
	h.disk = map[string][]byte{}
	n.start(h)
	n.announce()
}

func (n *churner) someLackRing() bool {
	return slices.ContainsFunc(n.hosts, func(o *simHost) bool { return !o.dead && (o.core == nil || o.core.ring == nil) })
}

func (n *churner) churn(steps int) {
	for n.steps < steps {
		n.act()
		n.run(time.Duration(n.rng.IntN(200)) * time.Millisecond)
		n.verify()
		if n.rng.IntN(400) == 0 {
			n.calm()
		}
	}
	n.calm()
}

// simFactor multiplies the number of simulations: IPAM_SIM=20 looks for what
// is rare.
func simFactor() uint64 {
	n, _ := strconv.ParseUint(os.Getenv("IPAM_SIM"), 10, 16)
	return max(1, n)
}

func TestChurn(t *testing.T) {
	for seed := uint64(1); seed <= 24*simFactor(); seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, simConfig{
				seed: seed, hosts: 3 + int(seed%4), rng: "10.32.0.0/23", loss: 0.05 * float64(seed%4), careful: true,
			})
			c := &churner{network: n, idents: 40 + 20*int(seed%3), spare: int(seed % 3)}
			c.churn(5000)
			c.report(t)
		})
	}
}

// report says what the hosts have seen, so that nobody is content with a
// simulation in which nothing happens.
func (n *churner) report(t *testing.T) {
	t.Helper()
	sum := n.total
	entries, tombs := 0, 0
	for _, h := range n.hosts {
		if h.core != nil {
			entries, tombs = len(h.core.ring.entries), len(h.core.ring.tombs)
		}
	}
	t.Logf("%d steps: %+v, %d entries, %d tombstones, %d removals", n.steps, sum, entries, tombs, n.names)
	if sum.BadMessages > 0 {
		t.Errorf("%d messages were taken for malformed", sum.BadMessages)
	}
	if sum.Given == 0 || sum.Claimed < 50 || sum.Allocated < 100 || sum.Freed < 100 {
		t.Error("nothing happened")
	}
}

// Elections under every misfortune: in the end there is one ring, and never
// were there two.
func TestElections(t *testing.T) {
	for seed := uint64(1); seed <= 60*simFactor(); seed++ {
		n := newNetwork(t, simConfig{seed: seed, hosts: 2 + int(seed%5), rng: "10.32.0.0/26", loss: 0.3 * float64(seed%3) / 2, careful: true})
		c := &churner{network: n, idents: 3, names: 1 << 30}
		for range 40 {
			c.act()
			n.run(time.Duration(n.rng.IntN(700)) * time.Millisecond)
			n.verify()
		}
		for _, h := range n.hosts {
			n.restart(h)
			n.step(h, Prime{ID: c.id()})
		}
		n.calm()
		for _, h := range n.hosts {
			if h.core.ring == nil {
				n.fail("%s has no ring", h.name)
			}
		}
	}
}
