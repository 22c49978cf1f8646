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
	to     Name
	weight time.Duration // > 0, the same in both directions
}

// graph is the part of the topology that carries data.
type graph map[Name][]edge

// dataGraph keeps the links that the records of both ends call established.
// A link's weight is the mean of both ends' round-trip times plus hopCost, so
// that all peers holding the same records compute the same weights.
func dataGraph(records []Signed) graph {
	type ends struct{ a, b Name }
	half := make(map[ends]time.Duration)
	for _, s := range records {
		for _, l := range s.Record.Links {
			if l.Established && l.Peer != s.Record.Name {
				half[ends{s.Record.Name, l.Peer}] = l.RTT
			}
		}
	}
	g := make(graph, len(records))
	for _, s := range records {
		from := s.Record.Name
		g[from] = nil
		for _, l := range s.Record.Links {
			there, ok1 := half[ends{from, l.Peer}]
			back, ok2 := half[ends{l.Peer, from}]
			if ok1 && ok2 {
				g[from] = append(g[from], edge{l.Peer, (there+back)/2 + hopCost})
			}
		}
		slices.SortFunc(g[from], func(a, b edge) int { return a.to.Compare(b.to) })
		g[from] = slices.CompactFunc(g[from], func(a, b edge) bool { return a.to == b.to })
	}
	return g
}

// tree is a shortest-path tree: each reached peer's parent and distance. The
// source is its own parent.
type tree struct {
	parent map[Name]Name
	dist   map[Name]time.Duration
	order  []Name // peers in the order they were reached, source first
}

type hop struct {
	name   Name
	parent Name
	dist   time.Duration
}

type hops []hop

func (h hops) Len() int      { return len(h) }
func (h hops) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *hops) Push(x any)   { *h = append(*h, x.(hop)) }
func (h *hops) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

func (h hops) Less(i, j int) bool {
	if h[i].dist != h[j].dist {
		return h[i].dist < h[j].dist
	}
	if h[i].name != h[j].name {
		return h[i].name.Compare(h[j].name) < 0
	}
	return h[i].parent.Compare(h[j].parent) < 0
}

// shortest is Dijkstra's algorithm. Of several shortest paths the one with the
// lowest parent name wins, so that every peer computes the same tree.
func (g graph) shortest(source Name) tree {
	t := tree{parent: make(map[Name]Name, len(g)), dist: make(map[Name]time.Duration, len(g))}
	queue := hops{{name: source, parent: source}}
	for len(queue) > 0 {
		h := heap.Pop(&queue).(hop)
		if _, done := t.parent[h.name]; done {
			continue
		}
		t.parent[h.name], t.dist[h.name] = h.parent, h.dist
		t.order = append(t.order, h.name)
		for _, e := range g[h.name] {
			if _, done := t.parent[e.to]; !done {
				heap.Push(&queue, hop{e.to, h.name, h.dist + e.weight})
			}
		}
	}
	return t
}

// firstHops returns, for each peer the tree reaches, the neighbour of the
// source through which it does; the source itself has the zero name.
func (t tree) firstHops() map[Name]Name {
	via := make(map[Name]Name, len(t.order))
	for i, n := range t.order {
		switch {
		case i == 0:
			via[n] = Name{}
		case t.parent[n] == t.order[0]:
			via[n] = n
		default:
			via[n] = via[t.parent[n]]
		}
	}
	return via
}

// children returns the peers whose parent is n, sorted.
func (t tree) children(n Name) []Name {
	var out []Name
	for _, c := range t.order[1:] {
		if t.parent[c] == n {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, Name.Compare)
	return out
}

// routes are what one peer knows of the ways through the data graph.
type routes struct {
	unicast   map[Name]Name   // destination -> neighbour; self -> zero
	broadcast map[Name][]Name // source of a broadcast -> neighbours to pass it to
}

// routesFrom computes the routes of one peer. Sources that cannot reach self
// have no broadcast entry.
func (g graph) routesFrom(self Name) routes {
	own := g.shortest(self)
	r := routes{unicast: own.firstHops(), broadcast: make(map[Name][]Name, len(own.order))}
	r.broadcast[self] = own.children(self)
	for _, source := range own.order[1:] {
		r.broadcast[source] = g.shortest(source).children(self)
	}
	return r
}
