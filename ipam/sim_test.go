package ipam

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"weave/peer"
)

// network simulates hosts with a Core each: messages are lost, late and out of
// order, hosts fall apart into groups, crash at any save and come back.
type network struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	cfg   simConfig
	hosts []*simHost
	queue letters
	seq   uint64
	steps int
	total Counters
	log   []string
}

type simConfig struct {
	seed    uint64
	hosts   int
	rng     string // the range
	loss    float64
	init    func(i int) Init
	reclaim time.Duration
	careful bool // nobody removes peers that live: no address may ever be owned twice
}

type simHost struct {
	name    peer.Name
	core    *Core // nil: crashed
	disk    map[string][]byte
	group   int
	dead    bool // for good
	removed bool
	replies map[ReqID]Reply
	waits   map[ReqID]Input
	told    string // what it knows to be reachable
}

type letter struct {
	at   time.Time
	seq  uint64
	from *simHost
	to   *simHost
	data []byte
}

type letters []letter

func (l letters) Len() int { return len(l) }
func (l letters) Less(i, j int) bool {
	return l[i].at.Before(l[j].at) || l[i].at.Equal(l[j].at) && l[i].seq < l[j].seq
}
func (l letters) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l *letters) Push(x any)   { *l = append(*l, x.(letter)) }
func (l *letters) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}

func simName(i int) peer.Name { return peer.Name{2, 0, 0, 0, byte(i >> 8), byte(i + 1)} }

func newNetwork(t *testing.T, cfg simConfig) *network {
	n := &network{t: t, rng: rand.New(rand.NewPCG(cfg.seed, 1)), now: time.Unix(1e9, 0), cfg: cfg}
	for i := range cfg.hosts {
		h := &simHost{name: simName(i), disk: map[string][]byte{}, replies: map[ReqID]Reply{}, waits: map[ReqID]Input{}}
		n.hosts = append(n.hosts, h)
		n.start(h)
	}
	n.announce()
	return n
}

func (n *network) start(h *simHost) {
	cfg := Config{
		Name: h.name, Nickname: fmt.Sprintf("host%d", h.name[5]), Range: netip.MustParsePrefix(n.cfg.rng),
		Rand: rand.NewPCG(n.rng.Uint64(), 2), ReclaimAfter: n.cfg.reclaim,
	}
	if n.cfg.init != nil {
		cfg.Init = n.cfg.init(int(h.name[5]) - 1)
	}
	for _, k := range slices.Sorted(maps.Keys(h.disk)) {
		if err := cfg.Saved.Restore(k, h.disk[k]); err != nil {
			n.t.Fatalf("seed %d: %v", n.cfg.seed, err)
		}
	}
	h.core, h.told = New(cfg), "?"
	h.waits = map[ReqID]Input{}
}

// announce tells every host whom it can reach.
func (n *network) announce() {
	for _, h := range n.hosts {
		if h.core == nil {
			continue
		}
		near := map[peer.Name]string{}
		var text []string
		for _, o := range n.hosts {
			if o != h && o.core != nil && o.group == h.group {
				near[o.name] = fmt.Sprintf("host%d", o.name[5])
				text = append(text, o.name.String())
			}
		}
		if told := strings.Join(text, " "); told != h.told {
			h.told = told
			n.step(h, Reachable{Peers: near, Electors: n.cfg.hosts})
		}
	}
}

// step feeds a core, performs its effects and verifies it.
func (n *network) step(h *simHost, in Input) {
	if h.core == nil {
		return
	}
	n.steps++
	if _, quiet := in.(Tick); !quiet {
		n.note("%s <- %s", h.name, describe(in))
	}
	before := h.core.Counters()
	fx := h.core.Step(n.now, in)
	n.count(before, h.core.Counters())
	if err := h.core.Check(); err != nil {
		n.fail("%s after %s: %v", h.name, describe(in), err)
	}
	if at := h.core.Deadline(); !at.IsZero() && !at.After(n.now) {
		n.fail("%s after %s: deadline %v is not after now", h.name, describe(in), at)
	}
	n.perform(h, fx)
}

func (n *network) count(before, after Counters) {
	n.total.BadMessages += after.BadMessages - before.BadMessages
	n.total.Allocated += after.Allocated - before.Allocated
	n.total.Claimed += after.Claimed - before.Claimed
	n.total.Freed += after.Freed - before.Freed
	n.total.Asked += after.Asked - before.Asked
	n.total.Given += after.Given - before.Given
}

func (n *network) perform(h *simHost, fx Effects) {
	for _, s := range fx.Save {
		if s.Value == nil {
			delete(h.disk, s.Key)
		} else {
			h.disk[s.Key] = s.Value
		}
	}
	for _, s := range fx.Send {
		for _, o := range n.hosts {
			if o == h || !s.To.IsZero() && o.name != s.To {
				continue
			}
			n.post(h, o, s.Data)
		}
	}
	for _, r := range fx.Replies {
		if r.ID != 0 {
			h.replies[r.ID] = r
			delete(h.waits, r.ID)
		}
	}
	for _, e := range fx.Events {
		if e.Level > LevelDebug {
			n.note("%s says %s %v", h.name, e.Text, e.Attrs)
		}
	}
}

func (n *network) post(from, to *simHost, data []byte) {
	if to.core == nil || to.group != from.group || n.rng.Float64() < n.cfg.loss {
		return
	}
	delay := time.Duration(1+n.rng.IntN(20)) * time.Millisecond
	if n.rng.IntN(20) == 0 {
		delay *= 20
	}
	n.seq++
	heap.Push(&n.queue, letter{n.now.Add(delay), n.seq, from, to, data})
}

// run lets time pass.
func (n *network) run(d time.Duration) {
	end := n.now.Add(d)
	for {
		next, who := end, (*simHost)(nil)
		for _, h := range n.hosts {
			if h.core == nil {
				continue
			}
			if at := h.core.Deadline(); !at.IsZero() && at.Before(next) {
				next, who = at, h
			}
		}
		if len(n.queue) > 0 && !n.queue[0].at.After(next) {
			l := heap.Pop(&n.queue).(letter)
			n.now = later(n.now, l.at)
			if l.to.core != nil && l.to.group == l.from.group {
				n.step(l.to, Message{From: l.from.name, Data: l.data})
			}
			continue
		}
		n.now = later(n.now, next)
		if who == nil {
			return
		}
		n.step(who, Tick{})
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// crash ends a host in the middle of a step: before it saved, or after it saved
// and before anything else.
func (n *network) crash(h *simHost, in Input) {
	if h.core == nil {
		return
	}
	n.steps++
	fx := h.core.Step(n.now, in)
	saved := n.rng.IntN(2) == 0
	n.note("%s crashes in %s, saved %t", h.name, describe(in), saved)
	if saved {
		n.perform(h, Effects{Save: fx.Save})
	}
	h.core = nil
	n.announce()
}

func (n *network) restart(h *simHost) {
	if h.core != nil || h.dead {
		return
	}
	n.note("%s starts", h.name)
	n.start(h)
	n.announce()
}

func describe(in Input) string {
	switch in := in.(type) {
	case Message:
		m, _, err := parseMessage(in.Data)
		if err != nil {
			return "garbage"
		}
		text := strings.Join(strings.Fields(m.String()), " ")
		return fmt.Sprintf("message of %s: %.300s", in.From, text)
	default:
		return fmt.Sprintf("%T%+v", in, in)
	}
}

func (n *network) note(format string, args ...any) {
	n.log = append(n.log, n.now.Format("05.000 ")+fmt.Sprintf(format, args...))
	if len(n.log) > 400 {
		n.log = n.log[200:]
	}
}

func (n *network) fail(format string, args ...any) {
	n.t.Helper()
	tail := n.log
	if len(tail) > 80 {
		tail = tail[len(tail)-80:]
	}
	n.t.Fatalf("seed %d, step %d: %s\n%s", n.cfg.seed, n.steps, fmt.Sprintf(format, args...), strings.Join(tail, "\n"))
}

// verify holds the promises of a network whose operators are careful: no
// address is owned by two peers, nor held by two.
func (n *network) verify() {
	if !n.cfg.careful {
		return
	}
	owned, held := map[uint32]*simHost{}, map[uint32]*simHost{}
	for _, h := range n.hosts {
		c := h.core
		if c == nil || h.removed || c.left {
			continue
		}
		for _, s := range c.space.own {
			for a := uint64(s.first); a <= uint64(s.last); a++ {
				if o := owned[uint32(a)]; o != nil {
					n.fail("%s is owned by %s and %s", toAddr(uint32(a)), o.name, h.name)
				}
				owned[uint32(a)] = h
			}
		}
		for _, w := range c.held.all() {
			if !c.inRange(w.CIDR.Addr()) || c.work.strays[w.CIDR.Addr()] != nil {
				continue
			}
			a := toUint(w.CIDR.Addr())
			if o := held[a]; o != nil {
				n.fail("%s is held by %s and %s", toAddr(a), o.name, h.name)
			}
			held[a] = h
		}
	}
}

// calm heals everything and verifies that the rings become one, without loss.
func (n *network) calm() {
	loss := n.cfg.loss
	n.cfg.loss = 0
	for _, h := range n.hosts {
		h.group = 0
		n.restart(h)
	}
	n.announce()
	n.run(3 * time.Minute)
	n.cfg.loss = loss
	n.verify()
	n.verifyWhole()
}

func (n *network) verifyWhole() {
	var first *simHost
	var size uint64
	anyRing := false
	for _, h := range n.hosts {
		anyRing = anyRing || h.core != nil && h.core.ring != nil
	}
	if !anyRing {
		return
	}
	for _, h := range n.hosts {
		if h.core == nil {
			continue
		}
		if h.core.ring == nil {
			n.fail("%s has no ring after all is well", h.name)
		}
		if first == nil {
			first = h
		}
		if h.core.ring.Sum() != first.core.ring.Sum() {
			n.fail("the rings of %s and %s differ after all is well:\n%v\n%v", first.name, h.name, first.core.ring.Snapshot(), h.core.ring.Snapshot())
		}
		if !h.core.left {
			size += h.core.space.size
		}
	}
	var away uint64
	for _, s := range first.core.segs {
		if h := n.byName(s.Owner.Name); h == nil || h.core == nil || h.core.left {
			away += s.Size()
		}
	}
	if whole := spanOf(first.core.cfg.Range).size(); size+away != whole {
		n.fail("of %d addresses %d are owned by those here and %d by others", whole, size, away)
	}
}

func (n *network) byName(name peer.Name) *simHost {
	for _, h := range n.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}
