package peer

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// Channel says which subsystem a Tell is for. Peers pass on letters of channels
// they do not know.
type Channel uint32

// Channels in use.
const (
	ChannelIPAM   Channel = 1
	ChannelDNS    Channel = 2
	ChannelPolicy Channel = 3
)

// Limits of letters.
const (
	// MaxTell is the most bytes a Tell may carry; control connections carry a
	// little more in one message.
	MaxTell = 256 << 10
	// tellHops is how many connections a letter may pass, many more than the
	// diameter of any sensible network.
	tellHops = 32
	// tellWindow letters of one sender may come out of order.
	tellWindow = 64
	// costLetter is charged besides a unit for each perBytes bytes.
	costLetter = 5
	perBytes   = 1024

	tellPrefix = "weave tell v1\x00" // before what is signed, as recordPrefix
)

// Tell passes a message of a subsystem to one peer, hop by hop over the control
// connections, or to every reachable peer. It arrives at most once, and not at
// all if a connection breaks at the wrong moment: the subsystem compares notes
// with its counterparts from time to time. Data is not kept by the caller and
// at most MaxTell bytes long.
type Tell struct {
	Channel Channel
	To      Name // zero: everybody
	Data    []byte
}

func (Tell) input() {}

// Heard is a message that came for a subsystem of this peer.
type Heard struct {
	Channel Channel
	From    Name
	Data    []byte // shared, must not be changed
}

// letters is what is remembered of letters sent and seen.
type letters struct {
	seq  uint64
	seen map[Name]*window
	hops map[Name]Name // next hop to each peer, nil: not computed since the topology changed
}

// window remembers which of the latest numbers of a sender's run were seen.
type window struct {
	uid, last, bits uint64
}

// has reports whether a number was seen, or is too old to tell.
func (w *window) has(uid, seq uint64) bool {
	if uid != w.uid || seq > w.last {
		return false
	}
	return w.last-seq >= tellWindow || w.bits>>(w.last-seq)&1 == 1
}

// note notes a number that was not seen.
func (w *window) note(uid, seq uint64) {
	if uid != w.uid {
		*w = window{uid: uid}
	}
	if seq > w.last {
		w.bits <<= min(seq-w.last, tellWindow)
		w.last = seq
	}
	w.bits |= 1 << (w.last - seq)
}

// tell signs a letter of ours and sends it on its way.
func (m *Mesh) tell(in Tell) {
	if len(in.Data) > MaxTell {
		m.event(LevelWarn, fmt.Sprintf("a message of %d bytes for other peers is too long", len(in.Data)))
		return
	}
	m.letters.seq++
	l := &wire.Letter{
		Channel: uint32(in.Channel), From: m.cfg.Name[:], Uid: m.cfg.UID, Seq: m.letters.seq, Data: in.Data,
	}
	if !in.To.IsZero() {
		l.To = in.To[:]
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("peer: own letter cannot be marshalled: %v", err))
	}
	out := &wire.Tell{Letter: raw, Signature: m.cfg.Identity.Sign(append([]byte(tellPrefix), raw...)), Hops: tellHops}
	if in.To.IsZero() {
		m.passToAll(out, m.cfg.Name, 0)
		return
	}
	m.passTo(out, in.To)
}

// tellReceived takes a letter: it is for us, for others, or for all.
func (m *Mesh) tellReceived(c *conn, t *wire.Tell) {
	var l wire.Letter
	from, to, ok := readLetter(t, &l)
	if !ok {
		m.badMessage(c)
		return
	}
	s := m.topo.crdt.get(from)
	if from == m.cfg.Name || s == nil || s.Record.UID != l.GetUid() {
		m.counters.LettersStale++ // of a peer, or of a run of it, that we have not heard of yet or any more
		return
	}
	w := m.letters.seen[from]
	if w == nil {
		w = &window{}
		m.letters.seen[from] = w
	}
	if w.has(l.GetUid(), l.GetSeq()) {
		return
	}
	if !s.Record.Key.verifies(append([]byte(tellPrefix), t.GetLetter()...), t.GetSignature()) {
		m.counters.BadSignatures++
		m.charge(c, costBad)
		m.trouble(c, "passes on letters that are not signed by their sender")
		return
	}
	w.note(l.GetUid(), l.GetSeq())
	if to.IsZero() || to == m.cfg.Name {
		m.fx.Heard = append(m.fx.Heard, Heard{Channel: Channel(l.GetChannel()), From: from, Data: l.GetData()})
	}
	if to == m.cfg.Name || t.GetHops() <= 1 {
		return
	}
	next := &wire.Tell{Letter: t.GetLetter(), Signature: t.GetSignature(), Hops: min(t.GetHops(), tellHops) - 1}
	if to.IsZero() {
		m.passToAll(next, from, c.id)
		return
	}
	m.passTo(next, to)
}

// readLetter parses a letter without looking at its signature; to is zero for
// one to everybody.
func readLetter(t *wire.Tell, l *wire.Letter) (from, to Name, ok bool) {
	if len(t.GetLetter()) > MaxTell+1024 || proto.Unmarshal(t.GetLetter(), l) != nil {
		return from, to, false
	}
	if from, ok = nameFromBytes(l.GetFrom()); !ok {
		return from, to, false
	}
	if len(l.GetTo()) > 0 {
		to, ok = nameFromBytes(l.GetTo())
	}
	return from, to, ok
}

// passTo sends a letter to the neighbour that is nearest to its receiver.
func (m *Mesh) passTo(t *wire.Tell, to Name) {
	c := m.conns.byPeer[to]
	if c == nil {
		c = m.conns.byPeer[m.nextHop(to)]
	}
	if c == nil {
		m.counters.LettersLost++
		return
	}
	m.send(c.id, &wire.Control{Kind: &wire.Control_Tell{Tell: t}})
}

// passToAll sends a letter to the neighbours that will not get it otherwise: in
// a small network not to those that its sender is connected with, as it sends to
// them. In a sparse one each neighbour gets it, some nine copies in all; letters
// are few, and the window stops them.
func (m *Mesh) passToAll(t *wire.Tell, from Name, by ConnID) {
	var origin *Record
	if s := m.topo.crdt.get(from); s != nil && from != m.cfg.Name && !m.overlay.sparse {
		origin = &s.Record
	}
	msg := &wire.Control{Kind: &wire.Control_Tell{Tell: t}}
	for _, c := range m.conns.joined() {
		if c.id == by || c.peer == from || (origin != nil && origin.names(c.peer)) {
			continue
		}
		m.send(c.id, msg)
	}
}

// nextHop is the neighbour over which the fewest control connections lead to a
// peer; zero if none does. Data paths need not be up for that.
func (m *Mesh) nextHop(to Name) Name {
	if m.letters.hops == nil {
		m.letters.hops = m.topo.crdt.firstHops(sortedNames(m.conns.byPeer), m.cfg.Name)
	}
	return m.letters.hops[to]
}

// firstHops walks the links that records tell of, breadth first, and notes by
// which root each peer was found first.
func (t *Topology) firstHops(roots []Name, self Name) map[Name]Name {
	out := map[Name]Name{self: {}}
	queue := make([]Name, 0, len(t.records))
	visit := func(n, by Name) {
		if _, seen := out[n]; !seen {
			out[n] = by
			queue = append(queue, n)
		}
	}
	for _, n := range roots {
		visit(n, n)
	}
	for at := 0; at < len(queue); at++ {
		e := t.records[queue[at]]
		if e == nil {
			continue
		}
		for i := range e.Record.Links.Len() {
			visit(e.Record.Links.Peer(i), out[queue[at]])
		}
	}
	return out
}
