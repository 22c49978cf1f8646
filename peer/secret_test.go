package peer

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func fakeSecret(n byte) Secret { return secretFrom([32]byte{n}) }

// Whatever two ends accept, both pick the same secret, one that both have.
func TestCommonSecretIsTheSameOnBothEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string) (out []Secret) {
			for _, n := range rapid.SliceOfNDistinct(rapid.Byte(), 0, maxSecrets, rapid.ID).Draw(t, what) {
				out = append(out, fakeSecret(n%12))
			}
			return out
		}
		ours, theirs := draw("ours"), draw("theirs")
		a, okA := CommonSecret(ours, IDsOf(theirs))
		b, okB := CommonSecret(theirs, IDsOf(ours))
		if a != b || okA != okB {
			t.Fatalf("%x %v here, %x %v there", a[:1], okA, b[:1], okB)
		}
		has := func(list []Secret) bool {
			return slices.ContainsFunc(list, func(s Secret) bool { return s.PSK == a })
		}
		if both := has(ours) && has(theirs); okA && both != (len(ours)+len(theirs) > 0) {
			t.Fatalf("picked %x", a[:1])
		}
	})
}

func TestSecretLists(t *testing.T) {
	var list []Secret
	for n := range byte(maxSecrets) {
		var err error
		if list, err = AddSecret(list, fakeSecret(n)); err != nil {
			t.Fatal(err)
		}
		if _, err = AddSecret(list, fakeSecret(n)); err == nil {
			t.Error("added twice")
		}
	}
	if _, err := AddSecret(list, fakeSecret(200)); err == nil {
		t.Error("more than there may be")
	}
	again, err := UnmarshalSecrets(MarshalSecrets(list))
	if err != nil || !slices.Equal(again, list) {
		t.Errorf("%v, %v", again, err)
	}
	for _, bad := range [][]byte{make([]byte, 31), make([]byte, 32*maxSecrets+32)} {
		if _, err := UnmarshalSecrets(bad); err == nil {
			t.Errorf("%d bytes were taken", len(bad))
		}
	}
	for len(list) > 1 {
		if list, err = RetireSecret(list, list[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := RetireSecret(list, list[0].ID); err == nil {
		t.Error("retired the last one")
	}
	if _, err := RetireSecret(list, 1); err == nil {
		t.Error("retired one that is not there")
	}
	if a, b := SecretOf("one"), SecretOf("two"); a.ID == b.ID || a.ID != SecretOf("one").ID || bytes.Contains(a.PSK[:], []byte("one")) {
		t.Error("IDs do not tell passwords apart")
	}
}

// A record tells which passwords are accepted, where others are reached that cannot know it, and which links are slow
// for want of UDP.
func TestRecordTellsOfLinks(t *testing.T) {
	b := newBench(t, testConfig(1))
	r := newRemote(2)
	r.record.Addresses = []string{"192.0.2.2:6783"}
	b.join(1, r, "")
	up := func(in PathChanged) Link {
		t.Helper()
		in.Peer, in.Up, in.RTT = r.record.Name, true, time.Millisecond
		b.step(in)
		b.run(2 * time.Second)
		return b.view.Self.Connections.At(0)
	}
	if l := up(PathChanged{Address: r.addr()}); l.Observed != "" || l.Stream {
		t.Errorf("%+v: an address that the peer tells itself was published", l)
	}
	direct := direct(99)
	if l := up(PathChanged{Address: direct.Addr}); l.Observed != direct.Addr.String() {
		t.Errorf("%+v", l)
	}
	if l := up(PathChanged{Stream: true}); l.Observed != "" || !l.Stream {
		t.Errorf("%+v", l)
	}
	ids := IDsOf([]Secret{fakeSecret(1), fakeSecret(2)})
	b.step(Secrets{IDs: ids})
	b.run(2 * time.Second)
	if !slices.Equal(b.view.Self.Secrets, ids) {
		t.Errorf("secrets %v", b.view.Self.Secrets)
	}
}

// Peers that no connection leads to are looked for where others see them, first of all.
func TestCandidatesThroughANAT(t *testing.T) {
	b := newBench(t, testConfig(1))
	middle, far := newRemote(2), newRemote(3)
	b.join(1, middle, "")
	far.record.Addresses = []string{"10.0.0.3:6783"}
	far.record.Links = MakeLinks(Link{Peer: middle.record.Name, Established: true, Address: "192.0.2.2:6783"})
	middle.record.Version++
	middle.record.Links = MakeLinks(
		Link{Peer: b.m.cfg.Name, Established: true, Address: "192.0.2.1:6783"},
		Link{Peer: far.record.Name, Established: true, Address: "198.51.100.3:55555", Observed: "198.51.100.3:40003"},
	)
	b.step(Received{Conn: 1, Message: records(middle.id.SignRecord(middle.record), far.id.SignRecord(far.record))})
	b.run(2 * time.Second)
	got := b.view.Candidates(far.record.Name)
	var texts []string
	for _, a := range got {
		texts = append(texts, a.String())
	}
	want := []string{"198.51.100.3:40003", "198.51.100.3:6783", "10.0.0.3:6783"}
	if !slices.Equal(texts, want) {
		t.Errorf("candidates %v, want %v", texts, want)
	}
}
