package sim

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"weave/peer"
	"weave/peer/wire"
)

// Node is one simulated host: what survives a restart, and the running peer.
type Node struct {
	Name  peer.Name
	Nick  string
	Mesh  *peer.Mesh // nil while down
	View  *peer.View
	Log   []peer.Event
	Heard []peer.Heard // letters that came, of all runs

	w        *Network
	index    int
	identity peer.Identity
	saved    map[string][]byte
	life
	links  map[peer.ConnID]*link
	paths  map[peer.Name]*session
	Tamper func(*wire.Control) *wire.Control // applied to what the node sends
	Sent   Stats                             // of this node
}

// life is the present run of a node.
type life struct {
	run    int // counts starts; events of an earlier run are void
	up     bool
	uid    uint64
	tickAt time.Time
}

// Add makes a node that is not running yet.
func (w *Network) Add() *Node {
	i := len(w.Nodes)
	var seed [32]byte
	gen := rand.New(rand.NewPCG(w.cfg.Seed, uint64(i)+1000))
	for k := range seed {
		seed[k] = byte(gen.Uint32())
	}
	n := &Node{
		w: w, index: i, identity: peer.IdentityFromSeed(seed),
		saved: make(map[string][]byte), links: make(map[peer.ConnID]*link),
	}
	n.Name = peer.NameFromKey(n.identity.PublicKey())
	n.Nick = "host" + Address(i).Addr().String()[5:]
	w.Nodes = append(w.Nodes, n)
	w.named[n.Name] = n
	w.listen[Address(i).String()] = n
	w.groups = append(w.groups, 0)
	return n
}

// Up reports whether the node runs.
func (n *Node) Up() bool { return n.up }

// Identity returns the node's key.
func (n *Node) Identity() peer.Identity { return n.identity }

// Forget loses the node's saved state, as a reinstallation that kept the key.
func (n *Node) Forget() { clear(n.saved) }

// Start runs the node with these targets.
func (n *Node) Start(targets ...string) {
	if n.up {
		n.Kill()
	}
	var s peer.Saved
	for _, k := range slices.Sorted(maps.Keys(n.saved)) {
		if err := s.Restore(k, n.saved[k]); err != nil {
			n.w.fail("restore: %v", err)
		}
	}
	n.run++
	n.up = true
	n.uid = n.w.rng.Uint64()
	n.tickAt = time.Time{}
	n.paths = make(map[peer.Name]*session)
	n.Mesh = peer.NewMesh(peer.Config{
		Identity: n.identity, Name: n.Name, Nickname: n.Nick,
		UID: n.uid, Port: Port, Addresses: []string{Address(n.index).String()},
		NoDiscovery: n.w.cfg.Isolated, ConnLimit: n.w.cfg.ConnLimit,
		Rand: rand.NewPCG(n.w.rng.Uint64(), 7), Opened: n.w.shared.opened,
		Pins: s.Pins, Version: s.Version, KnownAddresses: s.Addresses,
	})
	n.Step(peer.Connect{Targets: targets})
}

// Kill ends the node at once, as kill -9: nothing is said; the other ends see
// their connections reset.
func (n *Node) Kill() {
	n.end()
	for _, l := range n.sortedLinks() {
		delete(n.links, l.idOf(n))
		l.dead = true
		l.down(l.other(n), n.w.delay(n, l.other(n)), "connection reset by peer")
	}
}

// Leave ends the node in an orderly way.
func (n *Node) Leave() {
	n.Step(peer.Leave{Reason: "stopping"})
	n.end()
}

func (n *Node) end() {
	n.up = false
	n.run++
	n.w.Stats.Verified += n.Mesh.Counters().Verified
	n.Mesh, n.View = nil, nil
}

func (n *Node) sortedLinks() []*link {
	return slices.SortedFunc(maps.Values(n.links), func(a, b *link) int { return cmp.Compare(a.idOf(n), b.idOf(n)) })
}

// later runs do after d unless the node was restarted meanwhile.
func (n *Node) later(d time.Duration, do func()) {
	run := n.run
	n.w.after(d, func() {
		if n.run == run && n.up {
			do()
		}
	})
}

// Step gives the node an input and performs the effects.
func (n *Node) Step(in peer.Input) {
	w := n.w
	w.Stats.Steps++
	fx := n.Mesh.Step(w.now, in)
	if !w.cfg.Fast || w.cfg.CheckAll || w.Stats.Steps%checkSeldom == 0 {
		if err := n.Mesh.Check(); err != nil {
			w.fail("node %d after %T: %v", n.index, in, err)
		}
	}
	for _, s := range fx.Save {
		if s.Value == nil {
			delete(n.saved, s.Key)
		} else {
			n.saved[s.Key] = s.Value
		}
	}
	if fx.Publish != nil {
		n.View = fx.Publish
		n.watchNeighbours()
	}
	for _, s := range fx.Send {
		n.send(s)
	}
	for _, d := range fx.Dial {
		n.dial(d.Address)
	}
	for _, c := range fx.Close {
		n.close(c)
	}
	n.Heard = append(n.Heard, fx.Heard...)
	if !w.cfg.Fast {
		n.Log = append(n.Log, fx.Events...)
	}
	n.arm()
}

// arm schedules the next Tick.
func (n *Node) arm() {
	at := n.Mesh.Deadline()
	if at.IsZero() || at.Equal(n.tickAt) {
		return
	}
	if !at.After(n.w.now) {
		n.w.fail("node %d: deadline %s is not in the future", n.index, at)
		return
	}
	n.tickAt = at
	n.later(at.Sub(n.w.now), func() {
		if n.tickAt.Equal(at) {
			n.tickAt = time.Time{}
			n.Step(peer.Tick{})
		}
	})
}

// session is the simulated data path with one neighbour.
type session struct {
	uid uint64
	up  bool
}

const (
	probeFast = 500 * time.Millisecond
	probeSlow = 2 * time.Second
)

// watchNeighbours starts a data session with each neighbour that is new, or
// new under its UID.
func (n *Node) watchNeighbours() {
	want := make(map[peer.Name]bool)
	for _, nb := range n.View.Neighbours {
		want[nb.Name] = true
		if s := n.paths[nb.Name]; s == nil || s.uid != nb.UID {
			s := &session{uid: nb.UID}
			n.paths[nb.Name] = s
			n.later(n.w.cfg.Latency, func() { n.probe(nb.Name, s) })
		}
	}
	maps.DeleteFunc(n.paths, func(name peer.Name, _ *session) bool { return !want[name] })
}

// probe sees whether the data path answers and reports it, again and again.
func (n *Node) probe(name peer.Name, s *session) {
	if n.paths[name] != s {
		return
	}
	o := n.w.find(name)
	if o == nil || !n.w.open(n, o) || o.uid != s.uid || o.paths[n.Name] == nil || o.paths[n.Name].uid != n.uid {
		if s.up {
			s.up = false
			n.Step(peer.PathChanged{Peer: name, Overlay: "sleeve"})
		}
		n.later(probeFast, func() { n.probe(name, s) })
		return
	}
	rtt := 2 * n.w.delay(n, o)
	rtt += time.Duration(n.w.rng.Int64N(int64(rtt)/20 + 1))
	n.later(rtt, func() {
		if n.paths[name] == s {
			s.up = true
			n.Step(peer.PathChanged{Peer: name, Up: true, RTT: rtt, Overlay: "sleeve", MTU: 1400})
			n.later(probeSlow, func() { n.probe(name, s) })
		}
	})
}

func (w *Network) find(name peer.Name) *Node { return w.named[name] }
