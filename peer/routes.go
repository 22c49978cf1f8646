package peer

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hopCost is added to each link's round-trip time: a relay must save at least
// this much over a direct link to be worth its work, and links that were not
// measured yet are compared by hops.
const hopCost = time.Millisecond

// streamCost is added for a link inside TCP: relays that have UDP are better.
const streamCost = 20 * time.Millisecond

// edge is a link that both ends confirm as established.
type edge struct {
	to     int           // index in graph.names
	weight time.Duration // > 0, the same in both directions
}

// graph is the part of the topology that carries data. Peers are numbered in
// the order of their names, so that comparing numbers compares names.
type graph struct {
	names []Name
	index map[Name]int
	edges [][]edge // by peer, sorted
}

// half is a link as one end tells of it.
type half struct {
	to  int
	rtt time.Duration
}

// dataGraph keeps the links that the records of both ends call established.
// A link's weight is the mean of both ends' round-trip times plus hopCost, so
// that all peers holding the same records compute the same weights. The peers
// must be sorted by name.
func dataGraph(peers []*PeerView) *graph {
	g := &graph{
		names: make([]Name, len(peers), Ample(len(peers))), index: make(map[Name]int, len(peers)),
		edges: make([][]edge, len(peers), Ample(len(peers))),
	}
	links := 0
	for i, p := range peers {
		g.names[i] = p.Name
		g.index[p.Name] = i
		links += p.Connections.Len()
	}
	told := make([][]half, len(peers), Ample(len(peers)))
	all := make([]half, 0, Ample(links))
	for i, p := range peers {
		all = g.halves(all, i, p)
		told[i], all = all, all[len(all):]
	}
	room := make([]edge, 0, Ample(links))
	for i := range told {
		for _, h := range told[i] {
			if back, ok := find(told[h.to], i); ok {
				room = append(room, edge{h.to, (h.rtt+back)/2 + hopCost})
			}
		}
		g.edges[i], room = room, room[len(room):]
	}
	return g
}

// halves appends to the empty slice out the established links of peer i, sorted
// and each end once.
func (g *graph) halves(out []half, i int, p *PeerView) []half {
	for l := range p.Connections.All() {
		if to, ok := g.index[l.Peer]; ok && l.Established && to != i {
			rtt := l.RTT
			if l.Stream {
				rtt += streamCost
			}
			out = append(out, half{to, rtt})
		}
	}
	byEnd := func(a, b half) int { return cmp.Compare(a.to, b.to) }
	if !slices.IsSortedFunc(out, byEnd) {
		slices.SortStableFunc(out, byEnd)
	}
	return slices.CompactFunc(out, func(a, b half) bool { return a.to == b.to })
}

func find(told []half, to int) (time.Duration, bool) {
	i, ok := slices.BinarySearchFunc(told, to, func(h half, to int) int { return cmp.Compare(h.to, to) })
	if !ok {
		return 0, false
	}
	return told[i].rtt, true
}

// tree is a shortest-path tree: each reached peer's parent and distance. The
// source is its own parent; peers not reached have parent -1.
type tree struct {
	parent []int
	dist   []time.Duration
	order  []int // peers in the order they were reached, source first
}

type hop struct {
	at   int
	dist time.Duration
}

// hops is a binary heap by distance.
type hops []hop

func (h *hops) push(x hop) {
	*h = append(*h, x)
	q := *h
	for i := len(q) - 1; i > 0 && q[i].dist < q[(i-1)/2].dist; i = (i - 1) / 2 {
		q[i], q[(i-1)/2] = q[(i-1)/2], q[i]
	}
}

func (h *hops) pop() hop {
	q := *h
	top, last := q[0], len(q)-1
	q[0] = q[last]
	q = q[:last]
	for i := 0; ; {
		least := 2*i + 1
		if least >= last {
			break
		}
		if least+1 < last && q[least+1].dist < q[least].dist {
			least++
		}
		if q[i].dist <= q[least].dist {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	*h = q
	return top
}

// shortest is Dijkstra's algorithm. Of several shortest paths the one with the
// lowest parent name wins, so that every peer computes the same tree: weights
// are positive, hence all possible parents of a peer are settled before it.
func (g *graph) shortest(source int) tree {
	n := len(g.names)
	t := tree{parent: make([]int, n, Ample(n)), dist: make([]time.Duration, n, Ample(n)), order: make([]int, 0, Ample(n))}
	for i := range t.parent {
		t.parent[i] = -1
	}
	t.parent[source] = source
	done := make([]bool, n, Ample(n))
	queue := append(make(hops, 0, Ample(n)), hop{at: source})
	for len(queue) > 0 {
		h := queue.pop()
		if done[h.at] {
			continue
		}
		done[h.at] = true
		t.order = append(t.order, h.at)
		for _, e := range g.edges[h.at] {
			d := h.dist + e.weight
			switch {
			case done[e.to] || (t.parent[e.to] >= 0 && d > t.dist[e.to]):
			case t.parent[e.to] >= 0 && d == t.dist[e.to]:
				t.parent[e.to] = min(t.parent[e.to], h.at)
			default:
				t.parent[e.to], t.dist[e.to] = h.at, d
				queue.push(hop{e.to, d})
			}
		}
	}
	return t
}

// children returns the peers whose parent is at, sorted.
func (g *graph) children(t tree, at int) []Name {
	var out []Name
	for i, p := range t.parent {
		if p == at && i != at {
			out = append(out, g.names[i])
		}
	}
	return out
}

// depths returns how many links the tree has from its source to each peer.
func (t *tree) depths() []int {
	out := make([]int, len(t.parent), Ample(len(t.parent)))
	for _, i := range t.order[1:] {
		out[i] = out[t.parent[i]] + 1
	}
	return out
}

// Route says how data reaches a peer that we have no direct path to.
type Route struct {
	Via  Name          // the neighbour to pass it to; zero for ourselves
	Hops int           // links on the way; 1 for a neighbour
	RTT  time.Duration // sum of the links' round-trip times
}

// A route that is a little longer than the best one is kept: changing costs
// reordered packets, and round-trip times waver.
const (
	routeSlack    = time.Millisecond
	routeSlackPer = 10 // or a tenth
)

// routesFrom computes the routes of one peer. With old, a route stays with its
// neighbour while that is strictly nearer to the destination and the way hardly
// longer than the best. As every hop comes strictly nearer, peers with equal
// records never form a loop, whatever their old routes were.
func (g *graph) routesFrom(self Name, old map[Name]Route) map[Name]Route {
	at, ok := g.index[self]
	if !ok {
		return map[Name]Route{self: {}}
	}
	own := g.shortest(at)
	depths := own.depths()
	first := make([]int, len(g.names), Ample(len(g.names)))
	out := make(map[Name]Route, len(own.order))
	kept := keeper{g: g, self: at, own: own, trees: make(map[Name]keptTree)}
	out[self] = Route{}
	for _, i := range own.order[1:] {
		first[i] = first[own.parent[i]]
		if own.parent[i] == at {
			first[i] = i
		}
		r := Route{Via: g.names[first[i]], Hops: depths[i], RTT: own.dist[i] - time.Duration(depths[i])*hopCost}
		if was, ok := old[g.names[i]]; ok && was.Via != r.Via {
			if same, ok := kept.via(was.Via, i); ok {
				r = same
			}
		}
		out[g.names[i]] = r
	}
	return out
}

// keeper answers whether an old next hop is still good enough.
type keeper struct {
	g     *graph
	self  int
	own   tree
	trees map[Name]keptTree // of old next hops, computed when asked for
}

type keptTree struct {
	tree
	depths []int
	weight time.Duration // of the link to it; 0 = there is none
}

func (k *keeper) via(name Name, dest int) (Route, bool) {
	t, ok := k.trees[name]
	if !ok {
		t = k.look(name)
		k.trees[name] = t
	}
	if t.weight == 0 || t.parent[dest] < 0 {
		return Route{}, false
	}
	best, now := k.own.dist[dest], t.weight+t.dist[dest]
	if t.dist[dest] >= best || now-best > max(routeSlack, now/routeSlackPer) {
		return Route{}, false
	}
	n := t.depths[dest] + 1
	return Route{Via: name, Hops: n, RTT: now - time.Duration(n)*hopCost}, true
}

func (k *keeper) look(name Name) keptTree {
	at, ok := k.g.index[name]
	if !ok {
		return keptTree{}
	}
	for _, e := range k.g.edges[k.self] {
		if e.to == at {
			t := keptTree{tree: k.g.shortest(at), weight: e.weight}
			t.depths = t.tree.depths()
			return t
		}
	}
	return keptTree{}
}

// broadcast returns to whom self passes on what source sends to everybody; ok
// is false if that cannot reach self.
func (g *graph) broadcast(self, source Name) (to []Name, ok bool) {
	at, here := g.index[self]
	from, known := g.index[source]
	if !here || !known {
		return nil, self == source
	}
	t := g.shortest(from)
	if t.parent[at] < 0 {
		return nil, false
	}
	return g.children(t, at), true
}

// ways are the routes of one View, computed when first asked for.
type ways struct {
	self  Name
	peers []*PeerView
	old   map[Name]Route // of an earlier View

	once   sync.Once
	graph  *graph
	routes atomic.Pointer[map[Name]Route]
}

// waysAfter makes the ways that follow old, which may be nil.
func waysAfter(old *ways, self Name, peers []*PeerView) *ways {
	w := &ways{self: self, peers: peers}
	if old == nil {
		return w
	}
	w.old = old.old
	if r := old.routes.Load(); r != nil {
		w.old = *r
	}
	return w
}

func (w *ways) compute() {
	w.once.Do(func() {
		w.graph = dataGraph(w.peers)
		r := w.graph.routesFrom(w.self, w.old)
		w.routes.Store(&r)
	})
}

// Routes maps each peer that data can reach, ourselves included, to the way
// there. The first call computes them, in some 2 ms for 1,000 peers; all calls
// return the same map, which must not be changed.
func (v *View) Routes() map[Name]Route {
	v.ways.compute()
	return *v.ways.routes.Load()
}

// Again returns the same View with its routes not computed yet, for measuring.
func (v *View) Again() *View {
	out := *v
	out.ways = waysAfter(v.ways, v.ways.self, v.ways.peers)
	return &out
}

// Broadcast returns the neighbours, sorted, that get from us what source sends
// to everybody, along the tree of shortest paths from it; ok is false if that
// cannot reach us. It is computed anew by each call.
func (v *View) Broadcast(source Name) (to []Name, ok bool) {
	v.ways.compute()
	return v.ways.graph.broadcast(v.ways.self, source)
}
