package session

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/tai64n"
)

// noAddress stands for "no datagram" in a Drop and for "wherever the peer is" in a Send.
var noAddress netip.AddrPort

// peer is what the Machine knows of one configured peer.
type peer struct {
	key   PublicKey
	psk   [32]byte
	suite Suite
	clear bool
	keys  *Keys
	macs  macSender

	attempt  attempt
	lastSent stamp // when we last sent message 1 or 2

	newest   tai64n.Timestamp // of the initiations taken from this peer
	accepted stamp            // when the last was taken
	stamped  time.Time        // of our last initiation
	next     stamp            // when timers are to be looked at again; 0: nothing pending
}

// attempt is our endeavour to get a keypair as initiator: several initiations until one is answered.
type attempt struct {
	began stamp // 0: none is under way
	retry stamp // when to send the next initiation
	had   *Keypair
	shake *handshake // of the last initiation; nil before the first
	index uint32     // its sender index
}

// turn is one Step while it lasts.
type turn struct {
	m    *Machine
	e    *Effects
	wall time.Time
	now  stamp
}

// want begins an attempt, unless one runs. Two handshake messages to one peer are at least RekeyTimeout apart.
func (t turn) want(p *peer) {
	if p.attempt.began != 0 {
		return
	}
	p.attempt = attempt{began: t.now, retry: t.now, had: p.keys.current.Load()}
	if p.lastSent != 0 {
		p.attempt.retry = max(t.now, p.lastSent+int64(t.m.limits.RekeyTimeout))
	}
	t.look(p)
}

// timers looks after every peer whose time has come.
func (t turn) timers() {
	if t.m.next == 0 || t.now < t.m.next {
		return
	}
	t.m.next = 0
	for _, p := range t.m.order {
		if p.next != 0 && t.now >= p.next {
			t.look(p)
		} else {
			t.m.schedule(p.next)
		}
	}
}

// look does all that is due for a peer and says when to look again.
func (t turn) look(p *peer) {
	t.forget(p, func(k *Keypair) bool { return t.now-k.created >= int64(t.m.limits.RejectAfterTime) })
	t.activity(p)
	t.retry(p)
	p.next = t.nextLook(p)
	t.m.schedule(p.next)
}

// forget retires and zeroes the keypairs that are dead, or were pushed out by newer ones.
func (t turn) forget(p *peer, dead func(*Keypair) bool) {
	for _, k := range p.keys.collect(dead) {
		k.Zero()
		delete(t.m.indexes, k.id.local)
		t.e.Retire = append(t.e.Retire, Retire{Peer: p.key, Index: k.id.local})
	}
}

// activity looks at what Seal and Open noted: keepalives that are owed, silence, keypairs that grow old in use.
func (t turn) activity(p *peer) {
	l, k := t.m.limits, p.keys.current.Load()
	if k == nil {
		return
	}
	if owed := p.keys.owed.Load(); owed != 0 && t.now-owed >= int64(l.KeepaliveTimeout) {
		p.keys.owed.CompareAndSwap(owed, 0)
		t.e.Keepalive = append(t.e.Keepalive, p.key)
	}
	silence := l.KeepaliveTimeout + l.RekeyTimeout
	if since := p.keys.awaiting.Load(); since != 0 && t.now-since >= int64(silence) {
		p.keys.awaiting.CompareAndSwap(since, 0)
		t.want(p)
		return
	}
	if k.counter.Load() >= l.rekey(k.id.suite) || (k.id.initiator && t.aged(p, k)) {
		t.want(p)
	}
}

// aged reports whether a keypair we began is due for renewal: it was sent with after RekeyAfterTime, or received with
// so late that a keepalive and a handshake just fit before RejectAfterTime.
func (t turn) aged(p *peer, k *Keypair) bool {
	l := t.m.limits
	sent, received := p.keys.lastSent.Load(), p.keys.lastReceived.Load()
	lastCall := l.RejectAfterTime - l.KeepaliveTimeout - l.RekeyTimeout
	return sent-k.created >= int64(l.RekeyAfterTime) || received-k.created >= int64(lastCall)
}

// retry sends the next initiation of an attempt, or ends the attempt.
func (t turn) retry(p *peer) {
	a := &p.attempt
	if a.began == 0 || t.now < a.retry {
		return
	}
	if k := p.keys.Sending(); k != nil && k != a.had { // the peer's own attempt has succeeded meanwhile
		t.abandon(p)
		return
	}
	if t.now-a.began >= int64(t.m.limits.RekeyAttemptTime) {
		t.abandon(p)
		t.e.Failed = append(t.e.Failed, p.key)
		return
	}
	t.initiate(p)
}

// initiate sends message 1, with a new ephemeral key and index each time.
func (t turn) initiate(p *peer) {
	a := &p.attempt
	t.dropShake(p)
	a.retry = t.now + int64(t.m.limits.RekeyTimeout) + t.jitter()
	p.lastSent = t.now
	shake, err := t.m.noise.begin(p.suite, p.suite.prologue(), &p.key, &p.psk)
	if err != nil {
		t.e.drop(noAddress, DropNoRandom)
		return
	}
	index, err := t.m.newIndex(p)
	if err != nil {
		shake.wipe()
		t.e.drop(noAddress, DropNoRandom)
		return
	}
	a.shake, a.index = shake, index
	msg, err := shake.initiate(newInitiation(p.suite, index), p.timestamp(t.wall))
	if err != nil {
		t.dropShake(p)
		t.e.drop(noAddress, DropNoRandom)
		return
	}
	msg = p.macs.seal(msg, t.now, int64(t.m.limits.CookieLifetime))
	p.keys.sent(t.now, false)
	t.e.Send = append(t.e.Send, Send{Peer: p.key, Bytes: msg})
}

// abandon ends an attempt and wipes what is left of it.
func (t turn) abandon(p *peer) {
	t.dropShake(p)
	p.attempt = attempt{}
}

func (t turn) dropShake(p *peer) {
	if p.attempt.shake != nil {
		p.attempt.shake.wipe()
		p.attempt.shake = nil
		delete(t.m.indexes, p.attempt.index)
	}
}

// jitter is up to a third of a second, in proportion to RekeyTimeout: two peers that began at the same moment drift
// apart.
func (t turn) jitter() int64 {
	var b [2]byte
	if _, err := io.ReadFull(t.m.noise.rand, b[:]); err != nil {
		return 0
	}
	return int64(t.m.limits.RekeyTimeout) / 15 * int64(binary.LittleEndian.Uint16(b[:])) >> 16
}

// nextLook is the earliest moment at which look could have something to do. What the data plane does meanwhile cannot
// be foreseen, so while there are keypairs it is looked at every Poll.
func (t turn) nextLook(p *peer) stamp {
	next := stamp(0)
	if p.attempt.began != 0 {
		next = p.attempt.retry
	}
	for _, k := range []*Keypair{p.keys.current.Load(), p.keys.prior.Load(), p.keys.next.Load()} {
		if k != nil {
			next = earlier(next, k.created+int64(t.m.limits.RejectAfterTime))
			next = earlier(next, t.now+int64(t.m.limits.Poll))
		}
	}
	return next
}

func (m *Machine) schedule(at stamp) { m.next = earlier(m.next, at) }

// earlier of two moments, where 0 is never.
func earlier(a, b stamp) stamp {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
