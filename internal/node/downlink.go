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

// downlink carries datagrams from one UDP socket to local ports: receive, open,
// join, decide, write, all in one lane.
type downlink struct {
	dp     *dataplane
	recv   *link.Receiver // nil: messages come another way
	out    *output        // answers to heartbeats
	joiner *wire.Joiner
	reply  []byte // the answer being written

	evicted, outdated uint64 // of the joiner's, counted already

	index uint32 // of the key used last; a batch is mostly one peer's
	entry keyEntry
	table *table

	streamed uint64 // bytes of super-frames that were received
	quiet    quiet  // of the socket
}

func newDownlink(dp *dataplane, s *link.Socket, out *output, plain bool) *downlink {
	d := &downlink{dp: dp, out: out}
	if s != nil {
		d.recv = s.NewReceiver(receiveSlots)
	}
	d.joiner = wire.NewJoiner(d, plain)
	if dp.long != nil {
		d.joiner.Chain(dp.long.takes)
	}
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
		if madeUp(from) {
			d.dp.counters.add(dropShort, 1)
			continue
		}
		for len(data) > 0 {
			size := min(segment, len(data))
			d.message(from, data[:size], false)
			data = data[size:]
		}
	}
	d.finish()
	return total, nil
}

// finish ends a batch.
func (d *downlink) finish() {
	d.joiner.Flush()
	d.count(dropEvicted, d.joiner.Evicted(), &d.evicted)
	d.count(dropOutdated, d.joiner.Outdated(), &d.outdated)
	d.out.flush()
}

// count adds what is new in one of the joiner's counts.
func (d *downlink) count(why drop, n uint64, counted *uint64) {
	if n != *counted {
		d.dp.counters.add(why, n-*counted)
		*counted = n
	}
}

// setTable makes the key cache follow the published table.
func (d *downlink) setTable(t *table) {
	if t != d.table {
		d.table, d.entry = t, keyEntry{}
	}
}

// message takes one message of a session, which stays valid until the batch
// ends. from says whence it came, and inner that a relay's session carried it.
func (d *downlink) message(from netip.AddrPort, msg []byte, inner bool) {
	typ, _, ok := wire.MessageType(msg)
	if !ok {
		d.dp.counters.add(dropShort, 1)
		return
	}
	if typ == wire.TypeData {
		d.data(from, msg, inner)
		return
	}
	select {
	case d.dp.handshakes <- datagram{from: from, bytes: append([]byte(nil), msg...)}:
	default:
		d.dp.counters.add(dropHandshakeQueue, 1)
	}
}

func (d *downlink) data(from netip.AddrPort, msg []byte, inner bool) {
	if len(msg) < wire.DataOverhead {
		d.dp.counters.add(dropShort, 1)
		return
	}
	index, _ := wire.ReceiverIndex(msg)
	e, ok := d.lookup(index)
	if !ok {
		d.dp.counters.add(dropUnknownIndex, 1)
		return
	}
	plain, joined, err := d.joiner.Open(uint32(e.from.port), e.pair, msg)
	if err != nil {
		d.dp.counters.add(dropOpen, 1)
		return
	}
	d.arrived(e.from, from)
	if !joined {
		d.deliver(e.from, from, plain, inner)
	}
}

// arrived notes where an authentic message of a peer came from.
func (d *downlink) arrived(r *remote, from netip.AddrPort) {
	now := d.dp.millis.Load()
	if at := r.origin.Load(); at != nil && *at == from {
		if r.heard.Load() != now {
			r.heard.Store(now)
		}
		return
	}
	if r.told.Load() != now {
		r.told.Store(now)
		offer(d.dp.moves, moved{port: r.port, from: from})
	}
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

// deliver passes an opened plaintext to the joiner, answers heartbeats and passes
// on what is for others.
func (d *downlink) deliver(by *remote, from netip.AddrPort, plain []byte, inner bool) {
	kind, fault := d.joiner.Add(uint32(by.port), plain)
	if fault != wire.FaultNone {
		d.dp.counters.fault(fault)
		return
	}
	switch {
	case kind == wire.KindHeartbeat:
		d.heartbeat(by, from, plain)
	case inner && (kind == wire.KindRelay || kind == wire.KindFlood):
		d.dp.counters.add(dropRelayUnknown, 1) // only a link's own session carries them
	case kind == wire.KindRelay:
		d.relayed(by, plain)
	case kind == wire.KindFlood:
		d.flooded(by, plain)
	case kind == wire.KindFast:
		offer(d.dp.fastReports, reported{port: by.port, plain: append([]byte(nil), plain...)})
	}
}

// heartbeat answers a question the way it came, and reports an answer.
func (d *downlink) heartbeat(by *remote, from netip.AddrPort, plain []byte) {
	hb, ok := wire.ParseHeartbeat(plain)
	if !ok {
		d.dp.counters.add(dropShort, 1)
		return
	}
	if hb.Reply {
		offer(d.dp.beats, beat{port: by.port, seq: hb.Seq, rtt: time.Since(d.dp.started) - time.Duration(hb.Timestamp)})
		return
	}
	hb.Reply = true
	d.reply = wire.AppendHeartbeat(d.reply[:0], hb, 0) // small: a probe asks about its own direction only
	d.out.answer(by, from, d.reply)
}

// relayed takes a message of another session out of a neighbour's: for us, or
// to be passed on.
func (d *downlink) relayed(by *remote, plain []byte) {
	head, msg, ok := wire.ParseRelay(plain)
	if ok && head.Dst == d.dp.self {
		d.message(relayOrigin(head.Src), msg, true)
		return
	}
	to := d.table.names[head.Dst]
	if !ok || to == nil || to.hop.Load() == nil || to.hop.Load() == by {
		d.dp.counters.add(dropRelayUnknown, 1)
		return
	}
	if head.Hops <= 1 {
		d.dp.counters.add(dropRelayHops, 1)
		return
	}
	head.Hops = min(head.Hops, relayHops) - 1
	head.Put(plain)
	hop := to.hop.Load()
	hop.passed.add(len(msg))
	d.out.overLink(hop, plain)
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
	if wire.IsSuper(parts[0]) {
		d.streamed += uint64(size)
	}
	if size > wire.MaxFrame {
		d.dp.long.sent.Add(1)
	}
	frame := parts[0][wire.VnetLen:]
	if !d.dp.permits(frame, size) {
		return
	}
	v := d.dp.sw.Decide(d.dp.stamp(), frame, from.port)
	if v.Action == stack.Drop {
		return
	}
	ports := d.dp.locals.Load()
	if v.Action == stack.Unicast {
		if to := ports.of(v.Out); to != nil {
			d.dp.write(to, frame, parts)
		}
		return
	}
	for _, p := range v.Ports.Local() {
		if to := ports.of(p); to != nil {
			d.dp.write(to, frame, parts)
		}
	}
}
