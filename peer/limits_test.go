package peer

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

func TestFloodIsThrottled(t *testing.T) {
	b := newBench(t, testConfig(1))
	bad, good := newRemote(2), newRemote(3)
	b.join(1, bad, "")
	b.join(2, good, "")
	b.run(time.Second)
	news := b.m.counters.RecordsNew
	checked := b.m.counters.Verified
	for range 3000 {
		b.step(Received{Conn: 1, Message: bad.publish(1)})
	}
	if got := b.m.counters.RecordsNew - news; got > versionBurst {
		t.Errorf("%d versions taken", got)
	}
	if got := b.m.counters.Verified - checked; got > versionBurst {
		t.Errorf("%d signatures looked at", got)
	}
	if b.m.counters.Throttled == 0 || b.conn(bad.addr().String()).Trouble != "publishes its record too often" {
		t.Errorf("%d throttled, %q", b.m.counters.Throttled, b.conn(bad.addr().String()).Trouble)
	}
	b.step(Received{Conn: 2, Message: good.publish(1)})
	if held := b.m.topo.crdt.get(good.record.Name); held.Record.Version != good.record.Version {
		t.Error("another peer was not heard")
	}
	b.run(10 * time.Second) // and the flooder is heard again when it is quiet
	b.step(Received{Conn: 1, Message: bad.publish(1, 3)})
	if held := b.m.topo.crdt.get(bad.record.Name); held.Record.Version != bad.record.Version {
		t.Error("not heard after the flood")
	}
	if len(b.view.Neighbours) != 2 {
		t.Error("cut")
	}
}

func TestForgeriesCostTheForger(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	b.join(2, newRemote(3), "")
	victim := newRemote(9)
	w := victim.id.SignRecord(victim.record).Wire()
	checked := b.m.counters.Verified
	for i := range 20000 {
		sig := make([]byte, len(w.Signature))
		copy(sig, fmt.Sprint(i))
		b.step(Received{Conn: 1, Message: &wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{
			Records: []*wire.SignedRecord{{Record: w.Record, Signature: sig}},
		}}}})
	}
	if got := b.m.counters.Verified - checked; got > workBurst/costBad+10 {
		t.Errorf("%d signatures looked at", got)
	}
	if b.m.counters.Throttled == 0 {
		t.Error("nothing counted")
	}
	b.step(Received{Conn: 2, Message: records(victim.id.SignRecord(victim.record))})
	if b.m.topo.crdt.get(victim.record.Name) == nil {
		t.Error("the true record is not heard from another neighbour")
	}
}

func TestRequestsAreThrottled(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	for i := range byte(100) {
		r := newRemote(i + 10)
		b.step(Received{Conn: 1, Message: records(r.id.SignRecord(r.record))})
	}
	var want wire.Want
	for i := range byte(100) {
		name := newRemote(i + 10).record.Name
		want.Names = append(want.Names, name[:])
	}
	b.all = Effects{}
	for range 10000 {
		b.step(Received{Conn: 1, Message: &wire.Control{Kind: &wire.Control_Want{Want: &want}}})
	}
	if got := len(sent[*wire.Control_Records](b.all, 1)); got > workBurst/(costMessage+100/perListed) {
		t.Errorf("%d answers", got)
	}
}

func TestInventedPeersAreBounded(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	b.step(Received{Conn: 1, Message: &wire.Control{Kind: &wire.Control_Digest{Digest: &wire.Digest{
		Entries: make([]*wire.Digest_Entry, maxListed+1),
	}}}})
	var a wire.Announce
	for i := range maxListed {
		name := Name{2, 7, 0, byte(i >> 16), byte(i >> 8), byte(i)}
		a.Entries = append(a.Entries, &wire.Digest_Entry{Name: name[:], Version: 1})
	}
	for range 10 {
		b.step(Received{Conn: 1, Message: &wire.Control{Kind: &wire.Control_Announce{Announce: &a}}})
	}
	if len(b.m.gossip.missing) > maxListed {
		t.Errorf("%d missing", len(b.m.gossip.missing))
	}
	b.run(2 * digestInterval)
	if n := len(b.m.gossip.missing) + len(b.m.gossip.asked); n > 0 {
		t.Errorf("%d names still remembered", n)
	}
	if b.m.counters.TooMany == 0 {
		t.Error("nothing counted")
	}
}

// TestNewerProtocolPasses: unknown kinds are counted, cost no more than any
// message and are no reproach; unknown fields of a record are passed on.
func TestNewerProtocolPasses(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	b.join(1, r, "")
	b.join(2, newRemote(3), "")
	b.run(time.Second)
	var unknown wire.Control
	if err := proto.Unmarshal(protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 1), &unknown); err != nil {
		t.Fatal(err)
	}
	b.step(Received{Conn: 1, Message: &unknown})
	if c := b.m.counters; c.UnknownKinds != 1 || c.BadMessages != 0 || b.conn(r.addr().String()).Trouble != "" {
		t.Errorf("%+v", c)
	}
	far := newRemote(9)
	raw := far.id.SignRecord(far.record).bytes
	raw = protowire.AppendVarint(protowire.AppendTag(raw, 900, protowire.VarintType), 1)
	s := &wire.SignedRecord{Record: raw, Signature: far.id.Sign(appendSigned(nil, raw))}
	b.all = Effects{}
	b.step(Received{Conn: 1, Message: &wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{Records: []*wire.SignedRecord{s}}}}})
	b.run(time.Second)
	got := sent[*wire.Control_Records](b.all, 2)
	if len(got) != 1 || !proto.Equal(got[0].Records.Records[0], s) {
		t.Error("not passed on as it was signed")
	}
}

// TestRecordsSayNothingOfTime: a peer whose clock is wrong by years is as good
// as any, because nothing that is exchanged has a time in it. What could be one
// is its version, and that may be any number.
func TestRecordsSayNothingOfTime(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	r.record.Version = 1 << 62
	b.join(1, r, "")
	b.step(Received{Conn: 1, Message: r.publish(1)})
	b.run(time.Second)
	if len(b.view.Peers) != 2 || b.m.counters.refusals() != 0 {
		t.Errorf("%d peers", len(b.view.Peers))
	}
}
