package peer

import (
	"net/netip"
	"time"
)

// View is the published picture of the mesh. It is immutable.
type View struct {
	Self        PeerView
	Peers       []*PeerView // reachable peers and ourselves, sorted by name
	Connections []ConnView  // live ones sorted by address, then addresses being tried
	Targets     []string    // as the operator typed them, in the order given
	Neighbours  []Neighbour
	Sparse      bool // the network is too large for everybody to be connected with everybody

	Counters Counters

	ways *ways
}

// PeerView is one peer as its record describes it.
type PeerView struct {
	Name         Name
	Nickname     string
	Key          PublicKey
	X25519       [32]byte
	UID          uint64
	Version      uint64
	Port         uint16
	Addresses    []string
	Capabilities Capability
	Secrets      []SecretID
	MTU          uint16 // the largest packet that its containers take, bytes; 0 = not told
	TunnelKey    TunnelKey
	Connections  Links

	number uint64 // the name's, which orders as the names do
}

// ConnState is the state of a connection as users see it.
type ConnState string

// The states of a connection.
//
//	connecting ──ConnUp, Hello──► pending ◄──PathChanged──► established
//	  │    ▲                         │                          │
//	  ▼    │ (shown as retrying)     ▼                          ▼
//	 failed ◄─────────────────── (connection lost) ◄────────────┘
const (
	StateConnecting  ConnState = "connecting"  // first attempt under way
	StateRetrying    ConnState = "retrying"    // a later attempt under way
	StateFailed      ConnState = "failed"      // waiting for the next attempt, or for none
	StatePending     ConnState = "pending"     // joined, data path not confirmed
	StateEstablished ConnState = "established" // joined, data path confirmed
)

// ConnView is one line of "status connections".
type ConnView struct {
	Conn     ConnID // 0 unless live
	Peer     Name   // zero unless live
	Nickname string
	Address  string // "host:port"
	Outbound bool
	State    ConnState
	Info     string // the text after the state, without the attributes
	Attrs    ConnAttrs
	RTT      time.Duration
	Since    time.Time // of the state's connection; zero unless live
	Trouble  string    // what the other end does wrong; "" = nothing
	Retry    time.Time // next attempt of a failed one; zero = never
}

// ConnAttrs are the attributes users see on a live connection; Name == "" for
// others.
type ConnAttrs struct {
	Name      string // overlay, see PathChanged
	MTU       int
	Encrypted bool
}

// Neighbour is a peer with a live control connection: a data session with it
// is wanted.
type Neighbour struct {
	*PeerView                    // as its newest record describes it
	Candidates  []netip.AddrPort // UDP addresses to try, likeliest first
	Clear       bool             // data with it may go in clear: both ends' operators trust the other's subnet
	Outbound    bool
	Established bool
	Conn        ConnID
	Remote      netip.AddrPort // of the control connection
}
