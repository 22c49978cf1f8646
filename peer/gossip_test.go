package peer

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// sent returns the messages of one kind that went to a connection.
func sent[K any](fx Effects, c ConnID) []K {
	var out []K
	for _, s := range fx.Send {
		if k, ok := s.Message.Kind.(K); ok && s.Conn == c {
			out = append(out, k)
		}
	}
	return out
}

func TestHelloThenDigest(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	b.up(1, r, "")
	if h := sent[*wire.Control_Hello](b.fx, 1); len(b.fx.Send) != 1 || len(h) != 1 || h[0].Hello.MaxVersion != MaxProtocol {
		t.Fatalf("%+v", b.fx.Send)
	}
	b.step(Received{Conn: 1, Message: r.hello(0)})
	if d := sent[*wire.Control_Digest](b.fx, 1); len(d) != 1 || len(d[0].Digest.Entries) != 2 {
		t.Fatalf("%+v", b.fx.Send)
	}
	b.all = Effects{}
	b.run(digestInterval)
	if d := sent[*wire.Control_Digest](b.all, 1); len(d) != 1 {
		t.Errorf("%d digests in 30 s", len(d))
	}
}

func TestDigestAsksForWhatIsMissing(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	entry := func(n byte, uid, version uint64) *wire.Digest_Entry {
		name := Name{2, 5: n}
		return &wire.Digest_Entry{Name: name[:], Uid: uid, Version: version}
	}
	b.step(Received{Conn: 1, Message: &wire.Control{Kind: &wire.Control_Digest{Digest: &wire.Digest{Entries: []*wire.Digest_Entry{
		entry(2, 102, 1), entry(2, 102, 0), entry(3, 1, 1), entry(2, 103, 1), {Name: []byte{1}},
	}}}}})
	w := sent[*wire.Control_Want](b.fx, 1)
	if len(w) != 1 || len(w[0].Want.Names) != 2 || w[0].Want.Names[0][5] != 3 || w[0].Want.Names[1][5] != 2 {
		t.Fatalf("%v", w)
	}
}

func TestNewsIsPassedOnOnce(t *testing.T) {
	b := newBench(t, testConfig(1))
	src, other, direct, far := newRemote(2), newRemote(3), newRemote(4), newRemote(5)
	b.join(1, src, "")
	b.join(2, other, "")
	b.join(3, direct, "")
	b.run(time.Second)
	b.all = Effects{}
	msg := far.publish(2, 4) // its peer has connections with 2 and 4
	b.step(Received{Conn: 1, Message: msg})
	b.step(Received{Conn: 1, Message: msg})
	b.run(time.Second)
	for c, want := range map[ConnID]int{1: 0, 2: 1, 3: 0} {
		if got := len(sent[*wire.Control_Records](b.all, c)); got != want {
			t.Errorf("connection %d got %d messages, want %d", c, got, want)
		}
	}
	got := sent[*wire.Control_Records](b.all, 2)[0].Records.Records
	if len(got) != 1 || !proto.Equal(got[0], msg.GetRecords().Records[0]) {
		t.Error("passed on in other bytes")
	}
}

func TestOwnChangesAreCoalesced(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	b.run(time.Second)
	b.all = Effects{}
	for i := range byte(20) {
		b.join(ConnID(i)+10, newRemote(i+10), "")
		b.run(4 * time.Millisecond)
	}
	b.run(ownInterval)
	versions := make(map[uint64]bool)
	for _, r := range sent[*wire.Control_Records](b.all, 1) {
		for _, w := range r.Records.Records {
			if s, err := OpenRecord(w); err == nil && s.Record.Name == b.m.cfg.Name {
				versions[s.Record.Version] = true
			}
		}
	}
	if len(versions) > 3 || b.m.own.signed.Record.Version == 0 || b.m.own.signed.Record.Links.Len() != 21 {
		t.Errorf("%d versions, %d links", len(versions), b.m.own.signed.Record.Links.Len())
	}
}

func TestGarbageNeverCuts(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	for _, m := range []*wire.Control{
		nil,
		{},
		{Kind: &wire.Control_Records{}},
		{Kind: &wire.Control_Records{Records: &wire.Records{Records: []*wire.SignedRecord{nil, {}}}}},
		{Kind: &wire.Control_Digest{Digest: &wire.Digest{Entries: []*wire.Digest_Entry{nil, {Name: []byte("x")}}}}},
		{Kind: &wire.Control_Want{Want: &wire.Want{Names: [][]byte{nil, {1}}}}},
		{Kind: &wire.Control_Want{}},
		newRemote(2).hello(1),
	} {
		b.step(Received{Conn: 1, Message: m})
	}
	if len(b.view.Neighbours) != 1 || len(b.all.Close) != 0 {
		t.Error("cut")
	}
	if c := b.m.Counters(); c.BadMessages == 0 || c.BadRecords == 0 {
		t.Errorf("%+v", c)
	}
}

// FuzzStep drives one Mesh with inputs made from the fuzzer's bytes; invariants
// must hold and nothing may panic.
func FuzzStep(f *testing.F) {
	for _, c := range []*wire.Control{newRemote(2).hello(7), newRemote(3).publish(1, 2), {Kind: &wire.Control_Heartbeat{}}} {
		raw, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint64(1), raw)
	}
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		var msg wire.Control
		if err := proto.Unmarshal(raw, &msg); err != nil {
			return
		}
		play(t, seed, &msg)
	})
}

// TestRandomInputs is FuzzStep's game with a fixed set of seeds.
func TestRandomInputs(t *testing.T) {
	for seed := range uint64(60) {
		play(t, seed, newRemote(byte(seed%5)).publish(byte(seed%7+1)))
	}
}

// play mixes the message with all other inputs in a random order, over time.
func play(t *testing.T, seed uint64, msg *wire.Control) {
	rng := rand.New(rand.NewPCG(seed, 2))
	cfg := testConfig(1)
	cfg.ConnLimit = rng.IntN(4)
	m := NewMesh(cfg)
	now := epoch
	for range 60 {
		now = now.Add(time.Duration(rng.Int64N(int64(8 * time.Second))))
		in := randomInput(rng, msg)
		fx := m.Step(now, in)
		if err := m.Check(); err != nil {
			t.Fatalf("after %#v: %v", in, err)
		}
		if at := m.Deadline(); !at.After(now) {
			t.Fatalf("after %#v: deadline %s at %s", in, at, now)
		}
		for _, s := range fx.Send {
			if _, err := proto.Marshal(s.Message); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func randomInput(rng *rand.Rand, msg *wire.Control) Input {
	r := newRemote(byte(rng.IntN(5)) + 1)
	r.record.UID += uint64(rng.IntN(2))
	c := ConnID(rng.IntN(8))
	addr := r.addr().String()
	switch rng.IntN(13) {
	case 12:
		return Received{Conn: c, Message: randomGossip(rng, r.record.Name)}
	case 0:
		return Connect{Targets: []string{addr, "seed"}, Replace: rng.IntN(2) == 0}
	case 1:
		return Forget{Targets: []string{addr}}
	case 2:
		return DialFailed{Address: addr, Reason: "x"}
	case 3:
		return ConnUp{Conn: c, Dialled: addr, Remote: r.addr(), Static: r.id.X25519Public()}
	case 4:
		return ConnUp{Conn: c, Remote: r.addr(), Static: r.id.X25519Public()}
	case 5:
		return ConnDown{Conn: c, Reason: "x"}
	case 6:
		return PathChanged{Peer: r.record.Name, Up: rng.IntN(3) > 0, RTT: time.Duration(rng.IntN(1e7)), Overlay: "sleeve"}
	case 7:
		return LocalAddresses{Addresses: []string{addr}}
	case 8:
		return Unpin{Names: []Name{r.record.Name}}
	case 9:
		return Received{Conn: c, Message: msg}
	case 10:
		return Received{Conn: c, Message: r.publish(byte(rng.IntN(6)) + 1)}
	default:
		return Received{Conn: c, Message: r.hello(rng.Uint64())}
	}
}

func randomGossip(rng *rand.Rand, n Name) *wire.Control {
	entries := []*wire.Digest_Entry{{Name: n[:], Uid: rng.Uint64(), Version: rng.Uint64() >> rng.IntN(64)}}
	switch rng.IntN(7) {
	case 0:
		return &wire.Control{Kind: &wire.Control_Summary{Summary: &wire.Summary{Root: rng.Uint64(), Sums: make([]uint32, rng.IntN(2)*buckets)}}}
	case 1:
		return &wire.Control{Kind: &wire.Control_Part{Part: &wire.Part{Buckets: rng.Uint64(), Entries: entries, Answer: rng.IntN(2) == 0}}}
	case 2:
		return &wire.Control{Kind: &wire.Control_Announce{Announce: &wire.Announce{Entries: entries}}}
	case 3:
		return &wire.Control{Kind: &wire.Control_Graft{Graft: &wire.Graft{Names: [][]byte{n[:]}}}}
	case 4:
		return &wire.Control{Kind: &wire.Control_Prune{}}
	case 5:
		return &wire.Control{Kind: &wire.Control_Need{}}
	default:
		return needMessage(rng.IntN(2) == 0, rng.IntN(2) == 0)
	}
}
