package session

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wantDrops compares and forgets what an end dropped so far.
func (x *end) wantDrops(want ...DropReason) {
	x.t.Helper()
	if diff := cmp.Diff(want, x.dropped); diff != "" {
		x.t.Errorf("drops (-want +got):\n%s", diff)
	}
	x.dropped = nil
}

// reMAC puts a valid mac1 under a message for an end that was tampered with.
func reMAC(msg []byte, to *end) []byte {
	msg = bytes.Clone(msg)
	covered, value := mac1Part(msg)
	sum := mac(to.m.macs.mac1[:], covered)
	copy(value, sum[:])
	return msg
}

func TestReplayedInitiation(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	a.step(Want{Key: b.m.PublicKey()})
	first := a.takeOne()
	b.step(Datagram{From: a.addr, Bytes: first})
	b.take()
	advance(time.Minute, a, b)
	b.step(Datagram{From: a.addr, Bytes: first})
	b.wantDrops(DropReplay)
	if len(b.take()) != 0 {
		t.Error("a replayed initiation was answered")
	}
	a.step(Tick{})
	b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
	b.wantDrops()
	b.step(AddPeer{Key: a.m.PublicKey()}) // being configured again must not open the door
	b.step(Datagram{From: a.addr, Bytes: first})
	b.wantDrops(DropReplay)
}

func TestInitiationFlood(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{Limits: Limits{RekeyTimeout: time.Millisecond}})
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
	advance(19*time.Millisecond, a, b)
	a.step(Tick{})
	second := a.takeOne()
	b.step(Datagram{From: a.addr, Bytes: second})
	b.wantDrops(DropFlood)
	advance(time.Millisecond, a, b)
	b.step(Datagram{From: a.addr, Bytes: second})
	b.wantDrops()
}

func TestRefusals(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	stranger := newEnd(t, 200, addrA, Config{})
	stranger.step(AddPeer{Key: b.m.PublicKey()})
	stranger.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{Bytes: stranger.takeOne()})
	b.wantDrops(DropUnknownPeer)

	a.step(Want{Key: b.m.PublicKey()})
	good := a.takeOne()
	change := func(at int, to byte) []byte {
		m := bytes.Clone(good)
		m[at] = to
		return m
	}
	b.step(Datagram{Bytes: change(20, good[20]+1)})
	b.wantDrops(DropMAC1)
	b.step(Datagram{Bytes: reMAC(change(20, good[20]+1), b)})
	b.wantDrops(DropForged)
	b.step(Datagram{Bytes: reMAC(change(1, byte(SuiteAESGCM)), b)}) // another prologue
	b.wantDrops(DropForged)
	b.step(Datagram{Bytes: change(1, 3)})
	b.wantDrops(DropSuite)
	b.step(Datagram{Bytes: reMAC(change(1, byte(SuiteClear)), b)})
	b.wantDrops(DropForged)
	b.step(Datagram{Bytes: change(1, 255)})
	b.wantDrops(DropSuite)
	for _, bad := range [][]byte{nil, {}, {1}, change(0, 4), change(0, 2), change(2, 1), change(3, 1), good[:147]} {
		b.step(Datagram{Bytes: bad})
		b.wantDrops(DropMalformed)
	}
	b.step(Datagram{Bytes: good})
	b.wantDrops()

	var response [responseLen]byte
	response[0] = typeResponse
	a.step(Datagram{Bytes: reMAC(response[:], a)})
	a.wantDrops(DropUnknownIndex)
	cookie := newCookieReply(5)[:cookieLen]
	a.step(Datagram{Bytes: cookie})
	a.wantDrops(DropUnknownIndex)
	a.step(Want{Key: PublicKey{1}})
	a.wantDrops(DropUnknownPeer)
	a.step(AddPeer{Key: a.m.PublicKey()})
	a.step(AddPeer{Key: PublicKey{}}) // of low order
	a.step(AddPeer{Key: stranger.m.PublicKey(), Suite: 9})
	a.wantDrops(DropBadPeer, DropBadPeer, DropBadPeer)
	a.step(RemovePeer{Key: PublicKey{1}})
}

func TestWrongPSK(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	b.step(AddPeer{Key: a.m.PublicKey(), PSK: [32]byte{8}})
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{Bytes: a.takeOne()})
	a.step(Datagram{Bytes: b.takeOne()})
	a.wantDrops(DropForged)
}

// TestForgedResponses: whoever saw our initiation can send a response with our index and a valid mac1. None may keep
// the true one from being accepted.
func TestForgedResponses(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{Bytes: a.takeOne()})
	good := b.takeOne()
	lowOrder, random := bytes.Clone(good), bytes.Clone(good)
	clear(lowOrder[12:44])
	if _, err := rand.Read(random[12:60]); err != nil {
		t.Fatal(err)
	}
	otherSuite := bytes.Clone(good)
	otherSuite[1] = byte(SuiteAESGCM)
	for _, bad := range [][]byte{lowOrder, random, otherSuite, lowOrder} {
		a.step(Datagram{Bytes: reMAC(bad, a)})
	}
	a.wantDrops(DropForged, DropForged, DropSuite, DropForged)
	if n := len(a.m.peers[b.m.PublicKey()].attempt.shake.residue.secrets); n != 3 {
		t.Errorf("%d secrets are kept, want the ephemeral key and two shared ones", n)
	}
	a.step(Datagram{Bytes: good})
	a.wantDrops()
	a.deliver(b, "works")
	a.step(Datagram{Bytes: good})
	a.wantDrops(DropUnknownIndex)
}

// TestReaddressedResponse: the handshake does not cover the receiver index, so a true response may be sent on with the
// index of a keypair in use, which it must not take over.
func TestReaddressedResponse(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	k, _ := connect(a, b)
	advance(6*time.Second, a, b)
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{Bytes: a.takeOne()})
	good := b.takeOne()
	bad := bytes.Clone(good)
	binary.LittleEndian.PutUint32(bad[8:], k.LocalIndex())
	a.step(Datagram{Bytes: reMAC(bad, a)})
	a.wantDrops(DropUnknownIndex)
	a.step(Datagram{Bytes: good})
	a.deliver(b, "works")
}

func TestNoAES(t *testing.T) {
	a, b := newEnds(t, SuiteAESGCM, Config{NoAES: true})
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{Bytes: a.takeOne()})
	b.wantDrops(DropSuite)
	// Told so by other means, the initiator tries the other suite.
	a.step(AddPeer{Key: b.m.PublicKey(), PSK: [32]byte{7}, Suite: SuiteWireGuard})
	advance(6*time.Second, a, b)
	a.step(Tick{})
	b.step(Datagram{Bytes: a.takeOne()})
	a.step(Datagram{Bytes: b.takeOne()})
	a.deliver(b, "works")
}

func TestResponderWaitsForConfirmation(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
	k := b.last.Install[0].Keypair
	if b.last.Send[0].To != a.addr || b.keysFor(a).Sending() != nil || k.Confirmed() {
		t.Fatal("the responder should answer where the initiation came from, and wait")
	}
	if _, err := k.Seal(nil, nil); err != ErrUnconfirmed {
		t.Errorf("sealed unconfirmed: %v", err)
	}
	response := b.takeOne()
	b.step(Want{Key: a.m.PublicKey()}) // data waits; no second handshake at once
	a.step(Datagram{Bytes: response})
	a.deliver(b, "")
	if !k.Confirmed() || b.keysFor(a).Sending() != k {
		t.Error("the first data message should have confirmed the keypair")
	}
	for range 10 {
		advance(time.Second, a, b)
		b.step(Tick{})
	}
	if len(b.take()) != 0 {
		t.Error("the responder began a handshake of its own although the other succeeded")
	}
}

func TestBothBeginAtOnce(t *testing.T) {
	a, b := newEnds(t, SuiteAESGCM, Config{})
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Want{Key: a.m.PublicKey()})
	fromA, fromB := a.takeOne(), b.takeOne()
	a.step(Datagram{Bytes: fromB})
	b.step(Datagram{Bytes: fromA})
	fromA, fromB = a.takeOne(), b.takeOne()
	a.step(Datagram{Bytes: fromB})
	b.step(Datagram{Bytes: fromA})
	for range 3 {
		a.deliver(b, "there")
		b.deliver(a, "back")
	}
}

func TestRemovePeerAndClose(t *testing.T) {
	a, b := newEnds(t, SuiteAESGCM, Config{})
	ka, kb := connect(a, b)
	keys := a.keysFor(b)
	a.step(Want{Key: b.m.PublicKey()})
	advance(6*time.Second, a, b)
	a.step(Tick{})
	shake := a.m.peers[b.m.PublicKey()].attempt.shake
	if shake == nil {
		t.Fatal("no handshake under way")
	}
	if e := a.step(RemovePeer{Key: b.m.PublicKey()}); len(e.Retire) != 1 || e.Retire[0].Index != ka.LocalIndex() {
		t.Errorf("removing: %+v", e)
	}
	if shake.state != nil || !zeroed(ka.send) || !zeroed(ka.receive) || keys.Sending() != nil {
		t.Error("a removed peer's keys are still there")
	}
	if len(a.m.indexes) != 0 || a.m.Keys(b.m.PublicKey()) != nil {
		t.Error("a removed peer is still known")
	}
	private := b.m.noise.static.Private
	b.m.Close()
	b.m.Close()
	if !zeroed(kb.send) || !slices.Equal(private, make([]byte, 32)) || b.m.macs != (macKeys{}) {
		t.Error("a closed machine's keys are still there")
	}
	b.step(Want{Key: a.m.PublicKey()})
	if len(b.messages) != 0 || !b.m.Deadline().IsZero() {
		t.Error("a closed machine still works")
	}
}

func TestCookieUnderLoad(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	a.step(Want{Key: b.m.PublicKey()})
	first := a.takeOne()
	b.step(Datagram{From: a.addr, Bytes: first, UnderLoad: true})
	b.wantDrops(DropCookie)
	if b.last.Send[0].To != a.addr {
		t.Error("the cookie went elsewhere")
	}
	cookie := b.takeOne()
	forged := bytes.Clone(cookie)
	forged[40]++
	a.step(Datagram{Bytes: forged})
	a.wantDrops(DropForged)
	a.step(Datagram{Bytes: cookie})
	a.wantDrops()
	a.step(Datagram{Bytes: cookie}) // once only
	a.wantDrops(DropForged)
	if len(a.take()) != 0 {
		t.Error("a cookie must not make us send at once")
	}
	advance(6*time.Second, a, b)
	a.step(Tick{})
	second := a.takeOne()
	b.step(Datagram{From: addrB, Bytes: second, UnderLoad: true}) // a cookie is for one address
	b.wantDrops(DropCookie)
	b.take()
	b.step(Datagram{From: a.addr, Bytes: second, UnderLoad: true})
	b.wantDrops()
	response := b.takeOne()
	a.step(Datagram{From: b.addr, Bytes: response, UnderLoad: true}) // responses are under load too
	a.wantDrops(DropCookie)
	for range 10 {
		b.step(Datagram{From: a.addr, Bytes: second, UnderLoad: true})
	}
	got := b.dropped
	b.dropped = nil
	if !slices.Contains(got, DropRateLimited) || got[0] == DropRateLimited {
		t.Errorf("20 a second, 5 at once: %v", got)
	}
	advance(121*time.Second, a, b)
	b.step(Datagram{From: a.addr, Bytes: second, UnderLoad: true}) // the secret has changed
	b.wantDrops(DropCookie)
}

func TestLimiterIsBounded(t *testing.T) {
	var l limiter
	refused := 0
	for i := range limiterBound + 100 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if !l.allow(a, 1) {
			refused++
		}
	}
	if refused != 100 || len(l.buckets) != limiterBound {
		t.Errorf("%d refused, %d remembered", refused, len(l.buckets))
	}
	if !l.allow(netip.MustParseAddr("192.0.2.9"), int64(time.Second)) || len(l.buckets) != 1 {
		t.Error("idle sources are not forgotten")
	}
	// A /64 is one source.
	l = limiter{}
	allowed := 0
	for i := range 20 {
		a := netip.MustParseAddr("2001:db8::1").As16()
		binary.BigEndian.PutUint64(a[8:], uint64(i))
		if l.allow(netip.AddrFrom16(a), 1) {
			allowed++
		}
	}
	if allowed != 5 {
		t.Errorf("%d allowed at once", allowed)
	}
}
