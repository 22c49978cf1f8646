package node

import (
	"math/rand/v2"
	"net/netip"

	"weave/peer/link"
	"weave/peer/session"
	"weave/peer/wire"
)

const (
	// bulkArena bounds the sealed bytes an uplink holds between two flushes: a few
	// super-frames to a few peers. replyArena is for heartbeats and handshakes.
	bulkArena  = 1 << 20
	replyArena = 1 << 17
	// senderSlots is how many datagram runs one sendmmsg call takes.
	senderSlots = 128
)

// bundle is a data message that still takes small frames. Its plaintext grows
// at its final place in the arena and is sealed there.
type bundle struct {
	to    *remote // nil: sealed already
	pair  *session.Keypair
	path  *path
	start int    // offset of the message in the arena
	plain []byte // arena[start+16:]
}

// output seals what goes to peers and sends it in batches. It belongs to one
// goroutine; nothing in it allocates in steady state.
type output struct {
	dp      *dataplane
	arena   []byte
	used    int
	open    []bundle
	slot    []uint16 // by stack.Port: 1 + the index in open, 0 where the peer has no open bundle
	senders [2]*link.Sender
	cutter  *wire.Cutter
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

// route finds the key and path to a peer, or counts why there is none.
func (o *output) route(to *remote) (*session.Keypair, *path) {
	pair := to.keys.Sending()
	if pair == nil {
		o.dp.counters.add(dropNoSession, 1)
		offer(o.dp.wants, to.port)
		return nil, nil
	}
	p := to.path.Load()
	if p == nil || o.sender(p) == nil {
		o.dp.counters.add(dropNoPath, 1)
		return nil, nil
	}
	return pair, p
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
		if plain, ok := wire.AppendFrame(b.plain, packet, b.path.limit); ok {
			b.plain = plain
			return true
		}
		o.seal(b)
	}
	pair, p := o.route(to)
	if pair == nil {
		return true
	}
	b, ok := o.newBundle(to, pair, p)
	if !ok {
		return false
	}
	plain, ok := wire.AppendFrame(b.plain, packet, p.limit)
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

func (o *output) newBundle(to *remote, pair *session.Keypair, p *path) (bundle, bool) {
	need := wire.DataHeaderLen + p.limit + wire.TagLen
	if o.used+need > len(o.arena) {
		o.flush()
	}
	if need > len(o.arena) {
		return bundle{}, false
	}
	start := o.used
	o.used += need
	at := start + wire.DataHeaderLen
	return bundle{to: to, pair: pair, path: p, start: start, plain: o.arena[at:at:o.used]}, true
}

// plain sends one plaintext that is no frame: a heartbeat or a keepalive.
func (o *output) plain(to *remote, plaintext []byte) {
	pair, p := o.route(to)
	if pair == nil {
		return
	}
	need := wire.DataHeaderLen + len(plaintext) + wire.TagLen
	if o.used+need > len(o.arena) {
		o.flush()
	}
	msg, err := pair.Seal(o.arena[o.used:o.used:o.used+need], plaintext)
	if err != nil {
		o.dp.counters.add(dropSeal, 1)
		offer(o.dp.wants, to.port)
		return
	}
	o.used += need
	o.sender(p).Add(p.addr, msg, len(msg))
}

// raw sends a handshake message, which is sealed already.
func (o *output) raw(to netip.AddrPort, msg []byte) {
	s := o.senders[0]
	if to.Addr().Is6() {
		s = o.senders[1]
	}
	if s == nil {
		return
	}
	if o.used+len(msg) > len(o.arena) {
		o.flush()
	}
	kept := o.arena[o.used : o.used+copy(o.arena[o.used:], msg)]
	o.used += len(kept)
	s.Add(to, kept, len(kept))
}

// cut sends a super-frame, or a packet that does not fit one datagram. The
// packet lies in buf behind wire.Headroom bytes and is overwritten.
func (o *output) cut(to *remote, buf []byte) {
	if b := o.bundleOf(to); b != nil {
		o.seal(b) // frames keep their order
	}
	pair, p := o.route(to)
	if pair == nil {
		return
	}
	if fault := o.cutter.Start(buf, p.limit); fault != wire.FaultNone {
		o.dp.counters.fault(fault)
		return
	}
	run := run{out: o, path: p, start: o.used}
	for plain, ok := o.cutter.Next(); ok; plain, ok = o.cutter.Next() {
		need := wire.DataHeaderLen + len(plain) + wire.TagLen
		if o.used+need > len(o.arena) {
			run.end()
			o.flush()
			run.start = o.used
		}
		if run.stride != 0 && need > run.stride {
			run.end()
		}
		msg, err := pair.Seal(o.arena[o.used:o.used:o.used+need], plain)
		if err != nil {
			o.dp.counters.add(dropSeal, 1)
			offer(o.dp.wants, to.port)
			break
		}
		o.used += len(msg)
		run.add(len(msg))
	}
	run.end()
}

// run is a row of equally long datagrams to one path; only the last may be
// shorter, as UDP_SEGMENT asks (udp(7)).
type run struct {
	out    *output
	path   *path
	start  int
	stride int
}

func (r *run) add(length int) {
	if r.stride == 0 {
		r.stride = length
	}
	if length < r.stride {
		r.end()
	}
}

func (r *run) end() {
	if r.out.used > r.start {
		r.out.sender(r.path).Add(r.path.addr, r.out.arena[r.start:r.out.used], r.stride)
	}
	r.start, r.stride = r.out.used, 0
}

// seal finishes a bundle where it lies.
func (o *output) seal(b *bundle) {
	if b.to == nil {
		return
	}
	port := b.to.port
	b.to, o.slot[port] = nil, 0
	end := b.start + wire.DataHeaderLen + len(b.plain) + wire.TagLen
	msg, err := b.pair.Seal(o.arena[b.start:b.start:end], b.plain)
	if err != nil {
		o.dp.counters.add(dropSeal, 1)
		offer(o.dp.wants, port)
		return
	}
	o.sender(b.path).Add(b.path.addr, msg, len(msg))
}

// flush seals what is open and hands everything to the kernel. Afterwards the
// arena is free.
func (o *output) flush() {
	for i := range o.open {
		o.seal(&o.open[i])
	}
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
