package peer

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// Both ends of a missing link learn of it at about the same time. The one
	// with the lower name dials at once, the other after politeDelay, so that
	// usually one connection is made and yet one open direction is enough.
	politeDelay = time.Second
	// A peer's further addresses are tried one after another this far apart
	// (compare RFC 8305, "happy eyeballs").
	staggerDelay = 250 * time.Millisecond
	// maxCandidates addresses of one peer are dialled at most.
	maxCandidates = 8
)

// reviewAttempts brings the attempts in line with the targets and the
// topology, and dials those whose time has come.
func (m *Mesh) reviewAttempts() {
	k := &m.maker
	k.dirty = false
	k.next = time.Time{}
	for _, a := range k.attempts {
		a.wanted, a.explicit, a.portless, a.to = false, false, false, Name{}
	}
	if !m.left {
		m.wantTargets()
		if !m.cfg.NoDiscovery {
			m.wantPeers()
			m.wantKnown()
		}
	}
	room := m.room()
	for _, addr := range k.sortedAddresses() {
		a := k.attempts[addr]
		if a.state != attemptWaiting {
			continue
		}
		if !a.wanted {
			delete(k.attempts, addr)
			m.stale = true
			continue
		}
		if a.never || m.served(addr, a) || m.settled(a) {
			continue
		}
		if m.now.Before(a.next) {
			if k.next.IsZero() || a.next.Before(k.next) {
				k.next = a.next
			}
			continue
		}
		m.stale = true
		if room == 0 {
			k.failed(m, addr, a, fmt.Sprintf("Connection limit reached (%d)", m.cfg.ConnLimit))
			k.dirty = false
			if k.next.IsZero() || a.next.Before(k.next) {
				k.next = a.next
			}
			continue
		}
		room--
		a.state = attemptDialling
		m.fx.Dial = append(m.fx.Dial, Dial{Address: addr})
	}
}

// room returns how many more connections may be dialled; negative = no limit.
func (m *Mesh) room() int {
	if m.cfg.ConnLimit <= 0 {
		return -1
	}
	busy := len(m.conns.byPeer)
	for _, a := range m.maker.attempts {
		if a.state == attemptDialling || (a.state == attemptConnected && !m.conns.joinedConn(a.conn)) {
			busy++
		}
	}
	return max(0, m.cfg.ConnLimit-busy)
}

func (t *connTable) joinedConn(id ConnID) bool {
	c := t.byID[id]
	return c != nil && c.joined
}

// served reports whether dialling the address would give nothing new: whom it
// led to is connected, or it has no port and its host is connected.
func (m *Mesh) served(addr string, a *attempt) bool {
	if !a.peer.IsZero() && m.conns.byPeer[a.peer] != nil {
		return true
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	if a.portless && m.conns.fromHost(ap.Addr()) {
		return true
	}
	for _, c := range m.conns.byPeer {
		if c.dialled == addr || (c.remote == ap && c.dialled != "") {
			return true
		}
	}
	return false
}

// want marks an address as one to dial, making an attempt if there is none.
func (k *maker) want(addr string, first time.Time) *attempt {
	a := k.attempts[addr]
	if a == nil {
		a = &attempt{backoff: retryStart, next: first}
		k.attempts[addr] = a
	}
	a.wanted = true
	return a
}

func (m *Mesh) wantTargets() {
	for _, t := range m.maker.targets {
		addr, err := ParseTarget(t, m.maker.port)
		if err != nil {
			continue
		}
		a := m.maker.want(addr, m.now)
		a.portless = !hasPort(t) && (a.portless || !a.explicit)
		a.explicit = true
	}
}

// settled reports whether the other end closed the connection as of no need and
// the network still reaches it.
func (m *Mesh) settled(a *attempt) bool { return a.surplus && m.topo.crdt.reaches(a.peer) }

// wantPeers adds the addresses of peers that we have no connection with: of all
// peers of a small network, of those chosen in a sparse one. Those that became
// unreachable lately are among them.
func (m *Mesh) wantPeers() {
	missing := make(map[Name]tie)
	if m.overlay.sparse {
		for n, t := range m.overlay.dial {
			missing[n] = t
		}
	} else {
		for n := range m.topo.crdt.records {
			missing[n] = tieRing
		}
	}
	for n := range missing {
		if n == m.cfg.Name || m.conns.byPeer[n] != nil {
			delete(missing, n)
		}
	}
	if len(missing) == 0 {
		return
	}
	observed := m.observedAddresses(missing)
	for _, n := range sortedNames(missing) {
		delay := time.Duration(m.rng.Int64N(int64(staggerDelay)))
		if missing[n] == tieRing && m.cfg.Name.Compare(n) > 0 { // the other end wants it as well
			delay += politeDelay
		}
		for i, addr := range m.candidates(n, observed[n]) {
			a := m.maker.want(addr, m.now.Add(delay+time.Duration(i)*staggerDelay))
			a.to, a.surplus = n, false
		}
	}
}

// observedAddresses collects from all records where other peers reached the
// missing ones; until the next look at the membership it remembers the answer.
func (m *Mesh) observedAddresses(missing map[Name]tie) map[Name][]string {
	out := m.overlay.observed
	unknown := false
	for n := range missing {
		if _, ok := out[n]; !ok {
			unknown = true
			out[n] = nil
		}
	}
	if !unknown {
		return out
	}
	tellers := make(map[Name][]Name)
	for from, s := range m.topo.crdt.records {
		for i := range s.Record.Links.Len() {
			if n := s.Record.Links.Peer(i); missing[n] != tieNone {
				tellers[n] = append(tellers[n], from)
			}
		}
	}
	for n, from := range tellers {
		slices.SortFunc(from, Name.Compare)
		out[n] = m.topo.crdt.seenAt(n, from)
	}
	return out
}

// seenAt returns the addresses, "ip:port", at which the tellers reached a peer,
// or would if it connected to them. At most maxCandidates are returned.
func (t *Topology) seenAt(n Name, tellers []Name) []string {
	s := t.records[n]
	if s == nil {
		return nil
	}
	var out []string
	for _, from := range tellers {
		links := t.records[from].Record.Links
		for l := range links.All() {
			ap, err := netip.ParseAddrPort(l.Address)
			if l.Peer != n || err != nil || len(out) == maxCandidates {
				continue
			}
			if !l.Outbound {
				ap = netip.AddrPortFrom(ap.Addr(), s.Record.Port)
			}
			if a := ap.String(); ap.Port() != 0 && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// candidates lists the addresses at which to dial a peer: those others reached
// it at first, then those it tells. Our own addresses are left out: every host
// has the likes of 172.17.0.1.
func (m *Mesh) candidates(n Name, observed []string) []string {
	out := slices.Clone(observed)
	for _, a := range m.topo.crdt.records[n].Record.Addresses {
		if ap, err := netip.ParseAddrPort(a); err == nil && ap.Port() != 0 {
			out = append(out, ap.String())
		}
	}
	seen := make(map[string]bool)
	out = slices.DeleteFunc(out, func(a string) bool {
		dup := seen[a] || slices.Contains(m.cfg.Addresses, a) || undiallable(a)
		seen[a] = true
		return dup
	})
	return out[:min(len(out), maxCandidates)]
}

// undiallable refuses addresses no peer can be at.
func undiallable(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || ip.IsUnspecified() || ip.IsMulticast()
}

func (m *Mesh) wantKnown() {
	for addr := range m.maker.known {
		m.maker.want(addr, m.now)
	}
}
