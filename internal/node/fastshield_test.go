package node

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"weave/peer"
	"weave/peer/session"
	"weave/runtime"
)

// shieldKernel is a kernel that remembers what it was told.
type shieldKernel struct {
	told   [][]runtime.Shield
	refuse netip.Addr
	left   []netip.Addr
}

func (k *shieldKernel) Shield(_ uint16, want []runtime.Shield) (failed []netip.Addr, err error) {
	k.told = append(k.told, want)
	for _, s := range want {
		if s.Peer == k.refuse {
			failed, err = append(failed, s.Peer), errors.New("out of memory")
		}
	}
	return failed, err
}

func (k *shieldKernel) Shielded(uint16) ([]netip.Addr, error) { return k.left, nil }

func (k *shieldKernel) SourceTo(netip.Addr) (netip.Addr, error) { return shieldHere, nil }

// last is what the kernel was told last.
func (k *shieldKernel) last() []runtime.Shield {
	if len(k.told) == 0 {
		return nil
	}
	return k.told[len(k.told)-1]
}

var shieldHere, shieldThere = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

func newTestShields(t *testing.T, k *shieldKernel, support runtime.ShieldSupport) *shields {
	t.Helper()
	return openShields(k, support, 6784, netip.Addr{}, slog.New(slog.DiscardHandler))
}

// shieldSession is a session machine and the keypairs it has.
type shieldSession struct {
	m       *session.Machine
	private [32]byte
	pair    *session.Keypair // the latest
}

// shieldHandshake makes two machines and a keypair at each; what is sealed first has not come yet.
func shieldHandshake(t *testing.T) (initiator, responder *shieldSession) {
	t.Helper()
	ends := make([]*shieldSession, 2)
	for i := range ends {
		var private [32]byte
		_, _ = rand.Read(private[:])
		m, err := session.New(session.Config{Private: private, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = &shieldSession{m: m, private: private}
	}
	now := time.Now()
	step := func(e *shieldSession, in session.Input) session.Effects {
		eff := e.m.Step(now, in)
		for _, i := range eff.Install {
			e.pair = i.Keypair
		}
		return eff
	}
	for i, e := range ends {
		step(e, session.AddPeer{Key: ends[1-i].m.PublicKey()})
	}
	first := step(ends[0], session.Want{Key: ends[1].m.PublicKey()})
	answer := step(ends[1], session.Datagram{Bytes: first.Send[0].Bytes})
	step(ends[0], session.Datagram{Bytes: answer.Send[0].Bytes})
	return ends[0], ends[1]
}

func shieldPeer(e *shieldSession) *peerState {
	return &peerState{remote: &remote{key: e.m.PublicKey()}}
}

// A peer's shield, from before there are keys until after it has left: both ends have the same keys crossed, the responder
// seals only once the initiator is known to have them, and what has left lingers without keys.
func TestShieldsOfPeer(t *testing.T) {
	a, b := shieldHandshake(t)
	now := time.Now()
	ka, kb := &shieldKernel{}, &shieldKernel{}
	sa, sb := newTestShields(t, ka, runtime.ShieldSupport{}), newTestShields(t, kb, runtime.ShieldSupport{})
	sa.raise(shieldThere, shieldPeer(b))
	sb.raise(shieldThere, shieldPeer(a))
	sa.apply(now)
	if w := ka.last(); len(w) != 1 || w[0].Out != nil || len(w[0].In) != 0 || w[0].Peer != shieldThere || w[0].Local != shieldHere {
		t.Fatalf("before there are keys: %+v", w)
	}
	sa.learn(a.pair, now)
	sb.learn(b.pair, now)
	sa.apply(now)
	sb.apply(now)
	wa, wb := ka.last()[0], kb.last()[0]
	if wa.Out == nil || len(wb.In) != 1 || *wa.Out != wb.In[0] {
		t.Fatalf("the initiator seals with %+v, the responder opens %+v", wa.Out, wb.In)
	}
	if wb.Out != nil {
		t.Error("the responder seals before the initiator is known to have the keys")
	}
	msg, err := a.pair.Seal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.pair.Open(msg); err != nil {
		t.Fatal(err)
	}
	sb.apply(now)
	if wb = kb.last()[0]; wb.Out == nil || len(wa.In) != 1 || *wb.Out != wa.In[0] {
		t.Errorf("the responder seals with %+v, the initiator opens %+v", wb.Out, wa.In)
	}
	calls := len(ka.told)
	sa.apply(now)
	if len(ka.told) != calls {
		t.Error("the kernel is told twice")
	}
	sa.forget(session.Retire{Peer: b.m.PublicKey(), Index: a.pair.LocalIndex()}, now)
	sa.apply(now)
	if w := ka.last(); len(w) != 1 || len(w[0].In) != 1 {
		t.Errorf("just after the session has gone: %+v", w)
	}
	now = now.Add(shieldGrace + time.Second)
	sa.apply(now)
	if w := ka.last(); len(w) != 1 || w[0].Out != nil || !w[0].Adopt {
		t.Errorf("once the session has gone: %+v", w)
	}
	sa.lower(shieldThere, now)
	sa.apply(now)
	if w := ka.last(); len(w) != 1 || w[0].Out != nil || len(w[0].In) != 0 || w[0].Adopt || sa.has(shieldThere) {
		t.Errorf("just after it has left: %+v", w)
	}
	sa.apply(now.Add(shieldLinger + time.Second))
	if w := ka.last(); len(w) != 0 {
		t.Errorf("long after it has left: %+v", w)
	}
}

// What the kernel refuses is neither let in nor sent to, and is told.
func TestShieldsRefused(t *testing.T) {
	k := &shieldKernel{refuse: shieldThere}
	s := newTestShields(t, k, runtime.ShieldSupport{IPv6: "it has no IPv6"})
	other, six := netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::3")
	now := time.Now()
	s.raise(shieldThere, nil)
	s.raise(other, nil)
	s.apply(now)
	if got := s.without([]netip.Addr{other, shieldThere, six}); !slices.Equal(got, []netip.Addr{other, six}) {
		t.Errorf("used all the same: %v", got)
	}
	if s.capabilities() != peer.CapESP4 {
		t.Errorf("offers %b", s.capabilities())
	}
	for _, c := range []struct {
		both peer.Capability
		at   netip.Addr
		why  string
	}{
		{peer.CapESP4, other, ""},
		{peer.CapESP4, shieldThere, "encrypted, and the kernel refuses: out of memory"},
		{peer.CapESP6, other, "encrypted, and the other end's kernel has no IPsec for it; here there is no WireGuard"},
		{peer.CapESP4, six, "encrypted, and here it has no IPv6; here there is no WireGuard"},
	} {
		froms, why := s.place(neighbour{esp: c.both, tunnel: peer.TunnelKey{7}}, []netip.Addr{c.at})
		if why != c.why || (why == "") != slices.Equal(froms, []netip.Addr{c.at}) {
			t.Errorf("%v with %b: %v, %q, want %q", c.at, c.both, froms, why, c.why)
		}
	}
}

// Shields that an earlier daemon left are wanted still, with its keys, until it is known whose they are.
func TestShieldsAdopted(t *testing.T) {
	k := &shieldKernel{left: []netip.Addr{shieldThere}}
	s := newTestShields(t, k, runtime.ShieldSupport{})
	now := time.Now()
	if !s.has(shieldThere) {
		t.Fatal("not adopted")
	}
	s.keep([]netip.Addr{shieldThere}, now)
	s.apply(now)
	if w := k.last(); len(w) != 1 || !w[0].Adopt || w[0].Local != shieldHere {
		t.Errorf("%+v", w)
	}
	a, b := shieldHandshake(t)
	s.learn(a.pair, now)
	s.claim(shieldThere, shieldPeer(b)) // the path was on all the time: nobody raises it
	s.apply(now)
	if w := k.last(); len(w) != 1 || !w[0].Adopt || w[0].Out == nil || len(w[0].In) != 1 {
		t.Errorf("once it is known whose it is: %+v", w)
	}
	s.apply(now.Add(time.Minute))
	if w := k.last(); len(w) != 1 || w[0].Adopt || w[0].Out == nil {
		t.Errorf("a minute later: %+v", w)
	}
}

// What an earlier daemon left in pieces, or for another port, is removed at once, though nothing is wanted.
func TestShieldsCleanUp(t *testing.T) {
	k := &shieldKernel{}
	s := newTestShields(t, k, runtime.ShieldSupport{})
	s.keep(nil, time.Now())
	for range 2 {
		s.apply(time.Now())
		if len(k.told) != 1 || len(k.last()) != 0 {
			t.Errorf("the kernel was told %v", k.told)
		}
	}
}

// Where IPsec is not to be used any more, shields that an earlier daemon left are not taken up; they stay, without keys, until VXLAN has
// ceased.
func TestShieldsEnd(t *testing.T) {
	k := &shieldKernel{left: []netip.Addr{shieldThere}}
	s := newTestShields(t, k, runtime.ShieldSupport{IPv4: "not to be used"})
	if s.has(shieldThere) {
		t.Error("taken up")
	}
	now := time.Now()
	s.keep(nil, now)
	s.apply(now)
	if w := k.last(); len(w) != 1 || w[0].Out != nil || w[0].Adopt {
		t.Errorf("while VXLAN may still be sent: %+v", w)
	}
	s.apply(now.Add(shieldLinger + time.Second))
	if w := k.last(); len(w) != 0 {
		t.Errorf("in the end: %+v", w)
	}
}
