package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	"weave/peer"
	"weave/peer/wire"
	"weave/tun/tuntest"
)

// crew is several sides that know of each other what the test says.
type crew struct {
	t     *testing.T
	sides []*side
	taps  []*tuntest.End

	hellos int // sent by meet: no two are the same
}

func newCrew(t *testing.T, n int) *crew {
	c := &crew{t: t}
	for i := range n {
		user, tap := tuntest.Pipe(4096)
		s := newSide(t, tap)
		s.dp.self = crewName(i)
		c.sides, c.taps = append(c.sides, s), append(c.taps, user)
	}
	return c
}

func crewName(i int) peer.Name { return peer.Name{2, 0, 0, 0, 0, byte(i + 1)} }

// member describes side i as another sees it.
func (c *crew) member(i int) neighbour {
	return neighbour{name: crewName(i), uid: 1, key: c.sides[i].machine.PublicKey(), aes: true}
}

// linked describes side i as a neighbour.
func (c *crew) linked(i int) neighbour {
	n := c.member(i)
	n.conn, n.via, n.candidates = uint64(i+1), n.name, []netip.AddrPort{c.sides[i].addr}
	return n
}

// behind describes side i as a peer that the route to goes by another.
func (c *crew) behind(i, via int) neighbour {
	n := c.member(i)
	n.via = crewName(via)
	return n
}

// wishFor is a wish for certain peers, sparseWishFor the one of a sparse network.
func wishFor(peers ...neighbour) (w wish) {
	for i := range peers {
		w.add(&peers[i], nil)
	}
	return w
}

func sparseWishFor(peers ...neighbour) wish {
	w := wishFor(peers...)
	w.sparse = true
	return w
}

// wants tells the sides their peers and starts them.
func (c *crew) wants(wishes ...wish) {
	c.t.Helper()
	for i, w := range wishes {
		c.sides[i].sessions.want(w)
	}
	for _, s := range c.sides {
		s.run(c.t)
	}
}

// send has side i's container send a frame to that of side k.
func (c *crew) send(i, k int, payload []byte) []byte {
	c.t.Helper()
	f := frame(byte(k+1), byte(i+1), payload)
	if k < 0 {
		f = frame(0xff, byte(i+1), payload)
	}
	if err := c.taps[i].WriteFrame(f); err != nil {
		c.t.Fatal(err)
	}
	return f
}

// meet makes the containers' places known: each sends a frame to everybody, until all others have it.
func (c *crew) meet() {
	c.t.Helper()
	for i := range c.sides {
		for k := range c.sides {
			if i == k {
				continue
			}
			c.awaits(k, func() []byte {
				c.hellos++
				return c.send(i, -1, binary.BigEndian.AppendUint64(make([]byte, 40), uint64(c.hellos)))
			})
		}
	}
}

// awaits sends again and again until side k's container has the frame.
func (c *crew) awaits(k int, send func() []byte) {
	c.t.Helper()
	buf := make([]byte, wire.MaxPacket)
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		want := send()
		for pause := time.Now().Add(100 * time.Millisecond); time.Now().Before(pause); goruntime.Gosched() {
			n, err := c.taps[k].TryRead(buf)
			if err != nil {
				c.t.Fatal(err)
			}
			if n > 0 && bytes.Equal(buf[wire.VnetLen:n], want) {
				return
			}
		}
	}
	c.t.Fatalf("side %d does not get it", k)
}

// Frames of all sizes, and super-frames, pass a relay and another; those between never write them to their TAPs.
func TestFramesPassRelays(t *testing.T) {
	c := newCrew(t, 4)
	c.wants(
		wishFor(c.linked(1), c.behind(2, 1), c.behind(3, 1)),
		wishFor(c.linked(0), c.linked(2), c.behind(3, 2)),
		wishFor(c.linked(1), c.linked(3), c.behind(0, 1)),
		wishFor(c.linked(2), c.behind(0, 2), c.behind(1, 2)),
	)
	c.meet()
	for i := range 100 {
		payload := make([]byte, 46+i*37)
		binary.BigEndian.PutUint32(payload, uint32(i))
		c.awaits(3, func() []byte { return c.send(0, 3, payload) })
	}
	sent := superFrame(60000, 1)
	copy(sent[wire.VnetLen:], frame(4, 1, nil)[:12])
	if err := c.taps[0].WriteV([][]byte{sent}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, 60000)
	for len(got) < 60000 {
		p := read(t, c.taps[3])
		if len(p) > wire.VnetLen+54 && p[wire.VnetLen+12] == 8 {
			got = append(got, p[wire.VnetLen+54:]...)
		}
	}
	if !bytes.Equal(got, sent[wire.VnetLen+54:]) {
		t.Error("the super-frame's payload differs")
	}
	for i, s := range c.sides[1:3] {
		passed := uint64(0)
		for _, r := range s.dp.table.Load().names {
			passed += r.passed.frames.Load()
		}
		if n := drained(t, c.taps[i+1]); n > 0 || passed == 0 {
			t.Errorf("relay %d saw %d of the frames that it passed on, and passed on %d messages", i+1, n, passed)
		}
	}
}

// drained counts the frames that wait for a container.
func drained(t *testing.T, end *tuntest.End) (n int) {
	t.Helper()
	buf := make([]byte, wire.MaxPacket)
	for {
		size, err := end.TryRead(buf)
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			return n
		}
		if buf[wire.VnetLen] != 0xff {
			n++
		}
	}
}

// In a sparse network a frame for everybody comes to each once, by whatever way comes first; what is too long for that
// goes to each by itself.
func TestFloodsArriveOnce(t *testing.T) {
	c := newCrew(t, 4)
	ring := func(i int) wish {
		left, right, far := (i+3)%4, (i+1)%4, (i+2)%4
		n := c.behind(far, right)
		return sparseWishFor(c.linked(left), c.linked(right), n)
	}
	c.wants(ring(0), ring(1), ring(2), ring(3))
	c.meet()
	got := make([]map[string]int, len(c.sides)) // by side: frames for everybody, and how often they came
	for i := range got {
		got[i] = map[string]int{}
	}
	for n, size := range []int{46, 300, 1200} {
		eventually(t, func() bool { // a heartbeat that comes late, on a busy machine, may cost a frame
			n += 10
			want := c.send(0, -1, bytes.Repeat([]byte{byte(n)}, size))
			for pause := time.Now().Add(time.Second); time.Now().Before(pause); goruntime.Gosched() {
				if c.collect(got); got[1][string(want)] > 0 && got[2][string(want)] > 0 && got[3][string(want)] > 0 {
					return true
				}
			}
			return false
		})
	}
	for pause := time.Now().Add(300 * time.Millisecond); time.Now().Before(pause); goruntime.Gosched() {
		c.collect(got)
	}
	for i, frames := range got {
		for f, n := range frames {
			if n > 1 {
				t.Errorf("side %d got a frame of %d bytes for everybody %d times", i, len(f), n)
			}
		}
	}
}

// collect counts what has come for everybody.
func (c *crew) collect(got []map[string]int) {
	c.t.Helper()
	buf := make([]byte, wire.MaxPacket)
	for i, end := range c.taps {
		for {
			n, err := end.TryRead(buf)
			if err != nil {
				c.t.Fatal(err)
			}
			if n == 0 {
				break
			}
			if f := buf[wire.VnetLen:n]; f[0] == 0xff {
				got[i][string(f)]++
			}
		}
	}
}

// A session with a distant peer is made for the first frame, which is not lost for it, and given up when nothing more
// is sent.
func TestSessionsOnDemand(t *testing.T) {
	c := newCrew(t, 2)
	a, b := c.linked(0), c.linked(1)
	a.conn, b.conn, a.distant, b.distant = 0, 0, true, true
	a.via, b.via = peer.Name{}, peer.Name{}
	for _, s := range c.sides {
		s.sessions.idle = 3 * time.Second // longer than a busy machine takes for a handshake, or the frame is given up
	}
	c.wants(sparseWishFor(b), sparseWishFor(a))
	for _, s := range c.sides { // a handshake that comes before its receiver knows the sender is lost
		eventually(t, func() bool { return len(s.dp.table.Load().names) == 1 })
	}
	if r := c.sides[0].dp.table.Load().names[crewName(1)]; r.keys.Sending() != nil {
		t.Fatal("a session that nobody asked for")
	}
	want := c.send(0, -1, bytes.Repeat([]byte{1}, 1000)) // too long to flood: to each peer by itself
	if got := read(t, c.taps[1]); !bytes.Equal(got[wire.VnetLen:], want) {
		t.Error("the first frame differs")
	}
	eventually(t, func() bool {
		r := c.sides[0].sessions.reports.read()
		return r != nil && r[crewName(1)].kind == 0 && c.sides[0].dp.table.Load().names[crewName(1)].path.Load() == nil
	})
	if n := c.sides[0].dp.counters.drops[dropStaged].n.Load(); n > 0 {
		t.Errorf("%d frames waited in vain", n)
	}
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !holds(); goruntime.Gosched() {
		if time.Now().After(until) {
			t.Fatal("not within 20 s")
		}
	}
}

// What no peer would send is counted and harms nobody.
func TestBadRelaysAndFloods(t *testing.T) {
	c := newCrew(t, 2)
	c.wants(wishFor(c.linked(1)), wishFor(c.linked(0)))
	c.meet()
	to := c.sides[0].dp.table.Load().names[crewName(1)]
	out := newOutput(c.sides[0].dp, c.sides[0].dp.sockets[0], replyArena, 7)
	relay := func(hops uint8, dst peer.Name, msg []byte) []byte {
		b := make([]byte, wire.RelayLen)
		(&wire.Relay{Hops: hops, Dst: dst, Src: crewName(0)}).Put(b)
		return append(b, msg...)
	}
	flood := func(source peer.Name, seq uint32, records []byte) []byte {
		b := make([]byte, wire.FloodLen)
		(&wire.Flood{Hops: 3, Source: source, Seq: seq}).Put(b)
		return append(b, records...)
	}
	record, _ := wire.AppendFrame(nil, append(make([]byte, wire.VnetLen), frame(0xff, 1, make([]byte, 46))...), 1000)
	bad := [][]byte{
		relay(5, crewName(1), []byte("no message")), relay(5, peer.Name{2, 9}, record), relay(5, crewName(0), record),
		relay(1, crewName(0), record),
		{byte(wire.KindRelay)},
		{byte(wire.KindFlood), 1},
		flood(peer.Name{2, 9}, 1, record),
		flood(crewName(1), 1, record), flood(crewName(0), 77, []byte{byte(wire.KindHeartbeat)}), flood(crewName(0), 78, record[:9]),
	}
	before := counted(c.sides[1])
	for _, b := range bad {
		out.overLink(to, b)
	}
	out.flush()
	eventually(t, func() bool { return counted(c.sides[1])-before >= uint64(len(bad)) })
	c.awaits(1, func() []byte { return c.send(0, 1, []byte("all is well, and this is long enough to be a frame")) })
}

func counted(s *side) (n uint64) { return (&host{side: s}).counted() }

func TestOrigins(t *testing.T) {
	name := peer.Name{2, 3, 4, 5, 6, 7}
	r, s := relayOrigin(name), streamOrigin(1<<40+7)
	if !madeUp(r) || !madeUp(s) || nameBehind(r) != name || connOf(s) != 1<<40+7 {
		t.Errorf("%v %v", r, s)
	}
	if wayOf(r).Kind != peer.WayRelay || wayOf(s).Kind != peer.WayStream {
		t.Errorf("%v %v", wayOf(r), wayOf(s))
	}
	real := netip.MustParseAddrPort("[2001:db8::1]:6783")
	if madeUp(real) || wayOf(real) != (peer.Way{Kind: peer.WayDirect, Addr: real}) {
		t.Errorf("%v", wayOf(real))
	}
	if madeUp(netip.MustParseAddrPort("192.0.2.1:1")) {
		t.Error("an IPv4 address was taken for ours")
	}
}

// A flood is taken once, whatever others say in its source's name.
func TestFloodTable(t *testing.T) {
	table := newFloodTable()
	mine := wire.Flood{Source: crewName(1), Seq: 7}
	if !table.take(&mine, []byte("a")) || table.take(&mine, []byte("a")) {
		t.Error("not once")
	}
	forged := wire.Flood{Source: crewName(1), Seq: 8}
	if !table.take(&forged, []byte("forged")) {
		t.Error("another flood was taken for the first")
	}
	next := wire.Flood{Source: crewName(1), Seq: 8, Hops: 3}
	if !table.take(&next, []byte("b")) {
		t.Error("a forged flood keeps the real one out")
	}
	if next.Hops--; table.take(&next, []byte("b")) {
		t.Error("the same flood from a longer way is taken for another")
	}
}

// The table that a sync publishes routes by the mesh's routes.
func TestRoutesFollowTheMesh(t *testing.T) {
	c := newCrew(t, 3)
	l := c.sides[0].sessions
	sync := func(peers ...neighbour) {
		l.want(wishFor(peers...))
		l.sync(context.Background(), l.now())
	}
	sync(c.linked(1), c.linked(2))
	at := func(i int) *remote { return c.sides[0].dp.table.Load().names[crewName(i)] }
	if at(2).hop.Load() != at(2) {
		t.Error("a neighbour's hop is not itself")
	}
	sync(c.linked(1), c.behind(2, 1))
	if at(2).hop.Load() != at(1) || !slices.Contains(l.book.peers[c.sides[2].machine.PublicKey()].paths.All(), peer.Way{Kind: peer.WayRelay}) {
		t.Error("the relay is not offered")
	}
	sync(c.behind(2, 1))
	if at(2).hop.Load() != nil {
		t.Error("a neighbour that is gone is still a hop")
	}
}
