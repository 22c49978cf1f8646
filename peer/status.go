package peer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// view builds what users and the data plane see. Peers and routes come from
// the last recompute; they are shared, as nothing writes to them.
func (m *Mesh) view() *View {
	v := &View{
		Self:        *m.own.signed.view,
		Peers:       m.topo.peers,
		Connections: m.connViews(),
		Targets:     m.maker.targets,
		Neighbours:  m.neighbours(),
		Sparse:      m.overlay.sparse,
		Counters:    m.counters,
		ways:        m.topo.ways,
	}
	return v
}

func (m *Mesh) connViews() []ConnView {
	out := make([]ConnView, 0, Ample(len(m.conns.byID)))
	for _, c := range m.conns.byID {
		if c.joined {
			out = append(out, m.liveView(c))
		}
	}
	byAddress := func(a, b ConnView) int { return strings.Compare(a.Address, b.Address) }
	slices.SortFunc(out, byAddress)
	for _, addr := range m.maker.sortedAddresses() {
		if v, ok := m.attemptView(addr, m.maker.attempts[addr]); ok {
			out = append(out, v)
		}
	}
	return out
}

func (m *Mesh) liveView(c *conn) ConnView {
	p := m.conns.path(c.peer)
	nick := c.record.Record.Nickname
	v := ConnView{
		Conn: c.id, Peer: c.peer, Nickname: nick, Address: c.remote.String(), Outbound: c.dialled != "",
		State: StatePending, RTT: p.RTT, Since: c.joinedAt,
		Attrs: ConnAttrs{Name: p.Overlay, MTU: p.MTU, Encrypted: m.cfg.Password && !p.Clear}, Trouble: c.flow.trouble,
	}
	if v.Attrs.Name == "" {
		v.Attrs.Name = "none"
	}
	if p.Up {
		v.State = StateEstablished
	}
	switch {
	case m.cfg.Password && p.Clear:
		v.Info = fmt.Sprintf("%-11s ", "unencrypted")
	case m.cfg.Password:
		v.Info = fmt.Sprintf("%-11s ", "encrypted")
	}
	v.Info += fmt.Sprintf("%-6s %s", v.Attrs.Name, Label(c.peer, nick))
	return v
}

// attemptView shows an address that is being tried. Discovered addresses that
// turned out to be ourselves are nobody's concern.
func (m *Mesh) attemptView(addr string, a *attempt) (ConnView, bool) {
	v := ConnView{Address: addr, Outbound: true, State: StateConnecting}
	switch {
	case a.state == attemptConnected && m.conns.joinedConn(a.conn):
		return v, false
	case a.state != attemptWaiting && a.reason == "":
	case a.state != attemptWaiting:
		v.State, v.Info = StateRetrying, a.reason
	case a.reason == "" || m.served(addr, a) || (a.never && !a.explicit):
		return v, false
	case a.never:
		v.State, v.Info = StateFailed, a.reason+", retry: never"
	case m.settled(a):
		v.State = StateFailed
		v.Info = a.reason + ", retry: when no other way leads there"
	default:
		v.State, v.Retry = StateFailed, a.next
		v.Info = a.reason + ", retry: " + a.next.Round(0).String()
	}
	return v, true
}

func (m *Mesh) neighbours() []Neighbour {
	out := make([]Neighbour, 0, Ample(len(m.conns.byPeer)))
	for _, c := range m.conns.joined() {
		r := &c.record.Record
		out = append(out, Neighbour{
			PeerView: c.record.view, Candidates: udpCandidates(c, r), Conn: c.id, Remote: c.remote,
			Outbound: c.dialled != "", Established: m.conns.path(c.peer).Up, Clear: m.trusts(c) && m.trustedBy(r),
		})
	}
	return out
}

// udpCandidates lists where a neighbour's UDP port may be: the host its control
// connection comes from, the address dialled, and the addresses it tells.
func udpCandidates(c *conn, r *Record) []netip.AddrPort {
	var out []netip.AddrPort
	add := func(ap netip.AddrPort) {
		if ap.IsValid() && ap.Port() != 0 && !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	if c.dialled != "" {
		add(c.remote)
	}
	add(netip.AddrPortFrom(c.remote.Addr(), r.Port))
	for _, a := range r.Addresses {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			add(ap)
		}
	}
	return out
}

// Candidates lists where a peer's UDP port may be, likeliest first: where other
// peers reach it and are connected with it, and the addresses it tells. It is for data
// sessions with peers that are no Neighbours; it looks through all connections.
func (v *View) Candidates(n Name) []netip.AddrPort {
	var out []netip.AddrPort
	add := func(ap netip.AddrPort) {
		if ap.IsValid() && ap.Port() != 0 && len(out) < 2*maxCandidates && !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	i, ok := slices.BinarySearchFunc(v.Peers, n, func(p *PeerView, n Name) int { return p.Name.Compare(n) })
	if !ok {
		return nil
	}
	for _, p := range v.Peers {
		for k := range p.Connections.Len() {
			if p.Connections.Peer(k) != n || len(out) >= maxCandidates {
				continue
			}
			l := p.Connections.At(k)
			if seen, err := netip.ParseAddrPort(l.Observed); err == nil {
				add(seen)
			}
			ap, err := netip.ParseAddrPort(l.Address)
			if err != nil {
				continue
			}
			if !l.Outbound {
				ap = netip.AddrPortFrom(ap.Addr(), v.Peers[i].Port)
			}
			add(ap)
		}
	}
	for _, a := range v.Peers[i].Addresses {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			add(ap)
		}
	}
	return out
}
