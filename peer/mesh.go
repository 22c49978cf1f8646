package peer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"weave/peer/wire"
)

// Protocol versions this package speaks.
const (
	MinProtocol = 1
	MaxProtocol = 2
)

// Config is what a Mesh is made of. Identity, Name, UID, Port and Rand are
// required.
type Config struct {
	Identity       Identity
	Name           Name
	Nickname       string
	UID            uint64 // random per start of the daemon
	Port           uint16 // TCP and UDP
	Addresses      []string
	Capabilities   Capability
	MTU            uint16 // see Record
	TunnelKey      TunnelKey
	NoDiscovery    bool           // dial nothing but targets
	ConnLimit      int            // connections made and accepted; 0 = no limit
	Password       bool           // shown to users as "encrypted"
	TrustedSubnets []netip.Prefix // data goes in clear to peers there that trust us as well
	Secrets        []SecretID     // of the passwords accepted, sorted
	Rand           rand.Source
	Opened         *Opened            // shared by the meshes of a simulation; nil = none
	Pins           map[Name]PublicKey // as saved, see Restore
	Version        uint64             // as saved, see Restore
	KnownAddresses []string           // as saved; dialled like discovered ones
}

// Mesh is the state machine of the control plane; see the package comment.
type Mesh struct {
	cfg   Config
	rng   *rand.Rand
	own   ownRecord
	topo  membership
	conns connTable
	maker maker

	overlay  overlay
	gossip   gossip
	letters  letters
	counters Counters
	fx       Effects
	now      time.Time
	deadline time.Time
	stale    bool // what View shows has changed
	left     bool
}

// NewMesh makes a mesh of one. It panics when a required field of cfg is
// missing. The first Step may come with any Input.
func NewMesh(cfg Config) *Mesh {
	if cfg.Identity.IsZero() || cfg.Name.IsZero() || cfg.Rand == nil {
		panic("peer: NewMesh needs Identity, Name and Rand")
	}
	cfg.Nickname = printable(cfg.Nickname, maxNickname)
	cfg.Addresses = ownAddresses(cfg.Addresses)
	m := &Mesh{cfg: cfg, rng: rand.New(cfg.Rand), stale: true}
	m.own = newOwnRecord(cfg)
	m.topo = newMembership(cfg)
	m.conns = newConnTable()
	m.overlay.observed = make(map[Name][]string)
	m.letters.seen = make(map[Name]*window)
	m.maker = newMaker(cfg)
	return m
}

// Step takes one input and returns what to do about it. now must not go back
// between calls.
func (m *Mesh) Step(now time.Time, in Input) Effects {
	m.now = now
	m.fx = Effects{}
	if m.own.signed.bytes == nil {
		m.publishOwn()
	}
	m.handle(in)
	m.settle()
	fx := m.fx
	m.fx = Effects{}
	return fx
}

// Deadline returns when the Mesh wants its next Step, at the latest.
func (m *Mesh) Deadline() time.Time { return m.deadline }

// Counters returns the current counters, which may be ahead of the View's.
func (m *Mesh) Counters() Counters { return m.counters }

// Holds returns of which run and version the record held for a name is; zero
// if there is none.
func (m *Mesh) Holds(n Name) (uid, version uint64) {
	if s := m.topo.crdt.get(n); s != nil {
		return s.Record.UID, s.Record.Version
	}
	return 0, 0
}

// Sum returns how many records of reachable peers are held, a sum that two
// meshes share if they hold the same, and about how many bytes all records take.
func (m *Mesh) Sum() (count int, sum uint64, bytes int) {
	s := m.sums()
	return s.count, s.root, m.topo.crdt.bytes
}

// Snapshot returns the records held, sorted by name.
func (m *Mesh) Snapshot() []Signed { return m.topo.crdt.Snapshot() }

func (m *Mesh) handle(in Input) {
	switch in := in.(type) {
	case Tick:
	case Connect:
		m.addTargets(in)
	case Forget:
		m.forgetTargets(in.Targets)
	case Unpin:
		m.unpin(in.Names)
	case Leave:
		m.leave(in.Reason)
	case DialFailed:
		m.dialFailed(in)
	case ConnUp:
		m.connUp(in)
	case ConnDown:
		m.connDown(in)
	case Received:
		m.received(in)
	case Tell:
		m.tell(in)
	case PathChanged:
		m.pathChanged(in)
	case LocalAddresses:
		m.cfg.Addresses = ownAddresses(in.Addresses)
		m.ownGained()
	case MTU:
		m.cfg.MTU = in.MTU
		m.ownGained()
	case Secrets:
		m.cfg.Secrets = in.IDs
		m.ownLost() // at once: sessions are made by it
	default:
		panic(fmt.Sprintf("peer: unknown input %T", in))
	}
}

// settle does everything that is due and computes the next deadline. The order
// matters: each stage may make work for the later ones, never for an earlier.
func (m *Mesh) settle() {
	m.expireGreetings()
	m.prune()
	if m.own.due(m.now) {
		m.publishOwn()
	}
	if m.topo.due(m.now) {
		m.recompute()
	}
	if m.maker.due(m.now) {
		m.reviewAttempts()
	}
	m.runGossip()
	if m.stale {
		m.stale = false
		m.fx.Publish = m.view()
	}
	m.deadline = m.nextDeadline()
}

func (m *Mesh) nextDeadline() time.Time {
	var next time.Time
	for _, t := range []time.Time{
		m.own.dueAt(), m.topo.dueAt(), m.maker.dueAt(m.now), m.gossip.dueAt(m.flushEvery()), m.overlay.pruneAt, m.conns.greetingDeadline(),
	} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

func (m *Mesh) send(c ConnID, msg *wire.Control) {
	m.fx.Send = append(m.fx.Send, Send{Conn: c, Message: msg})
}

func (m *Mesh) save(key string, value []byte) {
	m.fx.Save = append(m.fx.Save, Save{Key: key, Value: value})
}

func (m *Mesh) event(l Level, text string, attrs ...Attr) {
	m.fx.Events = append(m.fx.Events, Event{Level: l, Text: text, Attrs: attrs})
}

// leave says goodbye to everybody and stops dialling.
func (m *Mesh) leave(reason string) {
	m.left = true
	for _, c := range m.conns.sorted() {
		m.closeConn(c, reason)
	}
	m.maker.touch()
}
