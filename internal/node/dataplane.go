package node

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"weave/peer"
	"weave/peer/link"
	"weave/peer/session"
	"weave/peer/wire"
	"weave/runtime/netlink"
	"weave/stack"
	"weave/stack/filter"
)

// remote is a peer as the data plane sees it. Fields without an atomic are set
// before the remote is published and never again.
type remote struct {
	name peer.Name
	key  session.PublicKey
	port stack.Port

	keys *session.Keys
	path atomic.Pointer[path]   // the best way to it
	link atomic.Pointer[path]   // the best that needs no relay; of neighbours
	hop  atomic.Pointer[remote] // the neighbour on the route to it, by whose link it is reached through relays

	origin   atomic.Pointer[netip.AddrPort] // where its messages come from lately
	heard    atomic.Uint64                  // milliseconds, see dataplane, of the last message from origin
	told     atomic.Uint64                  // when another origin was reported last
	sent     traffic
	received traffic
	passed   traffic // messages passed on to it for others

	exit  atomic.Uint32 // an exit
	takes atomic.Uint32 // the largest packet that its containers take, bytes; 0: not known
}

// exit is how frames to one station behind a peer leave, that come to us.
type exit uint8

const (
	exitSession exit = iota // sealed, by the peer's path
	exitTunnel              // by the kernel's VXLAN: this, and the netlink.Tunnel
)

// exitKinds is how many there are.
const exitKinds = exitTunnel + exit(netlink.TunnelWireGuard) + 1

// keyEntry leads from the receive index of a data message to its key and peer.
type keyEntry struct {
	pair *session.Keypair
	from *remote
}

// table is what the data plane looks up. It is immutable; the session loop
// publishes a new one when a peer or key comes or goes.
type table struct {
	remotes remotes
	names   map[peer.Name]*remote
	keys    map[uint32]keyEntry
	sparse  bool      // frames for everybody are flooded
	linked  []*remote // the peers that we have a connection with: floods go to them
}

func (t *table) remote(p stack.Port) *remote { return t.remotes.of(p) }

// datagram is a handshake message on its way to the session loop.
type datagram struct {
	from  netip.AddrPort
	bytes []byte // owned by the receiver of the message
}

// moved says that a peer's authenticated messages come from another origin.
type moved struct {
	port stack.Port
	from netip.AddrPort
}

// staged is a frame for a peer that we have no session with yet.
type staged struct {
	port   stack.Port
	packet []byte // owned by the receiver of the message
}

// streamed is a message that came inside a control connection.
type streamed struct {
	from  netip.AddrPort // a streamOrigin
	bytes []byte         // owned by the receiver of the message
}

// beat is the answer to one of our heartbeats.
type beat struct {
	port stack.Port
	seq  uint32
	rtt  time.Duration
}

// tapQueue is a queue of a local port; *tun.Queue is one.
type tapQueue interface {
	pollable
	TryRead(buf []byte) (int, error)
	WriteV(parts [][]byte) error
}

// socketPair are a lane's UDP sockets: IPv4, IPv6; nil where the host lacks the
// family.
type socketPair [2]*link.Socket

// of returns the socket of a family, nil where there is none.
func (p *socketPair) of(v6 bool) *link.Socket {
	if v6 {
		return p[1]
	}
	return p[0]
}

// dataplane is what uplinks, downlinks and the session loop share. Everything
// in it is immutable, atomic or a channel; no lock is taken per frame.
type dataplane struct {
	sw       *stack.Switch
	flows    maphash.Seed // of the hash that spreads flows over the TAP's queues
	ownStack bool         // a TCP/IP stack of this process sends frames for a host without root, see userHost
	table    atomic.Pointer[table]
	clock    *session.Clock
	started  time.Time
	millis   atomic.Uint64 // since started, as of the session loop's last step
	counters counters

	self peer.Name
	exits
	floodSeq atomic.Uint32
	floods   *floodTable

	sockets []socketPair // at least one; more share the port

	policy atomic.Pointer[filter.Filter] // nil: none, or the kernel's bridge has it
	long   *longFrames                   // nil: nobody takes them; set before the lanes start
	localSet

	eventQueues
}

// localSet is the ports on this host, and who follows them.
type localSet struct {
	locals   atomic.Pointer[localPorts]
	localsMu sync.Mutex // held to change locals and waiters, never to read locals
	waiters  []*waiter
}

// exits are what frames leave by beside the sockets. It is set before the lanes start.
type exits struct {
	stream func(conn uint64, msg []byte) // sends inside a control connection; copies, never blocks
	tunnel tunnel                        // the kernel path; nil: there is none
}

// tunnel takes packets into the kernel's VXLAN; *netlink.Fast is one.
type tunnel interface {
	Put(by netlink.Tunnel, packet []byte) error
}

// stray is a station that the bridge knows behind the TAP, or not at all, although its peer is on the kernel path.
type stray struct {
	port stack.Port
	mac  stack.MAC
}

// reported is what a peer said of the kernel path.
type reported struct {
	port  stack.Port
	plain []byte // owned by the receiver of the message
}

// eventQueues lead from the lanes to the session loop.
type eventQueues struct {
	handshakes chan datagram
	wants      chan stack.Port // peers that frames wait for
	moves      chan moved
	beats      chan beat
	remeasure  chan netip.AddrPort // destinations whose path MTU shrank
	stagings   chan staged
	streams    chan streamed
	gone       chan stack.Port // ports on this host that went away by themselves

	fastBeats   chan wire.FastBeat
	fastReports chan reported
	strays      chan stray
}

func newDataplane(sw *stack.Switch, clock *session.Clock) *dataplane {
	dp := &dataplane{
		sw: sw, flows: maphash.MakeSeed(), clock: clock, started: time.Now(),
		exits:  exits{stream: func(uint64, []byte) {}},
		floods: newFloodTable(),
		eventQueues: eventQueues{
			handshakes: make(chan datagram, 1024),
			wants:      make(chan stack.Port, 64),
			moves:      make(chan moved, 64),
			beats:      make(chan beat, 256),
			remeasure:  make(chan netip.AddrPort, 64),
			stagings:   make(chan staged, 64),
			streams:    make(chan streamed, 256),
			gone:       make(chan stack.Port, 64),

			fastBeats:   make(chan wire.FastBeat, 256),
			fastReports: make(chan reported, 256),
			strays:      make(chan stray, 64),
		},
	}
	dp.locals.Store(&localPorts{})
	dp.floodSeq.Store(rand.Uint32())
	dp.table.Store(&table{})
	return dp
}

// advance moves the clocks that frames are stamped with.
func (dp *dataplane) advance(now time.Time) {
	dp.clock.Advance(now)
	dp.millis.Store(uint64(now.Sub(dp.started) / time.Millisecond))
}

// stamp is the time for the switch, in seconds.
func (dp *dataplane) stamp() stack.Stamp { return stack.Stamp(dp.millis.Load() / 1000) }

// permits holds a frame against the policy; its headers are enough, size is that
// of all of it.
func (dp *dataplane) permits(frame []byte, size int) bool {
	f := dp.policy.Load()
	if f == nil || f.Judge(filter.Stamp(dp.stamp()), frame, size) {
		return true
	}
	dp.counters.add(dropPolicy, 1)
	return false
}

// closeSockets closes what is open. Nothing may use the data plane any more.
func (dp *dataplane) closeSockets() {
	for _, pair := range dp.sockets {
		for _, s := range pair {
			if s != nil {
				_ = s.Close()
			}
		}
	}
}

// offer hands an event to the session loop unless it is behind; every event
// is repeated by later traffic, so that a lost one costs only time.
func offer[T any](ch chan<- T, v T) {
	select {
	case ch <- v:
	default:
	}
}
