package peer

import (
	"container/heap"
	"slices"
	"time"
)

// hopCost is added to each link's round-trip time: a relay must save at least
// this much over a direct link to be worth its work, and links that were not
// measured yet are compared by hops.
const hopCost = time.Millisecond

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

// dataGraph keeps the links that the records of both ends call established.
// A link's weight is the mean of both ends' round-trip times plus hopCost, so
// that all peers holding the same records compute the same weights. The records
// must be sorted by name.
func dataGraph(records []Signed) *graph {
	g := &graph{
		names: make([]Name, len(records)), index: make(map[Name]int, len(records)), edges: make([][]edge, len(records)),
	}
	for i, s := range records {
		g.names[i] = s.Record.Name
		g.index[s.Record.Name] = i
	}
	half := make(map[[2]int]time.Duration)
	for i, s := range records {
		for _, l := range s.Record.Links {
			if to, ok := g.index[l.Peer]; ok && l.Established && to != i {
				half[[2]int{i, to}] = l.RTT
			}
		}
	}
	for ends, there := range half {
		if back, ok := half[[2]int{ends[1], ends[0]}]; ok {
			g.edges[ends[0]] = append(g.edges[ends[0]], edge{ends[1], (there+back)/2 + hopCost})
		}
	}
	for _, list := range g.edges {
		slices.SortFunc(list, func(a, b edge) int { return a.to - b.to })
	}
	return g
}

// equal reports whether two graphs give the same routes.
func (g *graph) equal(o *graph) bool {
	return slices.Equal(g.names, o.names) && slices.EqualFunc(g.edges, o.edges, slices.Equal[[]edge])
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

type hops []hop

func (h hops) Len() int           { return len(h) }
func (h hops) Less(i, j int) bool { return h[i].dist < h[j].dist }
func (h hops) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *hops) Push(x any)        { *h = append(*h, x.(hop)) }
func (h *hops) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// shortest is Dijkstra's algorithm. Of several shortest paths the one with the
// lowest parent name wins, so that every peer computes the same tree: weights
// are positive, hence all possible parents of a peer are settled before it.
func (g *graph) shortest(source int) tree {
	t := tree{parent: make([]int, len(g.names)), dist: make([]time.Duration, len(g.names))}
	for i := range t.parent {
		t.parent[i] = -1
	}
	t.parent[source] = source
	done := make([]bool, len(g.names))
	queue := hops{{at: source}}
	for len(queue) > 0 {
		h := heap.Pop(&queue).(hop)
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
				heap.Push(&queue, hop{e.to, d})
			}
		}
	}
	return t
}

// firstHops returns, for each peer the tree reaches, the neighbour of the
// source through which it does; the source itself has the zero name.
func (g *graph) firstHops(t tree) map[Name]Name {
	source := t.order[0]
	via := make(map[Name]Name, len(t.order))
	via[g.names[source]] = Name{}
	for _, i := range t.order[1:] {
		if t.parent[i] == source {
			via[g.names[i]] = g.names[i]
			continue
		}
		via[g.names[i]] = via[g.names[t.parent[i]]]
	}
	return via
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

// routes are what one peer knows of the ways through the data graph.
type routes struct {
	unicast   map[Name]Name   // destination -> neighbour; self -> zero
	broadcast map[Name][]Name // source of a broadcast -> neighbours to pass it to
}

// routesFrom computes the routes of one peer. Sources that cannot reach self
// have no broadcast entry.
func (g *graph) routesFrom(self Name) routes {
	at, ok := g.index[self]
	if !ok {
		return routes{unicast: map[Name]Name{self: {}}, broadcast: map[Name][]Name{self: nil}}
	}
	own := g.shortest(at)
	r := routes{unicast: g.firstHops(own), broadcast: make(map[Name][]Name, len(own.order))}
	r.broadcast[self] = g.children(own, at)
	for _, source := range own.order[1:] {
		r.broadcast[g.names[source]] = g.children(g.shortest(source), at)
	}
	return r
}
