package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/curve25519"
)

// Config is what a Machine needs to know.
type Config struct {
	Private [32]byte  // our X25519 private key
	Rand    io.Reader // crypto/rand.Reader; a test may give anything
	Clock   *Clock    // read by Seal and Open; nil: the first Step makes one and only Step advances it
	NoAES   bool      // refuse SuiteAESGCM: this processor has no instructions for it
	Limits  Limits
}

// Machine is the WireGuard protocol for one identity and all its peers. It is not safe for concurrent use; the Keys and
// Keypairs it hands out are.
//
// For each peer two things go on, independent of each other. Our own attempt to get a keypair:
//
//	           Want, in use for 120 s, 15 s of silence, many messages
//	┌────────┐ ─────────────────────────────────────────────────────► ┌───────────────────┐ ──┐ 5 s: send
//	│  idle  │                                                        │ initiation sent,  │   │ another
//	│        │ ◄───────────────────────────────────────────────────── │ handshake in hand │ ◄─┘
//	└────────┘  message 2: Install as current, Keepalive              └───────────────────┘
//	            the peer's attempt gave a keypair meanwhile             │       ▲
//	            90 s: Failed                                            └───────┘
//	                                                                     message 3: keep the cookie for the next one
//
// and answering the peer's, which leaves no state but the keypair:
//
//	message 1 ──► mac1? ──► under load: cookie? rate? ──► decrypts? ──► known, newer, not too soon? ──► message 2,
//	                │ no              │ no: message 3         │ no                  │ no               Install as next
//	                └─────────────────┴─────── Dropped ───────┴─────────────────────┘
//
// What becomes of keypairs is drawn above Keys.
type Machine struct {
	noise   noiseSide
	public  PublicKey
	macs    macKeys
	limits  *Limits
	noAES   bool
	clock   *Clock
	jar     cookieJar
	limiter limiter
	peers   map[PublicKey]*peer
	order   []*peer // as they were added, so that effects do not depend on the order of a map
	indexes map[uint32]*peer
	next    stamp // no peer has anything to do before; 0: none ever
	closed  bool
}

// New makes a Machine without peers. Errors: no source of randomness, or the private key is not one.
func New(cfg Config) (*Machine, error) {
	if cfg.Rand == nil {
		return nil, errors.New("session: no source of randomness")
	}
	side, err := newNoiseSide(cfg.Private, cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("session: private key: %w", err)
	}
	limits := cfg.Limits.withDefaults()
	m := &Machine{
		noise: side, public: PublicKey(side.static.Public), limits: &limits, noAES: cfg.NoAES, clock: cfg.Clock,
		peers: make(map[PublicKey]*peer), indexes: make(map[uint32]*peer),
	}
	m.macs = newMACKeys(m.public)
	return m, nil
}

// PublicKey is who we are.
func (m *Machine) PublicKey() PublicKey { return m.public }

// Keys are the keypairs of a configured peer, for the data plane; nil for others. They stay the same until the peer is
// removed.
func (m *Machine) Keys(key PublicKey) *Keys {
	if p := m.peers[key]; p != nil {
		return p.keys
	}
	return nil
}

// Step takes one input at a moment and says what is to be done. Whatever the input, timers that are due by then run
// first.
func (m *Machine) Step(now time.Time, in Input) Effects {
	var e Effects
	if m.closed {
		return e
	}
	if m.clock == nil {
		m.clock = NewClock(now)
	}
	m.clock.Advance(now)
	t := turn{m: m, e: &e, wall: now, now: m.clock.stamp()}
	t.timers()
	switch in := in.(type) {
	case AddPeer:
		t.addPeer(in)
	case RemovePeer:
		t.removePeer(m.peers[in.Key])
	case Datagram:
		t.datagram(in)
	case Want:
		if p := m.peers[in.Key]; p != nil {
			t.want(p)
		} else {
			e.drop(noAddress, DropUnknownPeer)
		}
	case Tick:
	}
	return e
}

// Deadline is when a Step is due even if nothing happens; zero when nothing is pending. It may be early, never late.
func (m *Machine) Deadline() time.Time {
	if m.next == 0 || m.closed {
		return time.Time{}
	}
	return m.clock.time(m.next)
}

// Close zeroes every key, ours included. Later Steps do nothing.
func (m *Machine) Close() {
	if m.closed {
		return
	}
	m.closed = true
	t := turn{m: m, e: &Effects{}}
	for _, p := range slices.Clone(m.order) {
		t.removePeer(p)
	}
	clear(m.noise.static.Private)
	m.macs, m.jar, m.limiter = macKeys{}, cookieJar{}, limiter{}
}

// addPeer also refuses keys of low order here, so that a Diffie-Hellman with the key can never fail later.
func (t turn) addPeer(in AddPeer) {
	shared, err := curve25519.X25519(t.m.noise.static.Private, in.Key[:])
	clear(shared)
	if err != nil || in.Key == t.m.public || !in.Suite.known() {
		t.e.drop(noAddress, DropBadPeer)
		return
	}
	p := t.m.peers[in.Key]
	if p == nil {
		p = &peer{key: in.Key, keys: &Keys{clock: t.m.clock}, macs: macSender{keys: newMACKeys(in.Key)}}
		t.m.peers[in.Key] = p
		t.m.order = append(t.m.order, p)
	}
	p.psk, p.suite, p.clear = in.PSK, in.Suite, in.Clear
}

func (t turn) removePeer(p *peer) {
	if p == nil {
		return
	}
	t.abandon(p)
	t.forget(p, func(*Keypair) bool { return true })
	delete(t.m.peers, p.key)
	t.m.order = slices.DeleteFunc(t.m.order, func(q *peer) bool { return q == p })
	*p = peer{}
}

// newIndex draws an index nobody uses and gives it to the peer.
func (m *Machine) newIndex(p *peer) (uint32, error) {
	var b [4]byte
	for {
		if _, err := io.ReadFull(m.noise.rand, b[:]); err != nil {
			return 0, err
		}
		i := binary.LittleEndian.Uint32(b[:])
		if _, taken := m.indexes[i]; !taken {
			m.indexes[i] = p
			return i, nil
		}
	}
}
