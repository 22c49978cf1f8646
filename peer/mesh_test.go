package peer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"weave/peer/wire"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// bench is one Mesh under test with a hand-driven clock. Everything around it
// is played by the test.
type bench struct {
	t    *testing.T
	m    *Mesh
	now  time.Time
	view *View
	fx   Effects // of the last step
	all  Effects // of all steps
}

func testConfig(b byte) Config {
	return Config{
		Identity: testIdentity(b), Name: Name{2, 5: b}, Nickname: fmt.Sprintf("host%d", b), UID: uint64(b) + 100,
		Port: 6783, Rand: rand.NewPCG(uint64(b), 1),
	}
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, m: NewMesh(cfg), now: epoch}
	b.step(Tick{})
	return b
}

func (b *bench) step(in Input) Effects {
	b.t.Helper()
	b.fx = b.m.Step(b.now, in)
	if err := b.m.Check(); err != nil {
		b.t.Fatalf("after %T: %v", in, err)
	}
	if at := b.m.Deadline(); at.IsZero() || !at.After(b.now) {
		b.t.Fatalf("after %T at %s: deadline %s", in, b.now, at)
	}
	if b.fx.Publish != nil {
		b.view = b.fx.Publish
	}
	b.all.Save = append(b.all.Save, b.fx.Save...)
	b.all.Send = append(b.all.Send, b.fx.Send...)
	b.all.Dial = append(b.all.Dial, b.fx.Dial...)
	b.all.Close = append(b.all.Close, b.fx.Close...)
	b.all.Events = append(b.all.Events, b.fx.Events...)
	return b.fx
}

// run lets time pass, stepping at each deadline.
func (b *bench) run(d time.Duration) {
	b.t.Helper()
	end := b.now.Add(d)
	for at := b.m.Deadline(); !at.After(end); at = b.m.Deadline() {
		b.now = at
		b.step(Tick{})
	}
	b.now = end
}

// remote is a peer played by the test.
type remote struct {
	id     Identity
	record Record
}

func newRemote(b byte) *remote {
	id := testIdentity(b)
	return &remote{id: id, record: Record{
		Name: Name{2, 5: b}, Nickname: fmt.Sprintf("host%d", b), Key: id.PublicKey(), UID: uint64(b) + 100,
		Version: 1, Port: 6783,
	}}
}

func (r *remote) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, r.record.Name[5]}), 6783)
}

func (r *remote) hello(tiebreak uint64) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Hello{Hello: &wire.Hello{
		MinVersion: 1, MaxVersion: 1, Record: r.id.SignRecord(r.record).Wire(), Tiebreak: tiebreak,
	}}}
}

func (r *remote) publish(links ...byte) *wire.Control {
	r.record.Version++
	var list []Link
	for _, l := range links {
		list = append(list, Link{Peer: Name{2, 5: l}, Established: true, Address: fmt.Sprintf("192.0.2.%d:6783", l), Outbound: true})
	}
	r.record.Links = MakeLinks(list...)
	return records(r.id.SignRecord(r.record))
}

func records(all ...Signed) *wire.Control {
	var out wire.Records
	for _, s := range all {
		out.Records = append(out.Records, s.Wire())
	}
	return &wire.Control{Kind: &wire.Control_Records{Records: &out}}
}

// up brings a connection as far as Noise does.
func (b *bench) up(c ConnID, r *remote, dialled string) {
	b.t.Helper()
	b.step(ConnUp{Conn: c, Dialled: dialled, Remote: r.addr(), Static: r.id.X25519Public()})
}

// join brings a connection to joined.
func (b *bench) join(c ConnID, r *remote, dialled string) {
	b.t.Helper()
	b.up(c, r, dialled)
	b.step(Received{Conn: c, Message: r.hello(0)})
}

func (b *bench) conn(address string) ConnView {
	for _, c := range b.view.Connections {
		if c.Address == address {
			return c
		}
	}
	return ConnView{}
}

func (b *bench) dialled(address string) int {
	n := 0
	for _, d := range b.all.Dial {
		if d.Address == address {
			n++
		}
	}
	return n
}

func (b *bench) closed(c ConnID) string {
	for _, x := range b.all.Close {
		if x.Conn == c {
			return x.Reason
		}
	}
	return ""
}

func TestConnectionStates(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	const addr = "192.0.2.2:6783"
	b.step(Connect{Targets: []string{"192.0.2.2"}})
	if c := b.conn(addr); c.State != StateConnecting || c.Info != "" || !c.Outbound || b.dialled(addr) != 1 {
		t.Fatalf("dialled: %+v", c)
	}
	b.step(DialFailed{Address: addr, Reason: "connection refused"})
	if c := b.conn(addr); c.State != StateFailed || c.Info != "connection refused, retry: "+c.Retry.String() {
		t.Fatalf("refused: %+v", c)
	}
	b.run(3 * time.Second)
	if c := b.conn(addr); c.State != StateRetrying || c.Info != "connection refused" || b.dialled(addr) != 2 {
		t.Fatalf("again: %+v", c)
	}
	b.join(1, r, addr)
	if c := b.conn(addr); c.State != StatePending || c.Peer != r.record.Name || c.Info != "none   02:00:00:00:00:02(host2)" {
		t.Fatalf("joined: %+v", c)
	}
	b.step(PathChanged{Peer: r.record.Name, Up: true, RTT: 900 * time.Microsecond, Overlay: "sleeve", MTU: 1400})
	if c := b.conn(addr); c.State != StateEstablished || c.Info != "sleeve 02:00:00:00:00:02(host2)" || c.Attrs.MTU != 1400 {
		t.Fatalf("established: %+v", c)
	}
	b.run(100 * time.Millisecond)
	if l := b.view.Self.Connections; l.Len() != 1 || !l.At(0).Established || l.At(0).RTT != 900*time.Microsecond || l.At(0).Address != addr {
		t.Fatalf("own record: %+v", l)
	}
	b.step(Received{Conn: 1, Message: r.publish(1)})
	b.run(100 * time.Millisecond)
	if via := b.view.Routes()[r.record.Name].Via; via != r.record.Name {
		t.Fatalf("route via %s", via)
	}
	far := newRemote(7)
	far.record.Addresses = []string{"198.51.100.7:1", "192.0.2.7:6783"}
	b.step(Received{Conn: 1, Message: records(far.id.SignRecord(far.record))})
	b.step(Received{Conn: 1, Message: r.publish(1, 7)})
	b.run(200 * time.Millisecond)
	if got := fmt.Sprint(b.view.Candidates(far.record.Name)); got != "[192.0.2.7:6783 198.51.100.7:1]" {
		t.Fatalf("candidates: %s", got)
	}
	b.step(PathChanged{Peer: r.record.Name, Overlay: "sleeve"})
	if c := b.conn(addr); c.State != StatePending {
		t.Fatalf("path lost: %+v", c)
	}
	b.step(ConnDown{Conn: 1, Reason: "EOF"})
	if c := b.conn(addr); c.State != StateFailed || !strings.HasPrefix(c.Info, "EOF, retry: ") || len(b.view.Neighbours) != 0 {
		t.Fatalf("lost: %+v", c)
	}
}

func TestEncryptedInfo(t *testing.T) {
	cfg := testConfig(1)
	cfg.Password = true
	b := newBench(t, cfg)
	b.join(1, newRemote(2), "")
	b.step(PathChanged{Peer: Name{2, 5: 2}, Up: true, Overlay: "sleeve"})
	if c := b.view.Connections[0]; c.Info != "encrypted   sleeve 02:00:00:00:00:02(host2)" || c.Outbound {
		t.Errorf("%+v", c)
	}
}

func TestConnLimit(t *testing.T) {
	cfg := testConfig(1)
	cfg.ConnLimit = 1
	b := newBench(t, cfg)
	b.join(1, newRemote(2), "")
	b.join(2, newRemote(3), "")
	if b.closed(2) != "Connection limit reached (1)" || b.closed(1) != "" {
		t.Errorf("closed: %q, %q", b.closed(1), b.closed(2))
	}
	b.step(Connect{Targets: []string{"192.0.2.9"}})
	if c := b.conn("192.0.2.9:6783"); len(b.all.Dial) != 0 || !strings.HasPrefix(c.Info, "Connection limit reached (1), retry: ") {
		t.Errorf("%+v", c)
	}
	b.step(ConnDown{Conn: 1})
	b.run(3 * time.Second)
	if b.dialled("192.0.2.9:6783") == 0 {
		t.Error("not dialled when there was room")
	}
}

func TestPublishesAboveWhatTheNetworkHolds(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	old := newRemote(1)
	old.record.UID, old.record.Version = 55, 5000
	b.step(Received{Conn: 1, Message: records(old.id.SignRecord(old.record))})
	b.run(200 * time.Millisecond)
	if v := b.view.Self.Version; v <= 5000 || b.view.Self.UID != 101 {
		t.Errorf("version %d", v)
	}
	// A second process with our key outbids us each time: we slow down.
	before := b.m.own.version
	for range 600 {
		old.record.Version = b.m.own.version + 1
		b.step(Received{Conn: 1, Message: records(old.id.SignRecord(old.record))})
		b.run(100 * time.Millisecond)
	}
	if rounds := (b.m.own.version - before) / 2; rounds > 10 {
		t.Errorf("%d rounds in a minute", rounds)
	}
}

func TestVersionsOutliveARestart(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	b.run(time.Second)
	var saved Saved
	for _, s := range b.all.Save {
		if err := saved.Restore(s.Key, s.Value); err != nil {
			t.Fatal(err)
		}
	}
	if saved.Version < b.m.own.version || saved.Pins[Name{2, 5: 2}] != newRemote(2).record.Key {
		t.Errorf("%+v", saved)
	}
	if !slices.Equal(saved.Addresses, []string{"192.0.2.2:6783"}) {
		t.Errorf("address book: %v", saved.Addresses)
	}
	cfg := testConfig(1)
	cfg.Version, cfg.Pins, cfg.KnownAddresses = saved.Version, saved.Pins, saved.Addresses
	again := newBench(t, cfg)
	if again.m.own.version <= b.m.own.version || again.dialled("192.0.2.2:6783") != 1 {
		t.Errorf("version %d after %d", again.m.own.version, b.m.own.version)
	}
}

// Round-trip times that others tell of are looked at together, and now and then; whatever else they tell at once.
func TestWaveringTimesWait(t *testing.T) {
	b := newBench(t, testConfig(1))
	far := newRemote(3)
	near := newRemote(2)
	b.join(1, near, "")
	tell := func(rtt time.Duration, up bool) {
		far.record.Version++
		far.record.Links = MakeLinks(Link{Peer: near.record.Name, Established: up, RTT: rtt, Address: "192.0.2.2:6783"})
		b.step(Received{Conn: 1, Message: records(far.id.SignRecord(far.record))})
	}
	b.step(Received{Conn: 1, Message: near.publish(1, 3)})
	tell(time.Millisecond, true)
	b.run(waverInterval + time.Second)
	seen := func() Link { return b.view.Peers[2].Connections.At(0) }
	for i := range 5 {
		tell(time.Duration(10*(i+1))*time.Millisecond, true)
		b.run(time.Second)
	}
	if seen().RTT != 10*time.Millisecond {
		t.Errorf("%v, and the first of five was to be seen", seen().RTT)
	}
	looked := b.m.topo.lastAt
	b.run(waverInterval)
	if b.m.topo.lastAt == looked || seen().RTT != 50*time.Millisecond {
		t.Errorf("%v in the end", seen().RTT)
	}
	looked = b.m.topo.lastAt
	tell(70*time.Millisecond, true)
	b.run(time.Second)
	if b.m.topo.lastAt != looked {
		t.Error("looked at once")
	}
	tell(70*time.Millisecond, false)
	b.run(time.Second)
	if l := seen(); l.Established || l.RTT != 70*time.Millisecond {
		t.Errorf("a link that is lost is shown as %+v", l)
	}
}

func TestPathJitterMakesNoVersions(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	b.step(PathChanged{Peer: Name{2, 5: 2}, Up: true, RTT: 10 * time.Millisecond})
	b.run(time.Second)
	before := b.m.own.version
	for i := range 50 {
		b.step(PathChanged{Peer: Name{2, 5: 2}, Up: true, RTT: 10*time.Millisecond + time.Duration(i%5-2)*time.Millisecond})
		b.run(time.Second)
	}
	if b.m.own.version != before {
		t.Errorf("%d new versions", b.m.own.version-before)
	}
	b.step(PathChanged{Peer: Name{2, 5: 2}, Up: true, RTT: 30 * time.Millisecond})
	b.run(time.Second)
	if b.m.own.version != before+1 {
		t.Errorf("%d new versions after a real change", b.m.own.version-before)
	}
}

func TestOwnRecordIsAlwaysAcceptable(t *testing.T) {
	cfg := testConfig(1)
	cfg.Nickname = "bad\x1b[31m\xff" + strings.Repeat("ä", 500)
	cfg.Addresses = append(slices.Repeat([]string{"192.0.2.1:1"}, 100), "junk\x00")
	b := newBench(t, cfg)
	s, err := OpenRecord(b.m.own.signed.Wire())
	if err != nil || !strings.HasPrefix(s.Record.Nickname, "bad?[31m\ufffdää") {
		t.Errorf("%q, %v", s.Record.Nickname, err)
	}
}
