package runtime

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Op is what a Step does.
type Op uint8

const (
	// CreateBridge makes Link, a bridge, with MAC and MTU.
	CreateBridge Op = iota + 1
	// DeleteBridge removes Link.
	DeleteBridge
	// CreateVeth makes Link on the host and Peer in Namespace, joined, both down, with MTU; Peer has MAC.
	CreateVeth
	// DeleteVeth removes both.
	DeleteVeth
	// SetMAC, SetMTU: Link's, to Value, was Was.
	SetMAC
	SetMTU
	// JoinBridge makes Link a port of Value, was one of Was; "" none.
	JoinBridge
	// Isolate keeps Link, a port of a bridge, apart from other ports that are isolated. It goes when Link leaves the bridge.
	// It may fail without harm: kernels too old for it (4.18) have no kernel path, and then nothing is isolated from anything.
	Isolate
	// SetHairpin, SetUp: Link's, to Value, was Was; "on" or "off".
	SetHairpin
	SetUp
	// AddAddress, RemoveAddress: Prefix on Link.
	AddAddress
	RemoveAddress
	// AddRoute, RemoveRoute: Prefix through Link, link scope.
	AddRoute
	RemoveRoute
	// FilterMulticast keeps multicast of other subnets from Link: what comes in is as the Filter Value says, was Was. The
	// filter is the namespace's, and knows Link by name: it may be there without it. It may fail without harm.
	FilterMulticast
	// Tune writes Value to the sysctl Key, in which % stands for Link. It may fail without harm and is not undone: a
	// sysctl of an interface goes with it.
	Tune
	// Announce tells the neighbours that Prefix's address is at Link: gratuitous ARP, or an unsolicited neighbour
	// advertisement. It may fail without harm.
	Announce
)

var opNames = [...]string{
	CreateBridge: "create-bridge", DeleteBridge: "delete-bridge", CreateVeth: "create-veth", DeleteVeth: "delete-veth",
	SetMAC: "set-mac", SetMTU: "set-mtu", JoinBridge: "join-bridge", Isolate: "isolate", SetHairpin: "set-hairpin", SetUp: "set-up",
	AddAddress: "add-address", RemoveAddress: "remove-address", AddRoute: "add-route", RemoveRoute: "remove-route",
	FilterMulticast: "filter-multicast", Tune: "tune", Announce: "announce",
}

// String is the name of the operation.
func (o Op) String() string {
	if int(o) < len(opNames) && opNames[o] != "" {
		return opNames[o]
	}
	return "op" + strconv.Itoa(int(o))
}

// Step is one change. Which fields count depends on Op.
type Step struct {
	Op        Op
	Namespace Identity // where Link is (CreateVeth, DeleteVeth: where Peer is); zero is the host's
	Link      string
	Peer      string
	MAC       MAC
	MTU       int
	Prefix    netip.Prefix
	Key       string
	Value     string
	Was       string
}

// Optional reports whether the step may fail without harm.
func (s Step) Optional() bool {
	return s.Op == Tune || s.Op == Announce || s.Op == FilterMulticast || s.Op == Isolate
}

// Undo is the step that takes s back; false if there is nothing to take back.
func (s Step) Undo() (Step, bool) {
	u := s
	switch s.Op {
	case CreateBridge:
		u.Op = DeleteBridge
	case DeleteBridge:
		u.Op = CreateBridge
	case CreateVeth:
		u.Op = DeleteVeth
	case DeleteVeth:
		u.Op = CreateVeth
	case AddAddress:
		u.Op = RemoveAddress
	case RemoveAddress:
		u.Op = AddAddress
	case AddRoute:
		u.Op = RemoveRoute
	case RemoveRoute:
		u.Op = AddRoute
	case SetMAC, SetMTU, JoinBridge, SetHairpin, SetUp, FilterMulticast:
		u.Value, u.Was = s.Was, s.Value
	default:
		return Step{}, false
	}
	return u, true
}

// Undo lists what takes the steps back, in order.
func Undo(done []Step) []Step {
	var undo []Step
	for i := len(done) - 1; i >= 0; i-- {
		if u, ok := done[i].Undo(); ok {
			undo = append(undo, u)
		}
	}
	return undo
}

// String is the step on one line, for logs, errors and golden files.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %s", s.Op, s.Link)
	word := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", name, value)
		}
	}
	if s.Peer != "" {
		word("peer", s.Peer)
	}
	if !s.Namespace.IsZero() {
		word("in", s.Namespace.String())
	}
	if !s.MAC.IsZero() {
		word("mac", s.MAC.String())
	}
	if s.MTU != 0 {
		word("mtu", strconv.Itoa(s.MTU))
	}
	if s.Prefix.IsValid() {
		word("prefix", s.Prefix.String())
	}
	word("key", s.Key)
	switch s.Op {
	case SetMAC, SetMTU, JoinBridge, SetHairpin, SetUp, FilterMulticast:
		fmt.Fprintf(&b, " %q -> %q", s.Was, s.Value)
	default:
		word("value", s.Value)
	}
	return b.String()
}
