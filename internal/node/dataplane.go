package node

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"weave/peer"
	"weave/peer/link"
	"weave/peer/session"
	"weave/stack"
)

// Ports of the switch. The bridge with its containers is one local port behind
// the TAP; remote peers follow.
const (
	tapPort         stack.Port = 1
	firstRemotePort stack.Port = 2
)

// Bytes of headers below a data message's plaintext: IP, UDP, the WireGuard
// header and its tag.
const (
	overheadIPv4 = 20 + 8 + 16 + 16
	overheadIPv6 = 40 + 8 + 16 + 16
)

// path is where a peer's datagrams go. It is immutable; the session loop
// replaces it.
type path struct {
	addr  netip.AddrPort
	v6    bool
	mtu   int // of the underlay, IP level
	limit int // largest plaintext of one data message
}

func newPath(addr netip.AddrPort, mtu int) *path {
	p := &path{addr: addr, v6: addr.Addr().Is6(), mtu: mtu}
	p.limit = mtu - overheadIPv4
	if p.v6 {
		p.limit = mtu - overheadIPv6
	}
	return p
}

// remote is a peer as the data plane sees it. Fields without an atomic are set
// before the remote is published and never again.
type remote struct {
	name peer.Name
	key  session.PublicKey
	port stack.Port

	keys     *session.Keys
	path     atomic.Pointer[path]
	heard    atomic.Uint32 // seconds, see dataplane, when path.addr last sent something authentic
	sent     traffic
	received traffic
}

// keyEntry leads from the receive index of a data message to its key and peer.
type keyEntry struct {
	pair *session.Keypair
	from *remote
}

// table is what the data plane looks up. It is immutable; the session loop
// publishes a new one when a peer or key comes or goes.
type table struct {
	remotes []*remote // by stack.Port; nil where the port is not a peer's
	keys    map[uint32]keyEntry
}

func (t *table) remote(p stack.Port) *remote {
	if int(p) < len(t.remotes) {
		return t.remotes[p]
	}
	return nil
}

// datagram is a handshake message on its way to the session loop.
type datagram struct {
	from  netip.AddrPort
	bytes []byte // owned by the receiver of the message
}

// moved says that a peer's authenticated messages come from another address.
type moved struct {
	port stack.Port
	from netip.AddrPort
}

// beat is the answer to one of our heartbeats.
type beat struct {
	port stack.Port
	seq  uint32
	rtt  time.Duration
}

// tapQueue is a queue of a TAP; *tun.Queue is one.
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
	table    atomic.Pointer[table]
	clock    *session.Clock
	started  time.Time
	seconds  atomic.Uint32 // since started; the switch ages by it
	counters counters

	sockets []socketPair // at least one; more share the port

	handshakes chan datagram
	wants      chan stack.Port // peers that frames wait for
	moves      chan moved
	beats      chan beat
	remeasure  chan netip.AddrPort // destinations whose path MTU shrank
}

func newDataplane(sw *stack.Switch, clock *session.Clock) *dataplane {
	dp := &dataplane{
		sw: sw, flows: maphash.MakeSeed(), clock: clock, started: time.Now(),
		handshakes: make(chan datagram, 1024),
		wants:      make(chan stack.Port, 64),
		moves:      make(chan moved, 64),
		beats:      make(chan beat, 256),
		remeasure:  make(chan netip.AddrPort, 64),
	}
	dp.table.Store(&table{})
	return dp
}

// advance moves the clocks that frames are stamped with.
func (dp *dataplane) advance(now time.Time) {
	dp.clock.Advance(now)
	dp.seconds.Store(uint32(now.Sub(dp.started) / time.Second))
}

func (dp *dataplane) stamp() stack.Stamp { return stack.Stamp(dp.seconds.Load()) }

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
