package session

import (
	"bytes"
	"crypto/rand"
	"net/netip"
	"time"
)

// epoch is when every test with a clock of its own begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var (
	addrA = netip.MustParseAddrPort("192.0.2.1:6783")
	addrB = netip.MustParseAddrPort("[2001:db8::2]:6783")
)

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// end is a Machine with what a driver would hold: the receive indexes.
type end struct {
	t        tb
	m        *Machine
	addr     netip.AddrPort
	now      time.Time
	clock    *Clock
	receive  map[uint32]*Keypair
	last     Effects
	dropped  []DropReason
	failed   int
	messages [][]byte // handshake messages to the other end, not delivered yet
}

func privateKey(seed byte) (k [32]byte) {
	for i := range k {
		k[i] = seed + byte(i)
	}
	return k
}

func newEnd(t tb, seed byte, addr netip.AddrPort, cfg Config) *end {
	t.Helper()
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	cfg.Private, cfg.Clock = privateKey(seed), NewClock(epoch)
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &end{t: t, m: m, addr: addr, now: epoch, clock: cfg.Clock, receive: map[uint32]*Keypair{}}
}

// newEnds are two ends that know each other.
func newEnds(t tb, suite Suite, cfg Config) (a, b *end) {
	t.Helper()
	a, b = newEnd(t, 1, addrA, cfg), newEnd(t, 101, addrB, cfg)
	psk := [32]byte{7}
	a.step(AddPeer{Key: b.m.PublicKey(), PSK: psk, Suite: suite})
	b.step(AddPeer{Key: a.m.PublicKey(), PSK: psk, Suite: suite})
	return a, b
}

// step does what a driver does with effects, except sending.
func (x *end) step(in Input) Effects {
	x.t.Helper()
	e := x.m.Step(x.now, in)
	for _, i := range e.Install {
		x.receive[i.Keypair.LocalIndex()] = i.Keypair
	}
	for _, r := range e.Retire {
		k := x.receive[r.Index]
		if k == nil {
			x.t.Fatalf("retired an index that was never installed: %08x", r.Index)
		}
		if _, err := k.Seal(nil, nil); err != ErrExpired {
			x.t.Fatalf("a retired keypair still seals: %v", err)
		}
		delete(x.receive, r.Index)
	}
	for _, s := range e.Send {
		x.messages = append(x.messages, s.Bytes)
	}
	for _, d := range e.Dropped {
		x.dropped = append(x.dropped, d.Reason)
	}
	x.failed += len(e.Failed)
	if err := x.m.Check(); err != nil {
		x.t.Fatal(err)
	}
	x.last = e
	return e
}

// take returns the handshake messages that wait to be delivered.
func (x *end) take() [][]byte {
	out := x.messages
	x.messages = nil
	return out
}

func (x *end) takeOne() []byte {
	x.t.Helper()
	out := x.take()
	if len(out) != 1 {
		x.t.Fatalf("%d handshake messages wait, want one", len(out))
	}
	return out[0]
}

func (x *end) keysFor(y *end) *Keys { return x.m.Keys(y.m.PublicKey()) }

// open finds the keypair of a data message and opens it, leaving the message as it was.
func (x *end) open(msg []byte) ([]byte, error) {
	msg = bytes.Clone(msg)
	for _, k := range x.receive {
		if p, err := k.Open(msg); err != ErrMalformed {
			return p, err
		}
	}
	return nil, ErrMalformed
}

func (x *end) sealTo(y *end, plaintext string) []byte {
	x.t.Helper()
	k := x.keysFor(y).Sending()
	if k == nil {
		x.t.Fatal("no keypair to send with")
	}
	msg, err := k.Seal(nil, []byte(plaintext))
	if err != nil {
		x.t.Fatal(err)
	}
	return msg
}

// deliver sends one data message from x to y and expects it to arrive.
func (x *end) deliver(y *end, plaintext string) {
	x.t.Helper()
	got, err := y.open(x.sealTo(y, plaintext))
	if err != nil || string(got) != plaintext {
		x.t.Fatalf("opened %q, %v; sent %q", got, err, plaintext)
	}
}

// advance moves both clocks.
func advance(d time.Duration, ends ...*end) {
	for _, x := range ends {
		x.now = x.now.Add(d)
		x.clock.Advance(x.now)
	}
}

// connect lets a make a keypair with b, up to and with the confirming keepalive.
func connect(a, b *end) (*Keypair, *Keypair) {
	a.t.Helper()
	a.step(Want{Key: b.m.PublicKey()})
	b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
	a.step(Datagram{From: b.addr, Bytes: b.takeOne()})
	if len(a.last.Keepalive) != 1 || len(a.last.Install) != 1 {
		a.t.Fatalf("the initiator's last effects: %+v", a.last)
	}
	a.deliver(b, "")
	return a.keysFor(b).Sending(), b.keysFor(a).Sending()
}
