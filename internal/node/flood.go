package node

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"

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

// floodSlots floods are remembered, at most.
const floodSlots = 4096

// floodTable remembers which floods were seen, by a hash of all that is in them.
// So nobody can make a peer's next flood look old by numbering one of its own
// in the peer's name; and what is forgotten in time to be taken twice takes
// thousands of other floods meanwhile. Safe for concurrent use, without a lock.
type floodTable struct {
	seed  maphash.Seed
	slots [floodSlots]atomic.Uint64
}

func newFloodTable() *floodTable { return &floodTable{seed: maphash.MakeSeed()} }

// take reports whether a flood is new, and notes it.
func (t *floodTable) take(head *wire.Flood, records []byte) bool {
	var h maphash.Hash
	h.SetSeed(t.seed)
	_, _ = h.Write(head.Source[:])
	_, _ = h.Write(binary.BigEndian.AppendUint32(make([]byte, 0, 4), head.Seq))
	_, _ = h.Write(records)
	sum := h.Sum64()
	return t.slots[sum%floodSlots].Swap(sum) != sum
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
	if source == nil || !d.dp.floods.take(&head, records) {
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
