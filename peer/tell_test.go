package peer

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// letter makes a letter as its sender would sign it.
func (r *remote) letter(seq uint64, to Name, data string) *wire.Control {
	l := &wire.Letter{Channel: uint32(ChannelDNS), From: r.record.Name[:], Uid: r.record.UID, Seq: seq, Data: []byte(data)}
	if !to.IsZero() {
		l.To = to[:]
	}
	raw, err := proto.Marshal(l)
	if err != nil {
		panic(err)
	}
	return &wire.Control{Kind: &wire.Control_Tell{Tell: &wire.Tell{
		Letter: raw, Signature: r.id.Sign(append([]byte(tellPrefix), raw...)), Hops: 2,
	}}}
}

func TestLetters(t *testing.T) {
	b := newBench(t, testConfig(1))
	r, next := newRemote(2), newRemote(3)
	b.join(1, r, "")
	b.join(2, next, "")
	heard := func(msg *wire.Control) int {
		t.Helper()
		return len(b.step(Received{Conn: 1, Message: msg}).Heard)
	}
	if heard(r.letter(1, Name{}, "x")) != 1 || len(sent[*wire.Control_Tell](b.fx, 2)) != 1 || len(sent[*wire.Control_Tell](b.fx, 1)) != 0 {
		t.Error("a letter to everybody must be heard here and passed on to the other neighbour only")
	}
	if heard(r.letter(1, Name{}, "x")) != 0 || len(sent[*wire.Control_Tell](b.fx, 2)) != 0 {
		t.Error("heard or passed on twice")
	}
	if heard(r.letter(3, b.m.cfg.Name, "x")) != 1 || heard(r.letter(2, b.m.cfg.Name, "x")) != 1 || heard(r.letter(2, b.m.cfg.Name, "x")) != 0 {
		t.Error("out of order is fine, twice is not")
	}
	if heard(r.letter(100, next.record.Name, "x")) != 0 || len(sent[*wire.Control_Tell](b.fx, 2)) != 1 {
		t.Error("a letter to another must be passed on only")
	}
	if got := sent[*wire.Control_Tell](b.fx, 2)[0].Tell.GetHops(); got != 1 {
		t.Errorf("%d hops left, want 1", got)
	}
	if heard(r.letter(30, b.m.cfg.Name, "too late")) != 0 {
		t.Error("heard a letter from before the window")
	}
	last := r.letter(101, next.record.Name, "x")
	last.GetTell().Hops = 1
	if heard(last); len(sent[*wire.Control_Tell](b.fx, 2)) != 0 {
		t.Error("passed on beyond its last hop")
	}
}

func TestBadLettersAreCounted(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	b.join(1, r, "")
	forged := r.letter(1, Name{}, "x")
	forged.GetTell().Letter[len(forged.GetTell().Letter)-1] ^= 1
	garbage := &wire.Control{Kind: &wire.Control_Tell{Tell: &wire.Tell{Letter: []byte{0xff}}}}
	stranger := newRemote(9).letter(1, Name{}, "x")
	for _, msg := range []*wire.Control{forged, garbage, stranger, {Kind: &wire.Control_Tell{}}} {
		if fx := b.step(Received{Conn: 1, Message: msg}); len(fx.Heard) > 0 || len(fx.Close) > 0 {
			t.Errorf("%v: %+v", msg, fx)
		}
	}
	if c := b.m.Counters(); c.BadSignatures != 1 || c.BadMessages != 2 || c.LettersStale != 1 {
		t.Errorf("%+v", c)
	}
	if b.step(Tell{Data: make([]byte, MaxTell+1)}); len(b.fx.Send) != 0 || len(b.fx.Events) != 1 {
		t.Error("a message that is too long must be refused with an event")
	}
	b.step(Tell{Channel: ChannelIPAM, Data: []byte("hello")})
	if out := sent[*wire.Control_Tell](b.fx, 1); len(out) != 1 {
		t.Errorf("%d letters sent", len(out))
	}
}

func FuzzLetter(f *testing.F) {
	r := newRemote(2)
	f.Add(r.letter(1, Name{}, "x").GetTell().GetLetter())
	f.Fuzz(func(_ *testing.T, raw []byte) {
		var l wire.Letter
		_, _, _ = readLetter(&wire.Tell{Letter: raw}, &l)
	})
}
