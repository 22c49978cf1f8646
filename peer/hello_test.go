package peer

import (
	"slices"
	"strings"
	"testing"
	"time"

	"weave/peer/wire"
)

func TestConnectToOurself(t *testing.T) {
	b := newBench(t, testConfig(1))
	const addr = "192.0.2.1:6783"
	b.step(Connect{Targets: []string{addr}})
	self := newRemote(1)
	b.up(1, self, addr)
	b.up(2, self, "")
	b.step(Received{Conn: 1, Message: self.hello(0)})
	b.step(Received{Conn: 2, Message: self.hello(0)})
	if c := b.conn(addr); c.State != StateFailed || c.Info != "cannot connect to ourself, retry: never" {
		t.Fatalf("%+v", c)
	}
	b.run(time.Hour)
	if n := b.dialled(addr); n != 1 {
		t.Errorf("dialled %d times", n)
	}
	b.step(Connect{Targets: []string{addr}})
	if n := b.dialled(addr); n != 2 {
		t.Errorf("an explicit connect must dial once more: %d", n)
	}
}

func TestNamesCollision(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	r.record.Name = Name{2, 5: 1}
	b.step(Connect{Targets: []string{"192.0.2.1"}})
	b.join(1, r, "192.0.2.1:6783")
	want := `local "02:00:00:00:00:01(host1)" and remote "02:00:00:00:00:01(host2)" peer names collision`
	if c := b.conn("192.0.2.1:6783"); c.Info != want+", retry: never" || b.closed(1) != want {
		t.Fatalf("%+v", c)
	}
	b.run(time.Hour)
	if n := b.dialled("192.0.2.1:6783"); n != 1 {
		t.Errorf("dialled %d times", n)
	}
	if b.m.pinned(r.record.Name) != testIdentity(1).PublicKey() {
		t.Error("our own pin was changed")
	}
}

func (m *Mesh) pinned(n Name) PublicKey { return m.topo.pins[n] }

func TestPinnedKey(t *testing.T) {
	cfg := testConfig(1)
	cfg.Pins = map[Name]PublicKey{{2, 5: 2}: testIdentity(7).PublicKey()}
	b := newBench(t, cfg)
	r := newRemote(2)
	b.step(Connect{Targets: []string{"192.0.2.2"}})
	b.join(1, r, "192.0.2.2:6783")
	want := "peer 02:00:00:00:00:02(host2) shows another key than the one known under its name"
	if c := b.conn("192.0.2.2:6783"); c.State != StateFailed || !strings.HasPrefix(c.Info, want) || b.m.Counters().KeyConflicts != 1 {
		t.Fatalf("%+v", c)
	}
	if !slices.ContainsFunc(b.all.Events, func(e Event) bool { return e.Level == LevelWarn && e.Text == want }) {
		t.Error("no event")
	}
	b.step(Unpin{Names: []Name{r.record.Name}})
	b.join(2, r, "192.0.2.2:6783")
	if len(b.view.Neighbours) != 1 {
		t.Error("refused after unpin")
	}
	if s := b.all.Save[len(b.all.Save)-1]; b.m.pinned(r.record.Name) != r.record.Key {
		t.Errorf("not pinned anew; last save %+v", s)
	}
}

func TestForgedRecordsHarmNobody(t *testing.T) {
	b := newBench(t, testConfig(1))
	liar, victim := newRemote(2), newRemote(3)
	b.join(1, liar, "")
	b.step(Received{Conn: 1, Message: records(victim.id.SignRecord(victim.record))})
	b.step(Received{Conn: 1, Message: liar.publish(1, 3)})
	b.run(time.Second)
	forged := victim.record
	forged.Version, forged.Nickname = 99, "forged"
	forged.Key = liar.record.Key // signed properly, but not by the pinned key
	b.step(Received{Conn: 1, Message: records(liar.id.SignRecord(forged))})
	forged.Key = victim.record.Key // the right key, but the signature is the liar's
	b.step(Received{Conn: 1, Message: records(liar.id.SignRecord(forged))})
	b.run(time.Second)
	for _, p := range b.view.Peers {
		if p.Nickname == "forged" {
			t.Error("forged record accepted")
		}
	}
	c := b.m.Counters()
	if c.KeyConflicts != 1 || c.BadSignatures != 1 || len(b.view.Peers) != 3 || len(b.view.Neighbours) != 1 {
		t.Errorf("%+v, %d peers", c, len(b.view.Peers))
	}
}

func TestHelloIsVerified(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	b.step(ConnUp{Conn: 1, Remote: r.addr(), Static: testIdentity(3).X25519Public()})
	b.step(Received{Conn: 1, Message: r.hello(0)})
	if b.closed(1) != textNoKey {
		t.Errorf("another's record: %q", b.closed(1))
	}
	b.up(2, r, "")
	h := r.hello(0)
	h.GetHello().MinVersion, h.GetHello().MaxVersion = 3, 4
	b.step(Received{Conn: 2, Message: h})
	if want := "incompatible protocol versions (ours 1..2, theirs 3..4)"; b.closed(2) != want {
		t.Errorf("version: %q", b.closed(2))
	}
	b.up(3, r, "")
	b.step(Received{Conn: 3, Message: &wire.Control{Kind: &wire.Control_Digest{}}})
	b.run(9 * time.Second)
	if b.closed(3) != "" {
		t.Errorf("closed early: %q", b.closed(3))
	}
	b.run(2 * time.Second)
	if b.closed(3) != "no hello within 10s" {
		t.Errorf("silent: %q", b.closed(3))
	}
}

func TestDuplicates(t *testing.T) {
	const oldSum, low, high = 1 << 40, 1 << 20, 1 << 60
	for _, tc := range []struct {
		what      string
		sum       uint64
		wait      time.Duration
		restarted bool
		survivor  ConnID
	}{
		{"higher sum loses", high, 0, false, 1},
		{"lower sum wins", low, 0, false, 2},
		{"restarted peer wins", high, 0, true, 2},
		{"an old connection is stale", high, replaceAge, false, 2},
	} {
		t.Run(tc.what, func(t *testing.T) {
			b := newBench(t, testConfig(1))
			r := newRemote(2)
			b.greetWithSum(1, r, oldSum)
			b.run(tc.wait)
			if tc.restarted {
				r.record.UID++
			}
			b.greetWithSum(2, r, tc.sum)
			if n := b.view.Neighbours; len(n) != 1 || n[0].Conn != tc.survivor {
				t.Fatalf("%+v", n)
			}
			if loser := b.closed(3 - tc.survivor); loser == "" {
				t.Error("the other was not closed")
			}
		})
	}
}

func (b *bench) greetWithSum(c ConnID, r *remote, sum uint64) {
	b.t.Helper()
	b.up(c, r, "")
	b.step(Received{Conn: c, Message: r.hello(sum - b.m.conns.byID[c].tiebreak)})
}

func TestRestartedPeerIsPendingUntilItsPathIsUpAgain(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	up := PathChanged{Peer: r.record.Name, Up: true, Overlay: "sleeve"}
	b.join(1, r, "")
	b.step(up)
	r.record.UID++
	b.join(2, r, "")
	if c := b.view.Connections[0]; c.State != StatePending {
		t.Fatalf("%+v", c)
	}
	b.step(up)
	if c := b.view.Connections[0]; c.State != StateEstablished {
		t.Fatalf("%+v", c)
	}
}
