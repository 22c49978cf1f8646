package node

import (
	"encoding/binary"
	"net/netip"

	"weave/peer"
	"weave/peer/session"
	"weave/peer/wire"
)

// Bytes of headers below a data message's plaintext: IP, UDP, the WireGuard
// header and its tag.
const (
	overheadIPv4 = 20 + 8 + wire.DataOverhead
	overheadIPv6 = 40 + 8 + wire.DataOverhead
	// overheadRelay is what a relay takes of its link's plaintexts: its own head,
	// and the inner message's header and tag.
	overheadRelay = wire.RelayLen + wire.DataOverhead
)

const (
	// defaultUnderlayMTU is assumed where the kernel does not say, bytes.
	defaultUnderlayMTU = 1500
	// streamMTU is a size like others for messages inside TCP, which would take
	// any: larger ones would only wait longer behind each other.
	streamMTU = 1500
)

// path is where a peer's messages go. It is immutable; the session loop
// replaces it.
type path struct {
	way   peer.Way
	via   *remote // of a relayed one: the neighbour that passes it on
	conn  uint64  // of a stream: the control connection
	v6    bool
	mtu   int // as peer.PathMTU counts; for relays and streams as if the datagram were IPv4
	limit int // largest plaintext of one data message
}

func newPath(addr netip.AddrPort, mtu int) *path {
	p := &path{way: peer.Way{Kind: peer.WayDirect, Addr: addr}, v6: addr.Addr().Is6(), mtu: mtu}
	p.limit = mtu - p.overhead()
	return p
}

func newRelayPath(via *remote, mtu int) *path {
	return &path{way: peer.Way{Kind: peer.WayRelay}, via: via, mtu: mtu, limit: mtu - overheadIPv4}
}

func newStreamPath(conn uint64, mtu int) *path {
	return &path{way: peer.Way{Kind: peer.WayStream}, conn: conn, mtu: mtu, limit: mtu - overheadIPv4}
}

// overhead is what a plaintext is shorter than the path's mtu.
func (p *path) overhead() int {
	if p.v6 {
		return overheadIPv6
	}
	return overheadIPv4
}

// course is all that it takes to seal a plaintext for a peer and send it.
type course struct {
	pair  *session.Keypair
	row   session.Row // of pair's messages that follow each other; none unless begun
	path  *path
	outer *session.Keypair // of our session with the relay; nil: there is none
	hop   *path            // where the datagram goes: path itself, or the relay's link
	dst   peer.Name        // whom the relay passes it to
}

// head and tail are the bytes before and behind a plaintext of the course.
func (c *course) head() int {
	if c.outer == nil {
		return wire.DataHeaderLen
	}
	return wire.DataHeaderLen + wire.RelayLen + wire.DataHeaderLen
}

func (c *course) tail() int {
	if c.outer == nil {
		return wire.TagLen
	}
	return 2 * wire.TagLen
}

// seal appends the message of a plaintext for the peer.
func (c *course) seal(dst, plaintext []byte) ([]byte, error) {
	if c.row.Begun() {
		return c.row.Seal(dst, plaintext), nil
	}
	return c.pair.Seal(dst, plaintext)
}

// Messages that came through a relay or inside a control connection have no
// address. So that one value says for all where a message came from and where
// its answer goes, and the session machine can take it for an address, theirs
// are of the discard-only prefix 100::/64 (RFC 6666), from which no datagram
// can come: port portRelay with the name of the peer behind the relay, or
// portStream with the connection's number.
const (
	originPrefix = 0x0100_0000_0000_0000
	portRelay    = 1
	portStream   = 2
)

func relayOrigin(n peer.Name) netip.AddrPort {
	var low [8]byte
	copy(low[2:], n[:])
	return origin(binary.BigEndian.Uint64(low[:]), portRelay)
}

func streamOrigin(conn uint64) netip.AddrPort { return origin(conn, portStream) }

func origin(low uint64, port uint16) netip.AddrPort {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], originPrefix)
	binary.BigEndian.PutUint64(a[8:], low)
	return netip.AddrPortFrom(netip.AddrFrom16(a), port)
}

// madeUp reports whether an address is of the prefix that stands for relays and
// streams.
func madeUp(a netip.AddrPort) bool {
	if !a.Addr().Is6() {
		return false
	}
	b := a.Addr().As16()
	return binary.BigEndian.Uint64(b[:]) == originPrefix
}

// wayOf says which way a message came.
func wayOf(from netip.AddrPort) peer.Way {
	switch {
	case !madeUp(from):
		return peer.Way{Kind: peer.WayDirect, Addr: from}
	case from.Port() == portRelay:
		return peer.Way{Kind: peer.WayRelay}
	}
	return peer.Way{Kind: peer.WayStream}
}

// nameBehind is the peer of a relayOrigin, connOf the connection of a
// streamOrigin.
func nameBehind(from netip.AddrPort) (n peer.Name) {
	b := from.Addr().As16()
	copy(n[:], b[10:])
	return n
}

func connOf(from netip.AddrPort) uint64 {
	b := from.Addr().As16()
	return binary.BigEndian.Uint64(b[8:])
}
