package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"weave/peer"
)

// wait lets time pass until a condition holds; it prints a line if that does
// not happen in time.
func (s *script) wait(args []string) ([]string, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("want: wait LIMIT CONDITION")
	}
	limit, err := time.ParseDuration(args[0])
	if err != nil {
		return nil, err
	}
	holds, err := s.condition(args[1], args[2:])
	if err != nil {
		return nil, err
	}
	if _, err := s.w.runUntil(10*time.Millisecond, limit, holds); err != nil {
		return []string{fmt.Sprintf("not within %s: %v", limit, err)}, nil
	}
	return nil, nil
}

// condition makes a check of its words; it returns nil when it holds.
func (s *script) condition(what string, args []string) (func() error, error) {
	want := map[string]int{"converged": 0, "settled": 0, "peers": 2, "connections": 2, "route": 3, "state": 3}
	n, ok := want[what]
	if !ok || len(args) != n {
		return nil, fmt.Errorf("unknown condition, or not %d words after it", n)
	}
	if what == "converged" {
		return func() error { return Agree(s.w.Running()) }, nil
	}
	if what == "settled" {
		return func() error { return Settled(s.w.Running()) }, nil
	}
	node, err := s.node(args[0])
	if err != nil {
		return nil, err
	}
	shown := func() string {
		switch what {
		case "peers":
			return strconv.Itoa(node.known())
		case "connections":
			return strconv.Itoa(len(node.View.Neighbours))
		case "route":
			return s.via(node, args[1])
		default:
			return s.state(node, args[1])
		}
	}
	return func() error {
		if !node.Up() {
			return fmt.Errorf("%s does not run", args[0])
		}
		if got := shown(); got != args[n-1] {
			return fmt.Errorf("%s", got)
		}
		return nil
	}, nil
}

// via names the next hop from a node to another, "none" without a route.
func (s *script) via(n *Node, to string) string {
	dest, err := s.node(to)
	if err != nil {
		return err.Error()
	}
	if r, ok := n.View.Routes()[dest.Name]; ok {
		return s.nick(r.Via)
	}
	return "none"
}

func (s *script) state(n *Node, to string) string {
	dest, err := s.node(to)
	if err != nil {
		return err.Error()
	}
	for _, c := range n.View.Connections {
		if c.Peer == dest.Name || (c.Peer.IsZero() && c.Address == Address(dest.index).String()) {
			return string(c.State)
		}
	}
	return "none"
}

func (s *script) nick(name peer.Name) string {
	for _, n := range s.order {
		if n.Name == name {
			return n.Nick
		}
	}
	return "?"
}

// show prints what a node sees.
func (s *script) show(args []string) ([]string, error) {
	if len(args) == 1 && args[0] == "shape" {
		sh := ShapeOf(s.w.Running())
		return []string{fmt.Sprintf("connections mean %.1f max %d, diameter %d", sh.MeanDegree, sh.MaxDegree, sh.Diameter)}, nil
	}
	if len(args) != 2 {
		return nil, fmt.Errorf("want: show WHAT NODE")
	}
	n, err := s.node(args[1])
	if err != nil {
		return nil, err
	}
	if !n.Up() || n.View == nil {
		return []string{"does not run"}, nil
	}
	switch args[0] {
	case "peers":
		return []string{strings.Join(s.peers(n), " ")}, nil
	case "routes":
		return s.routes(n), nil
	case "connections":
		return s.connections(n), nil
	case "trouble":
		return s.trouble(n), nil
	}
	return nil, fmt.Errorf("shows peers, routes, connections, trouble and shape")
}

func (s *script) peers(n *Node) []string {
	var out []string
	for _, p := range n.View.Peers {
		out = append(out, p.Nickname)
	}
	slices.Sort(out)
	return out
}

func (s *script) routes(n *Node) []string {
	var out []string
	for dest, r := range n.View.Routes() {
		if dest != n.Name {
			out = append(out, fmt.Sprintf("%s via %s, %d hops, %s", s.nick(dest), s.nick(r.Via), r.Hops, r.RTT.Round(time.Millisecond)))
		}
	}
	slices.Sort(out)
	return out
}

func (s *script) connections(n *Node) []string {
	var out []string
	for _, c := range n.View.Connections {
		to := s.nick(c.Peer)
		if c.Peer.IsZero() {
			to = c.Address
			for _, o := range s.order {
				if Address(o.index).String() == c.Address {
					to = o.Nick
				}
			}
		}
		line := to + " " + string(c.State)
		if c.State == peer.StateFailed {
			why, _, _ := strings.Cut(c.Info, ", retry: 2") // a time
			line += ": " + why
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// trouble lists what the node says of others, and the kinds of what it refused.
func (s *script) trouble(n *Node) []string {
	var out []string
	for _, c := range n.View.Connections {
		if c.Trouble != "" {
			out = append(out, s.nick(c.Peer)+" "+c.Trouble)
		}
	}
	slices.Sort(out)
	c := n.Mesh.Counters()
	var refused []string
	for _, k := range []struct {
		n    uint64
		what string
	}{
		{c.BadMessages, "messages"},
		{c.BadRecords, "records"},
		{c.BadSignatures, "signatures"},
		{c.KeyConflicts, "keys"},
		{c.TooMany, "too many"},
		{c.Throttled, "too much"},
		{c.Refused, "connections"},
	} {
		if k.n > 0 {
			refused = append(refused, k.what)
		}
	}
	if len(refused) > 0 {
		out = append(out, "refused: "+strings.Join(refused, ", "))
	}
	return out
}
