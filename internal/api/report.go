package api

import "time"

// Report is what `weave report` shows. Field names and nesting are those that scripts written for Weave Net use in
// JSON and in templates (`{{.Router.NickName}}`), so they are part of the interface.
type Report struct {
	// Ready is false until every listener of the daemon is up; /status answers 503 so long.
	Ready        bool
	Version      string
	VersionCheck VersionCheck
	Router       Router
	IPAM         *IPAM           `json:",omitempty"` // nil: addresses are not allocated
	DNS          *DNS            `json:",omitempty"` // nil: names are not served
	Proxy        *Proxy          `json:",omitempty"` // nil: the Docker API is not proxied
	Runtime      *Runtime        `json:",omitempty"` // nil: no container engine is there
	Services     []ServiceTarget `json:",omitempty"`
	Policy       *PolicyStatus   `json:",omitempty"` // nil: there is none
	Spoofed      uint64          `json:",omitempty"` // frames of containers that called themselves something else
}

// VersionCheck is kept for scripts; the service behind it is gone, so Enabled is always false.
type VersionCheck struct {
	Enabled     bool
	Success     bool
	NewVersion  string
	NextCheckAt time.Time
}

// Mesh is the part of Router that describes peers and the connections between them. Its fields appear directly
// under "Router", in JSON and in templates alike.
type Mesh struct {
	Protocol           string // "weave"
	ProtocolMinVersion int
	ProtocolMaxVersion int
	Encryption         bool // a password is set
	PeerDiscovery      bool
	Name               string
	NickName           string
	Port               int
	Peers              []Peer // the own peer included
	UnicastRoutes      []UnicastRoute
	BroadcastRoutes    []BroadcastRoute
	Connections        []Connection // the own peer's, in any state
	Paths              []Path       `json:",omitempty"` // to peers that frames are exchanged with and no connection leads to
	TerminationCount   int          // connections ended since the start
	Targets            []string     // as the user typed them
}

// Router describes the switch and the mesh that carries it.
type Router struct {
	Mesh
	OverlayDiagnostics map[string]any // per overlay: "fastdp", "sleeve"
	TrustedSubnets     []string
	Interface          string
	CaptureStats       map[string]int
	MACs               []MAC
}

// Peer is one member of the network and the connections it says it has.
type Peer struct {
	Name        string
	NickName    string
	UID         uint64
	ShortID     uint16
	Version     uint64
	Connections []PeerConnection
}

// PeerConnection is a directed connection of a Peer to the peer Name.
type PeerConnection struct {
	Name        string
	NickName    string
	Address     string
	Outbound    bool
	Established bool
}

// UnicastRoute says through which neighbour Dest is reached; Via is 00:00:00:00:00:00 for the own peer.
type UnicastRoute struct {
	Dest string
	Via  string
}

// BroadcastRoute lists the neighbours that broadcasts coming from Source are passed on to.
type BroadcastRoute struct {
	Source string
	Via    []string
}

// The states of a Connection, in the order in which status counts them.
const (
	StateEstablished = "established"
	StatePending     = "pending"
	StateRetrying    = "retrying"
	StateFailed      = "failed"
	StateConnecting  = "connecting"
)

// Connection is a connection, or an attempt at one, of the own peer.
type Connection struct {
	Address  string // host:port
	Outbound bool
	State    string // one of the State constants
	// Info explains the state: ConnectionInfo for pending and established ones, the error and the time of the next
	// try for others.
	Info  string
	Attrs map[string]any // "name" (the overlay), "mtu", "encrypted"; nil when there is no data path
	Path  *Path          `json:",omitempty"` // of frames to the peer at the other end; nil unless the connection lives
}

// Path says how frames reach a peer.
type Path struct {
	Name     string // of the peer
	NickName string
	Kind     string  // "direct", "relayed", "tcp", or "none"
	Address  string  // of a direct path, host:port
	Via      string  // of a relayed path: the neighbour, name(nickname)
	RTT      float64 // milliseconds; 0: not measured
	Loss     float64 // percent of heartbeats
	MTU      int     // of packets that need not be cut, bytes
	Shield   string  `json:",omitempty"` // what encrypts it in the kernel: "ipsec" or "wireguard"; "": nothing does
	Reason   string  // why there is no better one
}

// MAC is an entry of the switch's table.
type MAC struct {
	Mac      string
	Name     string // the peer it is behind
	NickName string
	LastSeen time.Time
}
