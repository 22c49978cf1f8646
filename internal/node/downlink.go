package node

import (
	"errors"
	"net"
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
// place, join, decide, write, all on one goroutine.
type downlink struct {
	dp      *dataplane
	recv    *link.Receiver
	queue   tapQueue
	out     *output // answers to heartbeats
	joiner  *wire.Joiner
	reply   []byte // the answer being written
	evicted uint64 // of joiner.Evicted, counted already

	index uint32 // of the key used last; a batch is mostly one peer's
	entry keyEntry
	table *table
}

func newDownlink(dp *dataplane, s *link.Socket, q tapQueue, plain bool, queue uint8) *downlink {
	d := &downlink{dp: dp, recv: s.NewReceiver(receiveSlots), queue: q, out: newOutput(dp, replyArena, queue)}
	d.joiner = wire.NewJoiner(d, plain)
	return d
}

// run forwards until the socket is closed, which it reports as nil.
func (d *downlink) run() error {
	for {
		n, err := d.recv.Receive()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		d.setTable(d.dp.table.Load())
		for i := range n {
			from, data, segment := d.recv.Message(i)
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
	}
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
	if err := d.queue.WriteV(parts); err != nil {
		d.dp.counters.add(dropTap, 1)
	}
}
