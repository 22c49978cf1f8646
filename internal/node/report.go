package node

import (
	"fmt"
	"time"

	"weave/internal/api"
	"weave/peer"
	"weave/tun"
)

// Report makes what `weave status` and `weave report` show, from the published
// view: it waits for nobody.
func (n *node) Report() api.Report {
	r := api.Report{Ready: n.ready.Load(), Version: api.Version}
	v := n.mesh.view.Load()
	if v == nil {
		return r
	}
	r.Router.Mesh = n.meshReport(v)
	r.Router.Interface = n.interfaceText()
	r.Router.CaptureStats = n.captureStats()
	r.Router.MACs = n.macs(v)
	r.Router.TrustedSubnets = []string{}
	for _, p := range n.cfg.TrustedSubnets {
		r.Router.TrustedSubnets = append(r.Router.TrustedSubnets, p.String())
	}
	if n.ipam != nil {
		r.IPAM = n.ipam.report()
	}
	if n.names != nil {
		r.DNS = n.names.report()
	}
	if n.proxy != nil {
		r.Proxy = n.proxy.report()
	}
	r.Runtime = n.containers.report()
	r.Services = n.services.ListServices()
	r.Policy = n.policy.shown.Load()
	r.Spoofed = n.spoofed()
	return r
}

func (n *node) meshReport(v *peer.View) api.Mesh {
	m := api.Mesh{
		Protocol: "weave", ProtocolMinVersion: peer.MinProtocol, ProtocolMaxVersion: peer.MaxProtocol,
		Encryption: n.cfg.password(), PeerDiscovery: !n.cfg.NoDiscovery,
		Name: v.Self.Name.String(), NickName: v.Self.Nickname, Port: n.cfg.Port,
		TerminationCount: int(v.Counters.Terminations), Targets: append([]string{}, v.Targets...),
	}
	nicks := make(map[peer.Name]string, len(v.Peers))
	for _, p := range v.Peers {
		nicks[p.Name] = p.Nickname
	}
	routes := v.Routes()
	for _, p := range v.Peers {
		m.Peers = append(m.Peers, peerReport(p, nicks))
		if r, ok := routes[p.Name]; ok {
			m.UnicastRoutes = append(m.UnicastRoutes, api.UnicastRoute{Dest: p.Name.String(), Via: r.Via.String()})
		}
		if len(v.Peers) > maxBroadcastRoutes {
			continue
		}
		if to, ok := v.Broadcast(p.Name); ok {
			m.BroadcastRoutes = append(m.BroadcastRoutes, broadcastReport(p.Name, to))
		}
	}
	paths := n.paths()
	linked := map[peer.Name]bool{}
	for _, c := range v.Connections {
		out := connReport(c, n.cfg.password())
		if p, ok := paths[c.Peer]; ok {
			linked[c.Peer] = true
			shown := p.show(c.Peer, nicks)
			out.Path = &shown
		}
		m.Connections = append(m.Connections, out)
	}
	for _, p := range v.Peers {
		if r, ok := paths[p.Name]; ok && !linked[p.Name] {
			m.Paths = append(m.Paths, r.show(p.Name, nicks))
		}
	}
	return m
}

// paths is what the session loop showed last.
func (n *node) paths() pathReports { return n.sessions.reports.read() }

// maxBroadcastRoutes peers have their broadcast routes shown; each costs a tree
// of shortest paths.
const maxBroadcastRoutes = 128

func peerReport(p *peer.PeerView, nicks map[peer.Name]string) api.Peer {
	out := api.Peer{
		Name: p.Name.String(), NickName: p.Nickname, UID: p.UID, Version: p.Version,
		Connections: []api.PeerConnection{},
	}
	for c := range p.Connections.All() {
		out.Connections = append(out.Connections, api.PeerConnection{
			Name: c.Peer.String(), NickName: nicks[c.Peer], Address: c.Address,
			Outbound: c.Outbound, Established: c.Established,
		})
	}
	return out
}

func broadcastReport(source peer.Name, to []peer.Name) api.BroadcastRoute {
	r := api.BroadcastRoute{Source: source.String(), Via: []string{}}
	for _, t := range to {
		r.Via = append(r.Via, t.String())
	}
	return r
}

func connReport(c peer.ConnView, password bool) api.Connection {
	out := api.Connection{Address: c.Address, Outbound: c.Outbound, State: string(c.State), Info: c.Info}
	if c.Peer.IsZero() {
		return out
	}
	overlay := c.Attrs.Name
	if overlay == "" {
		overlay = "none"
	}
	who := fmt.Sprintf("%s(%s)", c.Peer, c.Nickname)
	out.Info = api.ConnectionInfo(password, c.Attrs.Encrypted, overlay, who)
	out.Attrs = map[string]any{"name": overlay}
	if c.Attrs.MTU != 0 {
		out.Attrs["mtu"] = c.Attrs.MTU
	}
	if password {
		out.Attrs["encrypted"] = c.Attrs.Encrypted
	}
	return out
}

func (n *node) interfaceText() string {
	if n.tap == nil {
		return "a TAP in each container"
	}
	if n.tap.Offloads() {
		return n.tap.Name() + " (via TAP with offloads)"
	}
	return n.tap.Name() + " (via TAP)"
}

func (n *node) captureStats() map[string]int {
	s := n.tapStats()
	stats := map[string]int{
		"PacketsReceived": int(s.ReadPackets),
		"PacketsSent":     int(s.WrittenPackets),
		"PacketsDropped":  int(s.DroppedFull + s.DroppedDown + s.DroppedRefused),
		"Queues":          n.cfg.Queues,
		"QueueLength":     tun.DefaultTxQueueLen, // packets
	}
	for _, sock := range n.dp.sockets[0] {
		if sock != nil { // bytes, as the kernel granted them
			stats["ReceiveBuffer"], stats["SendBuffer"] = sock.Stats().RecvBuffer, sock.Stats().SendBuffer
		}
	}
	return stats
}

// tapStats sums the counts of all TAPs.
func (n *node) tapStats() tun.Stats {
	if n.tap != nil {
		return n.tap.Stats()
	}
	return n.host.(*userHost).stats()
}

// macs lists what the switch has learnt, with the peer each address is behind.
func (n *node) macs(v *peer.View) []api.MAC {
	names := map[peer.Name]string{}
	for _, p := range v.Peers {
		names[p.Name] = p.Nickname
	}
	t := n.dp.table.Load()
	var out []api.MAC
	for _, e := range n.dp.sw.MACs() {
		at := v.Self.Name
		if r := t.remote(e.Port); r != nil {
			at = r.name
		}
		out = append(out, api.MAC{
			Mac: e.MAC.String(), Name: at.String(), NickName: names[at],
			LastSeen: n.dp.started.Add(time.Duration(e.Seen) * time.Second).Round(time.Second),
		})
	}
	return out
}
