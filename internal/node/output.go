package node

import (
	"math/rand/v2"
	"net/netip"

	"weave/peer"
	"weave/peer/link"
	"weave/peer/wire"
)

const (
	// bulkArena bounds the sealed bytes an uplink holds between two flushes: a few
	// super-frames to a few peers. replyArena is for heartbeats, handshakes and what
	// is passed on for others.
	bulkArena  = 1 << 20
	replyArena = 1 << 17
	// senderSlots is how many datagram runs one sendmmsg call takes.
	senderSlots = 128
	// relayHops and floodHops bound the peers that a message may pass.
	relayHops = 16
	floodHops = 32
)

// bundle is a data message that still takes small frames. Its plaintext grows
// at its final place in the arena and is sealed there.
type bundle struct {
	to    *remote // nil: sealed already
	c     course
	start int    // offset of the message in the arena
	plain []byte // arena[start+c.head():]
}

// output seals what goes to peers and sends it in batches. It belongs to one
// goroutine; nothing in it allocates in steady state.
type output struct {
	dp      *dataplane
	arena   []byte
	used    int
	open    []bundle
	slot    []uint16 // by stack.Port: 1 + the index in open, 0 where the peer has no open bundle
	run     run
	senders [2]*link.Sender
	cutter  *wire.Cutter
	scratch []byte // a plaintext being made
}

// newOutput makes an output that sends by a lane's sockets; number tells its
// fragments from those of others.
func newOutput(dp *dataplane, socks socketPair, arena int, number uint8) *output {
	o := &output{dp: dp, arena: make([]byte, arena), cutter: wire.NewCutter(number, rand.Uint32())}
	for i, s := range socks {
		if s != nil {
			o.senders[i] = s.NewSender(senderSlots)
		}
	}
	return o
}

// route finds the keys and the path to a peer, or counts why there are none.
func (o *output) route(to *remote) (course, bool) {
	p := to.path.Load()
	if p == nil {
		o.dp.counters.add(dropNoPath, 1)
		return course{}, false
	}
	return o.along(to, p)
}

// along is route for a certain path.
func (o *output) along(to *remote, p *path) (course, bool) {
	c := course{pair: to.keys.Sending(), path: p, hop: p}
	if c.pair == nil {
		o.dp.counters.add(dropNoSession, 1)
		offer(o.dp.wants, to.port)
		return c, false
	}
	if p.via != nil {
		c.dst, c.outer, c.hop = to.name, p.via.keys.Sending(), p.via.link.Load()
		if c.outer == nil {
			c.hop = nil
		}
	}
	if !o.passable(c.hop) {
		o.dp.counters.add(dropNoPath, 1)
		return c, false
	}
	return c, true
}

// passable reports whether this output can send by a path.
func (o *output) passable(hop *path) bool {
	return hop != nil && (hop.way.Kind == peer.WayStream || o.sender(hop) != nil)
}

func (o *output) sender(p *path) *link.Sender {
	if p.v6 {
		return o.senders[1]
	}
	return o.senders[0]
}

// frame adds a packet without segmentation to the peer's open bundle.
func (o *output) frame(to *remote, packet []byte) bool {
	if b := o.bundleOf(to); b != nil {
		if plain, ok := wire.AppendFrame(b.plain, packet, b.c.path.limit); ok {
			b.plain = plain
			return true
		}
		o.seal(b)
	}
	c, ok := o.route(to)
	if !ok {
		return true
	}
	b, ok := o.newBundle(to, c)
	if !ok {
		return false
	}
	plain, ok := wire.AppendFrame(b.plain, packet, c.path.limit)
	if !ok {
		return false
	}
	b.plain = plain
	o.open = append(o.open, b)
	o.slot[to.port] = uint16(len(o.open))
	return true
}

// bundleOf is the peer's open bundle, nil if there is none.
func (o *output) bundleOf(to *remote) *bundle {
	for int(to.port) >= len(o.slot) {
		o.slot = append(o.slot, make([]uint16, 1+int(to.port)-len(o.slot))...)
	}
	if i := o.slot[to.port]; i != 0 {
		return &o.open[i-1]
	}
	return nil
}

func (o *output) newBundle(to *remote, c course) (bundle, bool) {
	if !o.room(c.head() + c.path.limit + c.tail()) {
		return bundle{}, false
	}
	start := o.used
	o.used += c.head() + c.path.limit + c.tail()
	at := start + c.head()
	return bundle{to: to, c: c, start: start, plain: o.arena[at:at:o.used]}, true
}

// room makes sure that the arena has n free bytes.
func (o *output) room(n int) bool {
	if o.used+n > len(o.arena) {
		o.flush()
	}
	return n <= len(o.arena)
}

// put seals a plaintext at the end of the arena and sends it.
func (o *output) put(c *course, plaintext []byte) bool {
	if !o.room(c.head() + len(plaintext) + c.tail()) {
		o.dp.counters.add(dropTooBig, 1)
		return false
	}
	start := o.used
	end, ok := o.sealAt(c, start, plaintext)
	if ok {
		o.used = end
		o.emit(c.hop, start, end)
	}
	return ok
}

// sealAt writes the message of a plaintext into the arena from start on, once
// more sealed if it goes to a relay. The plaintext may lie where its ciphertext
// goes.
func (o *output) sealAt(c *course, start int, plaintext []byte) (end int, ok bool) {
	at := start + c.head() - wire.DataHeaderLen
	msg, err := c.seal(o.arena[at:at:at+wire.DataOverhead+len(plaintext)], plaintext)
	end = at + len(msg)
	if err == nil && c.outer != nil {
		body := o.arena[start+wire.DataHeaderLen : end]
		head := wire.Relay{Hops: relayHops, Dst: c.dst, Src: o.dp.self}
		head.Put(body)
		msg, err = c.outer.Seal(o.arena[start:start:end+wire.TagLen], body)
		end = start + len(msg)
	}
	if err != nil {
		o.dp.counters.add(dropSeal, 1)
		return start, false
	}
	return end, true
}

// plain sends one plaintext that is no frame: a keepalive.
func (o *output) plain(to *remote, plaintext []byte) {
	if c, ok := o.route(to); ok {
		o.put(&c, plaintext)
	}
}

// over sends one plaintext by a certain path.
func (o *output) over(to *remote, p *path, plaintext []byte) {
	if c, ok := o.along(to, p); ok {
		o.put(&c, plaintext)
	}
}

// overLink sends one plaintext to a neighbour that is to pass it on, or has to
// have it from us.
func (o *output) overLink(to *remote, plaintext []byte) {
	hop := to.link.Load()
	if hop == nil || len(plaintext) > hop.limit {
		o.dp.counters.add(dropRelayLink, 1)
		return
	}
	o.over(to, hop, plaintext)
}

// answer sends one plaintext to where a message came from.
func (o *output) answer(to *remote, from netip.AddrPort, plaintext []byte) {
	p := to.path.Load()
	switch way := wayOf(from); {
	case way.Kind == peer.WayStream:
		p = newStreamPath(connOf(from), streamMTU)
	case way.Kind == peer.WayRelay:
		hop := to.hop.Load()
		if hop == nil {
			o.dp.counters.add(dropNoPath, 1)
			return
		}
		p = newRelayPath(hop, defaultUnderlayMTU)
	case p == nil || p.way != way:
		p = newPath(from, defaultUnderlayMTU)
	}
	o.over(to, p, plaintext)
}

// raw sends a handshake message, which is sealed already, to an address or an
// origin.
func (o *output) raw(to netip.AddrPort, msg []byte) {
	switch way := wayOf(to); {
	case way.Kind == peer.WayStream:
		o.dp.stream(connOf(to), msg)
	case way.Kind == peer.WayRelay:
		o.relayRaw(nameBehind(to), msg)
	default:
		hop := newPath(to, defaultUnderlayMTU)
		if o.sender(hop) == nil || !o.room(len(msg)) {
			return
		}
		start := o.used
		o.used += copy(o.arena[start:], msg)
		o.emit(hop, start, o.used)
	}
}

// relayRaw sends a message by a relay that may lead to the peer.
func (o *output) relayRaw(dst peer.Name, msg []byte) {
	to := o.dp.table.Load().names[dst]
	if to == nil || to.hop.Load() == nil {
		o.dp.counters.add(dropNoPath, 1)
		return
	}
	head := wire.Relay{Hops: relayHops, Dst: dst, Src: o.dp.self}
	o.scratch = append(o.scratch[:0], make([]byte, wire.RelayLen)...)
	head.Put(o.scratch)
	o.scratch = append(o.scratch, msg...)
	o.overLink(to.hop.Load(), o.scratch)
}

// cut sends a super-frame, or a packet that does not fit one datagram. The
// packet lies in buf behind wire.Headroom bytes and is overwritten.
func (o *output) cut(to *remote, buf []byte) {
	if b := o.bundleOf(to); b != nil {
		o.seal(b) // frames keep their order
	}
	c, ok := o.route(to)
	if !ok {
		return
	}
	if fault := o.cutter.Start(buf, c.path.limit); fault != wire.FaultNone {
		o.dp.counters.fault(fault)
		return
	}
	var err error
	if c.row, err = c.pair.Row(o.cutter.Left()); err != nil {
		o.dp.counters.add(dropSeal, 1)
		offer(o.dp.wants, to.port)
		return
	}
	defer c.row.End()
	for plain, ok := o.cutter.Next(); ok; plain, ok = o.cutter.Next() {
		if !o.put(&c, plain) {
			offer(o.dp.wants, to.port)
			break
		}
	}
}

// run is a row of equally long datagrams to one path; only the last may be
// shorter, as UDP_SEGMENT asks (udp(7)).
type run struct {
	hop        *path
	start, end int // in the arena
	stride     int // bytes of each datagram
	full       bool
}

// emit sends arena[start:end] as one datagram, in a row with those before it if
// it can be.
func (o *output) emit(hop *path, start, end int) {
	r, n := &o.run, end-start
	if r.hop == hop && r.end == start && n <= r.stride && !r.full {
		r.end, r.full = end, n < r.stride
		return
	}
	o.endRun()
	o.run = run{hop: hop, start: start, end: end, stride: n}
}

// endRun hands the row to the kernel's queue.
func (o *output) endRun() {
	r := &o.run
	switch {
	case r.hop == nil:
	case r.hop.way.Kind == peer.WayStream:
		for at := r.start; at < r.end; at += r.stride {
			o.dp.stream(r.hop.conn, o.arena[at:min(at+r.stride, r.end)])
		}
	default:
		o.sender(r.hop).Add(r.hop.way.Addr, o.arena[r.start:r.end], r.stride)
	}
	o.run = run{}
}

// seal finishes a bundle where it lies.
func (o *output) seal(b *bundle) {
	if b.to == nil {
		return
	}
	port := b.to.port
	b.to, o.slot[port] = nil, 0
	end, ok := o.sealAt(&b.c, b.start, b.plain)
	if !ok {
		offer(o.dp.wants, port)
		return
	}
	o.emit(b.c.hop, b.start, end)
}

// flush seals what is open and hands everything to the kernel. Afterwards the
// arena is free.
func (o *output) flush() {
	for i := range o.open {
		o.seal(&o.open[i])
	}
	o.endRun()
	o.open = o.open[:0]
	o.used = 0
	for _, s := range o.senders {
		if s == nil {
			continue
		}
		r := s.Flush()
		if r.Errors > 0 {
			o.dp.counters.add(dropSend, uint64(r.Errors))
		}
		for _, t := range r.TooBig {
			o.dp.counters.add(dropTooBig, 1)
			offer(o.dp.remeasure, t.To)
		}
	}
}
