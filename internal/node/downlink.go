package node

import (
	"net/netip"
	"time"

	"weave/peer/link"
	"weave/peer/wire"
	"weave/stack"
)

// receiveSlots is how many runs of datagrams one recvmmsg call takes; each
// slot is a buffer of 64 KiB.
const receiveSlots = 16

// downlink carries datagrams from one UDP socket to the TAP: receive, open in
// place, join, decide, write, all in one lane.
type downlink struct {
	dp      *dataplane
	recv    *link.Receiver
	queues  []tapQueue // a flow keeps to one of them
	out     *output    // answers to heartbeats
	joiner  *wire.Joiner
	reply   []byte // the answer being written
	evicted uint64 // of joiner.Evicted, counted already

	index uint32 // of the key used last; a batch is mostly one peer's
	entry keyEntry
	table *table
}

func newDownlink(dp *dataplane, s *link.Socket, queues []tapQueue, out *output, plain bool) *downlink {
	d := &downlink{dp: dp, recv: s.NewReceiver(receiveSlots), queues: queues, out: out}
	d.joiner = wire.NewJoiner(d, plain)
	return d
}

// turn forwards what the socket has now, up to one call's worth, and returns
// how many bytes that was.
func (d *downlink) turn() (int, error) {
	n, err := d.recv.TryReceive()
	if n == 0 || err != nil {
		return 0, err
	}
	d.setTable(d.dp.table.Load())
	total := 0
	for i := range n {
		from, data, segment := d.recv.Message(i)
		total += len(data)
		for len(data) > 0 {
			size := min(segment, len(data))
			d.datagram(from, data[:size])
			data = data[size:]
		}
	}
	d.joiner.Flush()
	if n := d.joiner.Evicted(); n != d.evicted {
		d.dp.counters.add(dropEvicted, n-d.evicted)
		d.evicted = n
	}
	d.out.flush()
	return total, nil
}

// setTable makes the key cache follow the published table.
func (d *downlink) setTable(t *table) {
	if t != d.table {
		d.table, d.entry = t, keyEntry{}
	}
}

// datagram takes one UDP payload, which stays valid until the batch ends.
func (d *downlink) datagram(from netip.AddrPort, msg []byte) {
	typ, _, ok := wire.MessageType(msg)
	if !ok {
		d.dp.counters.add(dropShort, 1)
		return
	}
	if typ == wire.TypeData {
		d.data(from, msg)
		return
	}
	select {
	case d.dp.handshakes <- datagram{from: from, bytes: append([]byte(nil), msg...)}:
	default:
		d.dp.counters.add(dropHandshakeQueue, 1)
	}
}

func (d *downlink) data(from netip.AddrPort, msg []byte) {
	if len(msg) < wire.DataHeaderLen+wire.TagLen {
		d.dp.counters.add(dropShort, 1)
		return
	}
	index, _ := wire.ReceiverIndex(msg)
	e, ok := d.lookup(index)
	if !ok {
		d.dp.counters.add(dropUnknownIndex, 1)
		return
	}
	plain, err := e.pair.Open(msg)
	if err != nil {
		d.dp.counters.add(dropOpen, 1)
		return
	}
	if p := e.from.path.Load(); p == nil || p.addr != from {
		offer(d.dp.moves, moved{port: e.from.port, from: from})
	} else if now := d.dp.seconds.Load(); e.from.heard.Load() != now {
		e.from.heard.Store(now)
	}
	d.deliver(e.from, plain)
}

func (d *downlink) lookup(index uint32) (keyEntry, bool) {
	if d.entry.pair != nil && d.index == index {
		return d.entry, true
	}
	e, ok := d.table.keys[index]
	if ok {
		d.index, d.entry = index, e
	}
	return e, ok
}

// deliver passes an opened plaintext to the joiner and answers heartbeats.
func (d *downlink) deliver(from *remote, plain []byte) {
	kind, fault := d.joiner.Add(uint32(from.port), plain)
	if fault != wire.FaultNone {
		d.dp.counters.fault(fault)
		return
	}
	if kind != wire.KindHeartbeat {
		return
	}
	hb, ok := wire.ParseHeartbeat(plain)
	if !ok {
		d.dp.counters.add(dropShort, 1)
		return
	}
	if hb.Reply {
		offer(d.dp.beats, beat{port: from.port, seq: hb.Seq, rtt: time.Since(d.dp.started) - time.Duration(hb.Timestamp)})
		return
	}
	hb.Reply = true
	d.reply = wire.AppendHeartbeat(d.reply[:0], hb, 0) // small: a probe asks about its own direction only
	d.out.plain(from, d.reply)
}

// Packet implements wire.Sink: a joined packet goes where the switch says,
// which from a peer is never another peer.
func (d *downlink) Packet(source uint32, parts [][]byte) {
	from := d.table.remote(stack.Port(source))
	if from == nil {
		return
	}
	size := -wire.VnetLen
	for _, p := range parts {
		size += len(p)
	}
	from.received.add(size)
	v := d.dp.sw.Decide(d.dp.stamp(), parts[0][wire.VnetLen:], from.port)
	if v.Action == stack.Drop || (v.Action == stack.Unicast && v.Out != tapPort) {
		return
	}
	if err := d.queue(parts[0][wire.VnetLen:]).WriteV(parts); err != nil {
		d.dp.counters.add(dropTap, 1)
	}
}

// queue chooses where a frame enters the TAP. The kernel reads answers of the
// flow from the same queue (tun_flow_update, drivers/net/tun.c), so this spreads
// both directions over the lanes.
func (d *downlink) queue(frame []byte) tapQueue {
	if len(d.queues) == 1 {
		return d.queues[0]
	}
	return d.queues[stack.FlowHash(d.dp.flows, frame)%uint32(len(d.queues))]
}
