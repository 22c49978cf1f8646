package peer

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

const (
	// ownInterval is the least time between two versions of our record: the
	// first change is published at once, those that follow together.
	ownInterval = 100 * time.Millisecond
	// crowd links stretch the interval for good news by once ownInterval, up to
	// ownIntervalMax: while a large mesh forms, each peer gains links all the
	// time and every version goes to every other peer. Losses do not wait.
	crowd          = 8
	ownIntervalMax = time.Second
	gainedPerPeer  = time.Millisecond // longer in a sparse network
	gainedMax      = 3 * time.Second
	// In a sparse network the first change waits too, for those that usually
	// follow: a connection is made, then its data path answers.
	ownIntervalSparse = 250 * time.Millisecond
	// Round-trip times alone are published this seldom, the less often the more
	// peers have to hear of it.
	rttInterval    = 10 * time.Second
	rttPerPeer     = 50 * time.Millisecond
	rttIntervalMax = 2 * time.Minute
	// versionBlock versions are reserved on disk at a time, so that not every
	// change of a link costs a write.
	versionBlock = 1024
	// Two processes with one key would outbid each other for ever; each
	// further bid for the same reason waits twice as long.
	contestStart = time.Second
	contestMax   = time.Minute
)

// ownRecord is our record and when to sign the next one.
type ownRecord struct {
	signed    Signed
	version   uint64 // of signed
	reserved  uint64 // versions up to here are ours on disk
	floor     uint64 // a version seen in the network that we must exceed
	changedAt time.Time
	wait      time.Duration // since lastAt, before the change is published
	lastAt    time.Time     // of the last signing
	contestAt time.Time     // no outbidding before this
	contest   time.Duration
}

func newOwnRecord(cfg Config) ownRecord {
	return ownRecord{version: cfg.Version, reserved: cfg.Version}
}

// touch notes that the record may have changed.
func (o *ownRecord) touch(now time.Time, wait time.Duration) {
	if o.changedAt.IsZero() {
		o.changedAt, o.wait = now, wait
	}
	o.wait = min(o.wait, wait)
}

// ownLost notes a change for the worse in our record, ownGained any other, and
// ownWavered that only a round-trip time is another.
func (m *Mesh) ownLost() {
	wait := ownInterval
	if m.overlay.sparse {
		wait = ownIntervalSparse
	}
	m.own.touch(m.now, wait)
}

func (m *Mesh) ownGained() {
	wait := min(time.Duration(1+len(m.conns.byPeer)/crowd)*ownInterval, ownIntervalMax)
	if m.overlay.sparse {
		wait = min(ownIntervalMax+time.Duration(m.topo.crdt.reached)*gainedPerPeer, gainedMax)
	}
	m.own.touch(m.now, wait)
}

func (m *Mesh) ownWavered() {
	m.own.touch(m.now, min(rttInterval+time.Duration(m.topo.crdt.reached)*rttPerPeer, rttIntervalMax))
}

func (o *ownRecord) dueAt() time.Time {
	var at time.Time
	if !o.changedAt.IsZero() {
		at = later(o.changedAt, o.lastAt.Add(o.wait))
		if o.wait > ownIntervalSparse {
			at = later(at, o.changedAt.Add(ownIntervalSparse))
		}
	}
	if o.floor >= o.version && o.floor > 0 && !o.contestAt.IsZero() && (at.IsZero() || o.contestAt.Before(at)) {
		at = o.contestAt
	}
	return at
}

func (o *ownRecord) due(now time.Time) bool {
	at := o.dueAt()
	return !at.IsZero() && !now.Before(at)
}

// outbid notes a record of ourselves that is newer than the one we publish:
// from an earlier run whose state was lost, or from another process that has
// our key.
func (o *ownRecord) outbid(now time.Time, version uint64) {
	if version <= o.floor {
		return
	}
	o.floor = version
	if o.contestAt.IsZero() || now.After(o.contestAt.Add(contestMax)) {
		o.contest = contestStart
		o.contestAt = now
		return
	}
	o.contestAt = later(o.contestAt, now.Add(o.contest))
	o.contest = min(o.contest*2, contestMax)
}

// publishOwn signs a new version of our record if it differs from the last and
// hands it to gossip.
func (m *Mesh) publishOwn() {
	o := &m.own
	o.changedAt = time.Time{}
	r := m.buildRecord()
	beaten := o.floor >= o.version && o.floor > 0 && !m.now.Before(o.contestAt)
	if o.signed.bytes != nil && !beaten && sameRecord(&r, &o.signed.Record) {
		return
	}
	next := o.version
	if beaten {
		next = o.floor
	}
	if next == math.MaxUint64 {
		return // somebody burnt all versions of our key; nothing newer can be said
	}
	o.version = next + 1
	if o.version > o.reserved {
		o.reserved = o.version + min(versionBlock, math.MaxUint64-o.version)
		m.save(keyVersion, strconv.AppendUint(nil, o.reserved, 10))
	}
	r.Version = o.version
	o.lastAt = m.now
	held := m.topo.crdt.get(m.cfg.Name)
	o.signed = m.cfg.Identity.SignRecord(r)
	if own := o.signed; m.topo.put(&own) {
		m.gossip.spread(m, &own, 0)
	}
	if m.topo.touchFor(m.now, held, &o.signed) {
		m.stale = true
	}
}

func (m *Mesh) buildRecord() Record {
	r := Record{
		Name: m.cfg.Name, Nickname: m.cfg.Nickname, Key: m.cfg.Identity.PublicKey(), UID: m.cfg.UID,
		Addresses: m.cfg.Addresses, Capabilities: m.cfg.Capabilities, Port: m.cfg.Port,
		Secrets: m.cfg.Secrets, MTU: m.cfg.MTU, TunnelKey: m.cfg.TunnelKey,
	}
	names := sortedNames(m.conns.byPeer)
	links := make([]Link, 0, Ample(len(names)))
	for _, n := range names {
		if len(links) == maxLinks {
			m.counters.LinksUntold++
			break
		}
		c := m.conns.byPeer[n]
		p := m.conns.path(n)
		links = append(links, Link{
			Peer: n, Outbound: c.dialled != "", Established: p.Up, RTT: p.RTT, Address: c.remote.String(),
			Observed: m.observed(n, p), Stream: p.Stream, Trusted: m.trusts(c),
		})
	}
	r.Links = MakeLinks(links...)
	return r
}

// trusts reports whether the operator lets data go to a neighbour in clear.
func (m *Mesh) trusts(c *conn) bool {
	return slices.ContainsFunc(m.cfg.TrustedSubnets, func(p netip.Prefix) bool { return p.Contains(c.remote.Addr()) })
}

// trustedBy reports whether a record's peer says the same of us.
func (m *Mesh) trustedBy(r *Record) bool {
	for l := range r.Links.All() {
		if l.Peer == m.cfg.Name && l.Trusted {
			return true
		}
	}
	return false
}

// observed is where we reach a peer, if it cannot know that itself: others may
// reach it there as well, through its NAT.
func (m *Mesh) observed(n Name, p path) string {
	s := m.topo.crdt.get(n)
	if !p.Up || !p.Address.IsValid() || s == nil {
		return ""
	}
	at := p.Address.String()
	if slices.Contains(s.Record.Addresses, at) {
		return ""
	}
	return at
}

// ownAddresses keeps of the driver's addresses what a record may hold.
func ownAddresses(all []string) []string {
	var out []string
	for _, a := range all {
		if ap, err := netip.ParseAddrPort(a); err == nil && len(out) < maxAddresses {
			out = append(out, ap.String())
		}
	}
	return out
}

// sameRecord compares everything but the version.
func sameRecord(a, b *Record) bool { return sameHost(a, b) && a.Links.Equal(b.Links) }

// sameButTimes is sameRecord for all but the round-trip times of links that were measured before.
func sameButTimes(a, b *Record) bool { return sameHost(a, b) && a.Links.equalButTimes(b.Links) }

// sameHost says whether two records differ in nothing but their version and their links.
func sameHost(a, b *Record) bool {
	return a.Name == b.Name && a.Nickname == b.Nickname && a.Key == b.Key && a.UID == b.UID &&
		a.Capabilities == b.Capabilities && a.Port == b.Port && a.MTU == b.MTU && a.TunnelKey == b.TunnelKey &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Secrets, b.Secrets)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
