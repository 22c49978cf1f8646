package node

import (
	"sync"

	"weave/peer/wire"
	"weave/stack"
)

// floodLimit is the longest plaintext of a flood, bytes: what fits every path
// that peer.PathMTU can find, relays excepted, as floods go by links only.
const floodLimit = 576 - overheadIPv6

// In a sparse network a frame for everybody is sent once to each neighbour, and
// whoever gets it for the first time passes it on to all of its own but the one
// it came from. So it reaches every peer once whatever happens to the graph
// meanwhile, for some nine copies a peer. Every peer gets it, so that it is no
// secret from those that pass it on; each hop's session seals it all the same.
// What is too long for that, and what is for some peers only, goes to each of
// them by itself.

// floodWindow remembers which floods of one peer were seen. The lock is held for
// a few instructions, once per flood.
type floodWindow struct {
	mu    sync.Mutex
	begun bool
	last  uint32
	bits  uint64
}

// take reports whether a flood is new, and notes it.
func (w *floodWindow) take(seq uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	ahead := int32(seq - w.last)
	switch {
	case !w.begun:
		w.begun, w.last, w.bits = true, seq, 1
	case ahead > 0:
		w.bits = w.bits<<min(uint32(ahead), 64) | 1
		w.last = seq
	case ahead <= -64 || w.bits>>uint32(-ahead)&1 == 1:
		return false
	default:
		w.bits |= 1 << uint32(-ahead)
	}
	return true
}

// restart forgets all, for a peer that counts anew.
func (w *floodWindow) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = false
}

// flood sends a packet to everybody; false means that it cannot go that way.
func (u *uplink) flood(t *table, packet []byte) bool {
	if wire.IsSuper(packet) || wire.FloodLen+wire.RecordLen(packet) > floodLimit {
		return false
	}
	plain, ok := wire.AppendFrame(u.plain[:wire.FloodLen], packet, floodLimit)
	if !ok {
		return false
	}
	head := wire.Flood{Hops: floodHops, Source: u.dp.self, Seq: u.dp.floodSeq.Add(1)}
	head.Put(plain)
	for _, to := range t.linked {
		to.sent.add(len(packet) - wire.VnetLen)
		u.out.overLink(to, plain)
	}
	return true
}

// flooded takes a flood from a neighbour, once: for our containers, and for the
// other neighbours.
func (d *downlink) flooded(by *remote, plain []byte) {
	head, records, ok := wire.ParseFlood(plain)
	if !ok {
		d.dp.counters.add(dropShort, 1)
		return
	}
	source := d.table.names[head.Source]
	if source == nil || !source.floods.take(head.Seq) {
		d.dp.counters.add(dropFlood, 1)
		return
	}
	if head.Hops > 1 {
		head.Hops = min(head.Hops, floodHops) - 1
		head.Put(plain)
		for _, to := range d.table.linked {
			if to != by && to != source {
				to.passed.add(len(records))
				d.out.overLink(to, plain)
			}
		}
	}
	if _, fault := d.joiner.Add(uint32(source.port), records); fault != wire.FaultNone {
		d.dp.counters.fault(fault)
	}
}

// everybody reports whether a set of ports leaves no peer out.
func (t *table) everybody(ports *stack.PortSet) bool { return len(ports.Remote()) == len(t.names) }
