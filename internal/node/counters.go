package node

import (
	"sync/atomic"

	"weave/peer/wire"
)

// drop names why the data plane let a frame or datagram go. The order is that
// of dropNames.
type drop uint8

const (
	dropNoSession      drop = iota // the peer has no usable key yet
	dropNoPath                     // the peer's address is not known
	dropSeal                       // the key is exhausted or expired
	dropUnknownIndex               // a data message for a key we do not hold
	dropOpen                       // authentication failed or replayed
	dropShort                      // a datagram too short for its type
	dropBadFrame                   // a packet from the TAP without its header
	dropHandshakeQueue             // the handshake queue was full
	dropSend                       // the kernel refused a datagram
	dropTooBig                     // larger than the path's MTU; the path is measured again
	dropTap                        // the TAP failed for good
	dropEvicted                    // a packet that arrived in part gave way to others
	dropStaged                     // no session came in time, or too much waited for one
	dropRelayLink                  // to be passed on, over a link that is down or too narrow
	dropRelayUnknown               // to be passed on to a peer that no route leads to, or badly formed
	dropRelayHops                  // passed on too often
	dropFlood                      // a flood that came before, or of a peer we do not know
	dropStream                     // for lack of room in a control connection's queue, or of its reader's
	dropTunnel                     // the kernel's VXLAN refused a packet
	dropSpoofed                    // a container called itself something that it is not
	dropPolicy                     // the policy forbids it
	dropOutdated                   // an acknowledgement of TCP that a later one of its batch includes
	dropCount
)

var dropNames = [dropCount]string{
	"no_session", "no_path", "seal", "unknown_index", "open", "short", "bad_frame",
	"handshake_queue", "send", "too_big", "tap", "evicted",
	"staged", "relay_link", "relay_unknown", "relay_hops", "flood_seen", "stream", "tunnel",
	"spoofed", "policy", "ack_outdated",
}

// counters is written by every goroutine of the data plane and read by
// reports. A slot is padded to a cache line so that two queues do not share one.
type counters struct {
	drops [dropCount]struct {
		n atomic.Uint64
		_ [56]byte
	}
	faults     [wire.FaultCount]atomic.Uint64 // plaintexts and packets that do not parse, by wire.Fault
	handshakes [256]atomic.Uint64             // by session.DropReason
}

func (c *counters) add(d drop, n uint64) { c.drops[d].n.Add(n) }

func (c *counters) fault(f wire.Fault) { c.faults[f].Add(1) }

// traffic is the count of one direction of one peer or port.
type traffic struct {
	frames atomic.Uint64 // Ethernet frames; a super-frame is one
	bytes  atomic.Uint64 // bytes of Ethernet frames
}

func (t *traffic) add(bytes int) {
	t.frames.Add(1)
	t.bytes.Add(uint64(bytes))
}
