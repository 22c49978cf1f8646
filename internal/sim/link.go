package sim

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer"
	"weave/peer/wire"
)

// link is one simulated TCP connection.
type link struct {
	w                 *Network
	dialler, acceptor *Node
	ids               [2]peer.ConnID // of dialler, acceptor
	free              [2]time.Time   // when the last byte sent by each arrives
	dead              bool           // nothing more arrives
}

func (l *link) side(n *Node) int {
	if n == l.dialler {
		return 0
	}
	return 1
}

func (l *link) idOf(n *Node) peer.ConnID { return l.ids[l.side(n)] }

func (l *link) other(n *Node) *Node {
	if n == l.dialler {
		return l.acceptor
	}
	return l.dialler
}

// dial answers a Dial effect.
func (n *Node) dial(address string) {
	w := n.w
	w.Stats.Dials++
	refuse := func(d time.Duration, reason string) {
		n.later(d, func() { n.Step(peer.DialFailed{Address: address, Reason: reason}) })
	}
	to := w.listen[address]
	switch {
	case to == nil:
		refuse(w.cfg.Latency, "no such host")
	case w.rng.Float64() < w.cfg.DialLoss || !w.joined(n, to) || w.walls[[2]int{n.index, to.index}]:
		refuse(3*time.Second, "dial tcp4: i/o timeout")
	default:
		n.later(2*w.delay(n, to), func() {
			if !w.open(n, to) {
				n.Step(peer.DialFailed{Address: address, Reason: "connect: connection refused"})
				return
			}
			w.connect(n, to, address)
		})
	}
}

// connect makes the connection: the dialler's handshake ends first.
func (w *Network) connect(from, to *Node, address string) {
	w.nextID += 2
	l := &link{w: w, dialler: from, acceptor: to, ids: [2]peer.ConnID{w.nextID - 1, w.nextID}}
	d := w.delay(from, to)
	from.links[l.ids[0]] = l
	to.links[l.ids[1]] = l
	l.free = [2]time.Time{w.now.Add(d), w.now.Add(d)}
	remote := Address(from.index)
	remote = netip.AddrPortFrom(remote.Addr(), uint16(32768+w.nextID%28000))
	to.later(d, func() {
		if to.links[l.ids[1]] == l {
			to.Step(peer.ConnUp{Conn: l.ids[1], Remote: remote, Static: from.identity.X25519Public()})
		}
	})
	from.Step(peer.ConnUp{
		Conn: l.ids[0], Dialled: address, Remote: Address(to.index), Static: to.identity.X25519Public(),
	})
}

// send delivers a message after those sent before it.
func (n *Node) send(s peer.Send) {
	l := n.links[s.Conn]
	if l == nil {
		return
	}
	msg := s.Message
	if n.Tamper != nil {
		if msg = n.Tamper(msg); msg == nil {
			return
		}
	}
	to := l.other(n)
	if n.w.cfg.Fast {
		n.count(n.w.sizeOf(msg))
		l.arrive(n, func() { to.Step(peer.Received{Conn: l.idOf(to), Message: msg}) })
		return
	}
	raw, err := proto.Marshal(msg)
	if err != nil {
		n.w.fail("node %d sends what cannot be marshalled: %v", n.index, err)
		return
	}
	n.count(len(raw))
	l.arrive(n, func() {
		var m wire.Control
		if err := proto.Unmarshal(raw, &m); err != nil {
			n.w.fail("unmarshal: %v", err)
			return
		}
		to.Step(peer.Received{Conn: l.idOf(to), Message: &m})
	})
}

func (n *Node) count(size int) {
	n.w.Stats.Messages++
	n.w.Stats.Bytes += framed(size)
	n.Sent.Messages++
	n.Sent.Bytes += framed(size)
}

func (w *Network) sizeOf(msg *wire.Control) int {
	if w.shared.message != msg {
		w.shared.message, w.shared.bytes = msg, proto.Size(msg)
	}
	return w.shared.bytes
}

// arrive does something at the other end, in order with what else n sent.
func (l *link) arrive(n *Node, do func()) {
	w, to := l.w, l.other(n)
	at := w.now.Add(w.delay(n, to))
	if !at.After(l.free[l.side(n)]) {
		at = l.free[l.side(n)].Add(time.Microsecond)
	}
	l.free[l.side(n)] = at
	to.later(at.Sub(w.now), func() {
		if !l.dead && to.links[l.idOf(to)] == l {
			do()
		}
	})
}

// close performs a Close effect: what was sent before still arrives.
func (n *Node) close(c peer.Close) {
	l := n.links[c.Conn]
	if l == nil {
		return
	}
	delete(n.links, c.Conn)
	to := l.other(n)
	l.arrive(n, func() {
		delete(to.links, l.idOf(to))
		to.Step(peer.ConnDown{Conn: l.idOf(to), Reason: "EOF"})
	})
}

// breakLink breaks a connection: from now nothing arrives, and each end sees it
// within a few seconds.
func (w *Network) breakLink(l *link) {
	if l.dead {
		return
	}
	l.dead = true
	for _, n := range []*Node{l.dialler, l.acceptor} {
		l.down(n, time.Duration(w.rng.Int64N(int64(4*time.Second))), "connection timed out")
	}
}

// down tells one end that the connection is over.
func (l *link) down(n *Node, after time.Duration, reason string) {
	n.later(after, func() {
		id := l.idOf(n)
		if n.links[id] == l {
			delete(n.links, id)
			n.Step(peer.ConnDown{Conn: id, Reason: reason})
		}
	})
}
