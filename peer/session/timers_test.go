package session

import (
	"testing"
	"time"
)

// counts of what a step asked for.
func (x *end) sentInitiation() bool {
	for _, m := range x.take() {
		if m[0] == typeInitiation {
			return true
		}
	}
	return false
}

func TestInitiatorRenewsKeypairInUse(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	old, _ := connect(a, b)
	advance(119*time.Second, a, b)
	a.deliver(b, "x")
	b.deliver(a, "y")
	a.step(Tick{})
	if a.sentInitiation() {
		t.Fatal("renewed after 119 s")
	}
	advance(2*time.Second, a, b)
	a.step(Tick{})
	if a.sentInitiation() {
		t.Fatal("renewed a keypair that was not sent with after 120 s")
	}
	late := a.sealTo(b, "sealed with the old keypair")
	b.deliver(a, "y")
	b.step(Tick{})
	if b.sentInitiation() {
		t.Fatal("the responder renewed")
	}
	advance(time.Second, a, b)
	a.step(Tick{})
	b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
	if b.keysFor(a).Next() == nil || b.keysFor(a).Sending() == nil {
		t.Fatal("while the new keypair waits, the old one is to be used")
	}
	a.step(Datagram{From: b.addr, Bytes: b.takeOne()})
	a.deliver(b, "")
	if k := a.keysFor(b); k.Current() == old || k.Previous() != old {
		t.Error("the old keypair should be the previous one")
	}
	if got, err := b.open(late); err != nil || len(got) == 0 {
		t.Errorf("a message under way while keys changed: %v", err)
	}
}

func TestInitiatorRenewsWhenItOnlyReceives(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	connect(a, b)
	advance(164*time.Second, a, b)
	b.deliver(a, "x")
	a.step(Tick{})
	if a.sentInitiation() {
		t.Fatal("renewed after 164 s")
	}
	advance(2*time.Second, a, b)
	b.deliver(a, "x")
	a.step(Tick{})
	if !a.sentInitiation() {
		t.Fatal("did not renew after 166 s")
	}
}

func TestIdleKeypairExpiresAndIsZeroed(t *testing.T) {
	a, b := newEnds(t, SuiteAESGCM, Config{})
	ka, kb := connect(a, b)
	late, _ := ka.Seal(nil, nil)
	for a.now.Before(epoch.Add(179 * time.Second)) {
		advance(time.Second, a, b)
		a.step(Tick{})
	}
	if len(a.take()) != 0 || a.keysFor(b).Sending() == nil {
		t.Fatal("an idle keypair was renewed or dropped before 180 s")
	}
	advance(time.Second, a, b)
	if _, err := ka.Seal(nil, nil); err != ErrExpired || a.keysFor(b).Sending() != nil {
		t.Errorf("sealing after 180 s: %v", err)
	}
	if _, err := kb.Open(late); err != ErrExpired {
		t.Errorf("opening after 180 s: %v", err)
	}
	for _, x := range []*end{a, b} {
		if e := x.step(Tick{}); len(e.Retire) != 1 {
			t.Errorf("after 180 s: %+v", e)
		}
		if d := x.m.Deadline(); !d.IsZero() {
			t.Errorf("nothing is pending, the deadline is %v", d)
		}
	}
	for _, k := range []*Keypair{ka, kb} {
		if !zeroed(k.send) || !zeroed(k.receive) {
			t.Error("an expired keypair's keys are still in memory")
		}
	}
}

func TestKeepaliveIsPassive(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	connect(a, b)
	for range 20 { // keepalives are not answered
		advance(time.Second, a, b)
		if e := b.step(Tick{}); len(e.Keepalive) != 0 {
			t.Fatal("a keepalive was answered")
		}
	}
	a.deliver(b, "data")
	advance(5*time.Second, a, b)
	a.deliver(b, "more data, which does not put the keepalive off")
	advance(4*time.Second, a, b)
	if e := b.step(Tick{}); len(e.Keepalive) != 0 {
		t.Fatal("a keepalive after 9 s")
	}
	advance(time.Second, a, b)
	if e := b.step(Tick{}); len(e.Keepalive) != 1 || e.Keepalive[0] != a.m.PublicKey() {
		t.Fatal("no keepalive after 10 s")
	}
	b.deliver(a, "")
	a.deliver(b, "data")
	b.deliver(a, "an answer")
	advance(11*time.Second, a, b)
	if e := b.step(Tick{}); len(e.Keepalive) != 0 {
		t.Fatal("a keepalive although data was answered")
	}
}

func TestSilenceBeginsHandshake(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	connect(a, b)
	for _, x := range []*end{b, a} { // the responder of the keypair too
		y := map[*end]*end{a: b, b: a}[x]
		x.sealTo(y, "lost")
		advance(14*time.Second, a, b)
		x.step(Tick{})
		if x.sentInitiation() {
			t.Fatal("a handshake after 14 s")
		}
		advance(time.Second, a, b)
		x.step(Tick{})
		if !x.sentInitiation() {
			t.Fatal("no handshake after 15 s of silence")
		}
	}
}

func TestRetryAndGiveUp(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	for range 2 { // and a second time: a later Want begins anew
		began, last, sent := a.now, time.Time{}, 0
		a.step(Want{Key: b.m.PublicKey()})
		for a.failed == 0 {
			if a.sentInitiation() {
				gap := a.now.Sub(last)
				if sent > 0 && (gap < 5*time.Second || gap > 5*time.Second+334*time.Millisecond) {
					t.Errorf("repeated after %v", gap)
				}
				sent++
				last = a.now
			}
			a.step(Want{Key: b.m.PublicKey()}) // changes nothing
			a.now = a.m.Deadline()
			a.step(Tick{})
		}
		if d := a.now.Sub(began); d < 90*time.Second || d > 101*time.Second {
			t.Errorf("gave up after %v", d)
		}
		if sent < 16 || sent > 19 {
			t.Errorf("%d initiations", sent)
		}
		if !a.m.Deadline().IsZero() || len(a.m.indexes) != 0 {
			t.Error("something is left of the attempt")
		}
		a.failed = 0
	}
}

func TestMessageLimits(t *testing.T) {
	limits := Limits{RekeyAfterMessages: 10, RejectAfterMessages: 20}
	a, b := newEnds(t, SuiteWireGuard, Config{Limits: limits})
	ka, kb := connect(a, b)
	for _, k := range []*Keypair{kb, ka} { // the responder renews too
		x := map[*Keypair]*end{ka: a, kb: b}[k]
		for k.counter.Load() < 10 {
			if _, err := k.Seal(nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		advance(5*time.Second, a, b)
		x.step(Tick{})
		if !x.sentInitiation() {
			t.Error("no renewal after 10 messages")
		}
	}
	for ka.counter.Load() < 20 {
		if _, err := ka.Seal(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := ka.Seal(nil, nil); err != ErrExhausted || ka.counter.Load() != 20 {
			t.Errorf("the 21st message: %v, counter %d", err, ka.counter.Load())
		}
	}
	if a.keysFor(b).Sending() != nil {
		t.Error("an exhausted keypair is offered for sending")
	}
}

func TestDefaultLimits(t *testing.T) {
	l := Limits{}.withDefaults()
	if l.rekey(SuiteWireGuard) != 1<<60 || l.reject(SuiteWireGuard) != 1<<64-1<<13-1 {
		t.Error("not the paper's message limits")
	}
	if l.rekey(SuiteAESGCM) != 1<<26 || l.reject(SuiteAESGCM) != 1<<32 {
		t.Error("not GCM's message limits")
	}
}

// TestClockSetBack checks that our initiations stay acceptable when the wall clock is set back, and that the coarse
// clock never goes back.
func TestClockSetBack(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	connect(a, b)
	advance(10*time.Second, a, b)
	a.clock.Advance(epoch)
	if got := a.clock.time(a.clock.stamp()); !got.Equal(a.now) {
		t.Errorf("the clock went back to %v", got)
	}
	a.now = epoch.Add(-time.Hour)
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
	if len(b.dropped) != 0 {
		t.Errorf("dropped for %v", b.dropped)
	}
}
