package sim

import (
	"fmt"
	"time"

	"weave/peer"
)

// joinEvery is how long peers that join from one seed come apart: as fast as
// one peer accepts connections (peer/control, Limits.Interval).
const joinEvery = 50 * time.Millisecond

// Grow adds n nodes that know the address of node 0 only, one after another.
func (w *Network) Grow(n int) error {
	for range n {
		node := w.Add()
		if node.index == 0 {
			node.Start()
			continue
		}
		node.Start(Address(0).String())
		if err := w.Run(joinEvery); err != nil {
			return err
		}
	}
	return nil
}

// Settled reports whether the nodes hold the same records of exactly these
// nodes, and the first reaches all of them over established links.
func Settled(nodes []*Node) error {
	if len(nodes) == 0 {
		return nil
	}
	_, want, _ := nodes[0].Mesh.Sum()
	for _, n := range nodes {
		count, sum, _ := n.Mesh.Sum()
		if count != len(nodes) || n.known() != len(nodes) {
			return fmt.Errorf("node %d knows %d peers of %d", n.index, n.known(), len(nodes))
		}
		if sum != want {
			return fmt.Errorf("nodes %d and %d hold different records", nodes[0].index, n.index)
		}
	}
	if reached := len(nodes[0].View.Routes()); reached != len(nodes) {
		return fmt.Errorf("node %d has routes to %d peers of %d", nodes[0].index, reached, len(nodes))
	}
	return nil
}

// Flap breaks one connection of node n, of which both ends learn at once, and
// returns how long it takes until all others have heard so from both.
func (w *Network) Flap(n *Node, limit time.Duration) (time.Duration, error) {
	links := n.sortedLinks()
	if len(links) == 0 {
		return 0, fmt.Errorf("node %d has no connection", n.index)
	}
	l := links[w.rng.IntN(len(links))]
	ends := []*Node{l.dialler, l.acceptor}
	var before [2]uint64
	for i, e := range ends {
		_, before[i] = e.Mesh.Holds(e.Name)
	}
	l.dead = true
	for _, e := range ends {
		l.down(e, 0, "connection reset by peer")
	}
	return w.runUntil(10*time.Millisecond, limit, func() error {
		for _, o := range w.Running() {
			for i, e := range ends {
				if _, v := o.Mesh.Holds(e.Name); v <= before[i] {
					return fmt.Errorf("node %d has not heard from node %d", o.index, e.index)
				}
			}
		}
		return nil
	})
}

// Shape describes the control graph of the nodes.
type Shape struct {
	MeanDegree float64
	MaxDegree  int
	Diameter   int // -1: not connected
}

// ShapeOf measures the graph of joined connections.
func ShapeOf(nodes []*Node) Shape {
	index := make(map[peer.Name]int, len(nodes))
	for i, n := range nodes {
		index[n.Name] = i
	}
	var s Shape
	edges := make([][]int, len(nodes))
	for i, n := range nodes {
		for _, nb := range n.View.Neighbours {
			if k, ok := index[nb.Name]; ok {
				edges[i] = append(edges[i], k)
			}
		}
		s.MaxDegree = max(s.MaxDegree, len(edges[i]))
		s.MeanDegree += float64(len(edges[i])) / float64(len(nodes))
	}
	for i := range nodes {
		far := eccentricity(edges, i)
		if far < 0 {
			s.Diameter = -1
			return s
		}
		s.Diameter = max(s.Diameter, far)
	}
	return s
}

// eccentricity is the distance to the farthest node, -1 if one is not reached.
func eccentricity(edges [][]int, from int) int {
	dist := make([]int, len(edges))
	dist[from] = 1
	queue := []int{from}
	for at := 0; at < len(queue); at++ {
		for _, to := range edges[queue[at]] {
			if dist[to] == 0 {
				dist[to] = dist[queue[at]] + 1
				queue = append(queue, to)
			}
		}
	}
	if len(queue) < len(edges) {
		return -1
	}
	return dist[queue[len(queue)-1]] - 1
}
