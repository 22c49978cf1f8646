package runtime

import (
	"fmt"
	"net/netip"
	"slices"
)

// Shield is what protects the VXLAN packets between this host and one peer's address: they leave and come in ESP, or not
// at all. From when a Shield is there until it has gone nothing passes in clear, whether there are keys or not.
type Shield struct {
	Local, Peer netip.Addr
	In          []ESPKey // what comes is opened with any of them
	Out         *ESPKey  // what leaves is sealed with this one; nil: nothing leaves
	Spent       []ESPKey // what was sealed with until a moment ago: some of it is on its way through the kernel still
	// Adopt keeps the states that an earlier daemon left, so that traffic goes on over a restart. A new Out takes the place
	// of the one of them that seals: of several the kernel takes the youngest.
	Adopt bool
}

// Valid says what is wrong with a Shield.
func (s Shield) Valid() error {
	for _, a := range []netip.Addr{s.Local, s.Peer} {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("shield %v and %v: %v is not the address of a host on a network", s.Local, s.Peer, a)
		}
	}
	if s.Local.Is4() != s.Peer.Is4() || s.Local == s.Peer {
		return fmt.Errorf("shield %v and %v: not two addresses of one family", s.Local, s.Peer)
	}
	return nil
}

// Direction tells what comes from what leaves.
type Direction uint8

// Inward is what comes, Outward what leaves.
const (
	Inward Direction = iota + 1
	Outward
)

// String is the direction as ip xfrm prints it.
func (d Direction) String() string {
	if d == Inward {
		return "in"
	}
	return "out"
}

// ShieldPolicy demands ESP of the UDP packets for a port from a peer's address or to it, whatever address of this host they
// have. VXLAN's port is the destination of both directions.
type ShieldPolicy struct {
	Peer      netip.Addr
	Port      uint16
	Direction Direction
}

// ShieldState is one direction's keys, without the key.
type ShieldState struct {
	From, To netip.Addr
	SPI      uint32
}

// ShieldsSeen are the policies and states of ours in the kernel.
type ShieldsSeen struct {
	Policies []ShieldPolicy
	States   []ShieldState
}

// ShieldOp is what a ShieldStep does.
type ShieldOp uint8

// The operations, in the order they are done.
const (
	AddPolicy ShieldOp = iota + 1
	AddState
	RemoveState
	RemovePolicy
)

// String names the operation in errors.
func (o ShieldOp) String() string {
	names := [...]string{"", "add policy", "add state", "remove state", "remove policy"}
	if int(o) < len(names) {
		return names[o]
	}
	return "unknown"
}

// ShieldStep changes one policy or one state.
type ShieldStep struct {
	Op     ShieldOp
	Peer   netip.Addr      // whom it is about; invalid where nobody knows, of RemoveState
	Policy ShieldPolicy    // of AddPolicy and RemovePolicy
	State  ShieldState     // of AddState and RemoveState
	Key    [ESPKeyLen]byte // of AddState
}

// String says what the step does, without the key.
func (s ShieldStep) String() string {
	if s.Op == AddPolicy || s.Op == RemovePolicy {
		return fmt.Sprintf("%s %s %s", s.Op, s.Policy.Direction, s.Policy.Peer)
	}
	return fmt.Sprintf("%s %s → %s %#08x", s.Op, s.State.From, s.State.To, s.State.SPI)
}

// PlanShields lists the steps from what is seen to what is wanted for the VXLAN packets of a port, so that at no moment between
//
//   - a packet that must be protected passes in clear: policies come before states and go after them;
//   - a packet is lost to a change of keys: those that open come before those that seal, new ones before old ones go.
//
// A state of ours that nobody wants or adopts, as a daemon leaves that dies, is removed.
func PlanShields(port uint16, want []Shield, seen ShieldsSeen) []ShieldStep {
	w := wantedShields(port, want)
	var steps []ShieldStep
	for _, p := range w.policies {
		if !slices.Contains(seen.Policies, p) {
			steps = append(steps, ShieldStep{Op: AddPolicy, Peer: p.Peer, Policy: p})
		}
	}
	for _, s := range w.inward {
		if !slices.Contains(seen.States, s.state) {
			steps = append(steps, ShieldStep{Op: AddState, Peer: s.state.From, State: s.state, Key: s.key})
		}
	}
	for _, s := range w.outward {
		if !slices.Contains(seen.States, s.state) {
			steps = append(steps, ShieldStep{Op: AddState, Peer: s.state.To, State: s.state, Key: s.key})
		}
	}
	steps = append(steps, w.surplus(seen.States)...)
	for _, p := range seen.Policies {
		if !slices.Contains(w.policies, p) {
			steps = append(steps, ShieldStep{Op: RemovePolicy, Peer: p.Peer, Policy: p})
		}
	}
	return steps
}

// keyedState is a state with its key.
type keyedState struct {
	state ShieldState
	key   [ESPKeyLen]byte
}

// shieldsWanted is what the kernel is to have.
type shieldsWanted struct {
	policies        []ShieldPolicy
	inward, outward []keyedState
	spent           []ShieldState
	peers           map[netip.Addr]bool
	adopts          map[[2]netip.Addr]bool // states between the first and the second
}

func wantedShields(port uint16, want []Shield) shieldsWanted {
	w := shieldsWanted{peers: map[netip.Addr]bool{}, adopts: map[[2]netip.Addr]bool{}}
	for _, s := range want {
		if !w.peers[s.Peer] { // several addresses of ours may have one peer
			w.policies = append(w.policies, ShieldPolicy{s.Peer, port, Outward}, ShieldPolicy{s.Peer, port, Inward})
		}
		w.peers[s.Peer] = true
		w.adopts[[2]netip.Addr{s.Peer, s.Local}] = s.Adopt
		w.adopts[[2]netip.Addr{s.Local, s.Peer}] = s.Adopt
		for _, k := range s.In {
			w.inward = append(w.inward, keyedState{ShieldState{s.Peer, s.Local, k.SPI}, k.Key})
		}
		for _, k := range s.Spent {
			w.spent = append(w.spent, ShieldState{s.Local, s.Peer, k.SPI})
		}
		if s.Out != nil {
			w.outward = append(w.outward, keyedState{ShieldState{s.Local, s.Peer, s.Out.SPI}, s.Out.Key})
		}
	}
	return w
}

// surplus removes the states that nobody wants. What seals goes first.
func (w shieldsWanted) surplus(seen []ShieldState) []ShieldStep {
	var out, in []ShieldStep
	for _, s := range seen {
		switch {
		case w.has(s), w.adopts[[2]netip.Addr{s.From, s.To}]:
		case w.peers[s.To]:
			out = append(out, ShieldStep{Op: RemoveState, Peer: s.To, State: s})
		case w.peers[s.From]:
			in = append(in, ShieldStep{Op: RemoveState, Peer: s.From, State: s})
		default:
			in = append(in, ShieldStep{Op: RemoveState, State: s})
		}
	}
	return append(out, in...)
}

func (w shieldsWanted) has(s ShieldState) bool {
	is := func(k keyedState) bool { return k.state == s }
	return slices.ContainsFunc(w.inward, is) || slices.ContainsFunc(w.outward, is) || slices.Contains(w.spent, s)
}

// ShieldSupport says for each family why this kernel cannot shield; nothing if it can.
type ShieldSupport struct{ IPv4, IPv6 string }

// For is the reason for an address's family.
func (s ShieldSupport) For(a netip.Addr) string {
	if a.Unmap().Is4() {
		return s.IPv4
	}
	return s.IPv6
}
