package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"weave/peer"
	"weave/peer/wire"
)

// Play runs a script and returns it with the lines it printed, each after "> ",
// in place of those that were there; equal texts mean that all is as expected.
// The error is for scripts that cannot be understood. See the package comment
// for the language.
func Play(text string) (string, error) {
	s := &script{cfg: Config{Seed: 1}, nodes: make(map[string]*Node)}
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, ">") {
			continue
		}
		out.WriteString(line + "\n")
		code, _, _ := strings.Cut(line, "#")
		words := strings.Fields(code)
		if len(words) == 0 {
			continue
		}
		printed, err := s.command(words[0], words[1:])
		if err != nil {
			return out.String(), fmt.Errorf("line %d: %s: %w", i+1, line, err)
		}
		for _, p := range printed {
			out.WriteString(strings.TrimRight("> "+p, " ") + "\n")
		}
		if s.w != nil && s.w.Err() != nil {
			return out.String(), fmt.Errorf("line %d: %s: %w", i+1, line, s.w.Err())
		}
	}
	return out.String(), nil
}

// script is the state of a script that is played.
type script struct {
	cfg   Config
	w     *Network // made by the first command that needs it
	begun time.Time
	order []*Node
	nodes map[string]*Node
}

// command is one line; args are the words after the verb.
func (s *script) command(verb string, args []string) ([]string, error) {
	switch verb {
	case "seed", "latency", "isolated", "limit":
		return nil, s.configure(verb, args)
	case "nodes":
		return nil, s.addNodes(args)
	case "twin":
		return nil, s.twin(args)
	}
	if s.w == nil {
		return nil, fmt.Errorf("name the nodes first")
	}
	switch verb {
	case "at":
		return nil, s.at(args)
	case "wait":
		return s.wait(args)
	case "show":
		return s.show(args)
	case "partition":
		return nil, s.partition(args)
	case "heal":
		s.w.Heal()
		return nil, nil
	case "grow":
		return nil, s.grow(args)
	}
	return nil, s.act(verb, args)
}

func (s *script) configure(verb string, args []string) (err error) {
	if s.w != nil {
		return fmt.Errorf("too late, nodes are named already")
	}
	if verb == "isolated" {
		s.cfg.Isolated = true
		return nil
	}
	if len(args) != 1 {
		return fmt.Errorf("want one value")
	}
	switch verb {
	case "seed":
		s.cfg.Seed, err = strconv.ParseUint(args[0], 10, 64)
	case "latency":
		s.cfg.Latency, err = time.ParseDuration(args[0])
	case "limit":
		s.cfg.ConnLimit, err = strconv.Atoi(args[0])
	}
	return err
}

func (s *script) addNodes(names []string) error {
	if s.w == nil {
		s.w = New(s.cfg)
		s.begun = s.w.Now()
	}
	for _, name := range names {
		if s.nodes[name] != nil {
			return fmt.Errorf("there is a %s already", name)
		}
		n := s.w.Add()
		n.Nick = name
		s.nodes[name] = n
		s.order = append(s.order, n)
	}
	return nil
}

// twin makes a node with a key of its own and the name of another.
func (s *script) twin(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want: twin NEW OLD")
	}
	of, err := s.node(args[1])
	if err != nil {
		return err
	}
	if err := s.addNodes(args[:1]); err != nil {
		return err
	}
	s.nodes[args[0]].Name = of.Name
	return nil
}

func (s *script) node(name string) (*Node, error) {
	if n := s.nodes[name]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("no node is named %s", name)
}

func (s *script) at(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want: at TIME")
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	left := s.begun.Add(d).Sub(s.w.Now())
	if left < 0 {
		return fmt.Errorf("that is past, it is %s", s.w.Now().Sub(s.begun))
	}
	return s.w.Run(left)
}

// grow starts N more nodes that join through the first.
func (s *script) grow(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want: grow N")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		if err := s.addNodes([]string{name}); err != nil {
			return err
		}
		s.nodes[name].Start(Address(s.order[0].index).String())
		if err := s.w.Run(joinEvery); err != nil {
			return err
		}
	}
	return nil
}

// partition reads groups of names between bars.
func (s *script) partition(args []string) error {
	group := make(map[int]int)
	at := 1
	for _, a := range args {
		if a == "|" {
			at++
			continue
		}
		n, err := s.node(a)
		if err != nil {
			return err
		}
		group[n.index] = at
	}
	s.w.Partition(func(i int) int { return group[i] })
	return nil
}

// act does something to one node, or to the way between two.
func (s *script) act(verb string, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want a node")
	}
	nodes := make([]*Node, 0, len(args))
	for _, a := range args {
		if len(nodes) > 0 && (verb == "flood" || verb == "garbage" || verb == "delay" && len(nodes) == 2) {
			break
		}
		n, err := s.node(a)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	n := nodes[0]
	if !n.Up() && verb != "start" && verb != "delay" && verb != "wall" && verb != "cut" && verb != "mend" {
		return fmt.Errorf("%s does not run", args[0])
	}
	switch verb {
	case "start":
		n.Start(addresses(nodes[1:])...)
	case "kill":
		n.Kill()
	case "leave":
		n.Leave()
	case "connect":
		n.Step(peer.Connect{Targets: addresses(nodes[1:])})
	case "forget":
		n.Step(peer.Forget{Targets: addresses(nodes[1:])})
	case "flood", "garbage":
		return s.misbehave(verb, n, args[1:])
	default:
		return s.between(verb, nodes, args)
	}
	return nil
}

func (s *script) between(verb string, nodes []*Node, args []string) error {
	if len(nodes) != 2 {
		return fmt.Errorf("unknown command, or it wants two nodes")
	}
	switch verb {
	case "cut":
		s.w.Cut(nodes[0], nodes[1])
	case "mend":
		s.w.Mend(nodes[0], nodes[1])
	case "wall":
		s.w.Wall(nodes[0], nodes[1])
	case "delay":
		d, err := time.ParseDuration(args[len(args)-1])
		if err != nil {
			return err
		}
		s.w.Latency(nodes[0], nodes[1], d)
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

// misbehave lets a node send, past its core, N messages to all its neighbours:
// nonsense, or versions of its record as fast as it can sign.
func (s *script) misbehave(verb string, n *Node, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want: %s NODE N", verb)
	}
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	_, version := n.Mesh.Holds(n.Name)
	for i := range count {
		if verb == "garbage" {
			n.Shout(Garbage(s.w.rng, s.order))
			continue
		}
		r := n.identity.SignRecord(peer.Record{
			Name: n.Name, Nickname: n.Nick, Key: n.identity.PublicKey(), UID: n.uid, Version: version + uint64(i) + 1, Port: Port,
		})
		n.Shout(&wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{Records: []*wire.SignedRecord{r.Wire()}}}})
	}
	return nil
}

func addresses(nodes []*Node) []string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, Address(n.index).String())
	}
	return out
}
