package sim

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"weave/peer"
)

// Running returns the nodes that run.
func (w *Network) Running() []*Node {
	return slices.DeleteFunc(slices.Clone(w.Nodes), func(n *Node) bool { return !n.up })
}

// FullMesh reports whether each of the nodes has an established connection
// with every other, and knows no more peers than these.
func FullMesh(nodes []*Node) error {
	for _, n := range nodes {
		if n.View == nil || len(n.View.Peers) != len(nodes) {
			return fmt.Errorf("node %d knows %d peers of %d", n.index, n.known(), len(nodes))
		}
		live := 0
		for _, c := range n.View.Connections {
			if c.State == peer.StateEstablished {
				live++
			}
		}
		if live != len(nodes)-1 {
			return fmt.Errorf("node %d has %d established connections of %d", n.index, live, len(nodes)-1)
		}
	}
	return nil
}

func (n *Node) known() int {
	if n.View == nil {
		return 0
	}
	return len(n.View.Peers)
}

// Agree reports whether the nodes see the same peers in the same versions,
// can reach one another, and route without loops.
func Agree(nodes []*Node) error {
	if len(nodes) == 0 {
		return nil
	}
	first := reached(nodes[0])
	for _, n := range nodes {
		mine := reached(n)
		if len(mine) != len(nodes) {
			return fmt.Errorf("node %d reaches %d peers of %d", n.index, len(mine), len(nodes))
		}
		for name, raw := range mine {
			if !bytes.Equal(raw, first[name]) {
				return fmt.Errorf("nodes %d and %d hold different records of %s", nodes[0].index, n.index, name)
			}
		}
	}
	return LoopFree(nodes)
}

// reached returns the signed bytes of the peers in a node's view.
func reached(n *Node) map[peer.Name][]byte {
	out := make(map[peer.Name][]byte)
	if n.View == nil {
		return out
	}
	in := make(map[peer.Name]bool, len(n.View.Peers))
	for _, p := range n.View.Peers {
		in[p.Name] = true
	}
	for _, s := range n.Mesh.Snapshot() {
		if in[s.Record.Name] {
			raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(s.Wire())
			out[s.Record.Name] = raw
		}
	}
	return out
}

// LoopFree follows the unicast routes between all pairs, and the broadcast
// routes from each node, and reports the first that does not arrive at
// everybody exactly once.
func LoopFree(nodes []*Node) error {
	byName := make(map[peer.Name]*Node, len(nodes))
	for _, n := range nodes {
		byName[n.Name] = n
	}
	for _, from := range nodes {
		for _, to := range nodes {
			if err := follow(byName, from, to); err != nil {
				return err
			}
		}
		got := make(map[peer.Name]int)
		spread(byName, from, from.Name, got, len(nodes))
		for _, n := range nodes {
			if got[n.Name] != 1 {
				return fmt.Errorf("a broadcast of node %d arrives %d times at node %d", from.index, got[n.Name], n.index)
			}
		}
	}
	return nil
}

func follow(byName map[peer.Name]*Node, from, to *Node) error {
	at := from
	for range len(byName) {
		if at == to {
			return nil
		}
		r, ok := at.View.Routes()[to.Name]
		via := r.Via
		if !ok || byName[via] == nil {
			return fmt.Errorf("node %d has no route to node %d", at.index, to.index)
		}
		at = byName[via]
	}
	return fmt.Errorf("the route from node %d to node %d loops", from.index, to.index)
}

func spread(byName map[peer.Name]*Node, at *Node, source peer.Name, got map[peer.Name]int, limit int) {
	if at == nil {
		return
	}
	got[at.Name]++
	if got[at.Name] > limit {
		return
	}
	to, _ := at.View.Broadcast(source)
	for _, next := range to {
		spread(byName, byName[next], source, got, limit)
	}
}
