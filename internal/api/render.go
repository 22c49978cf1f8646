package api

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
)

// ConnectionInfo makes Connection.Info for a connection that is pending or established. With a password each line
// says whether this very connection is encrypted. overlay is "fastdp" or "sleeve"; peer is "name(nickname)".
func ConnectionInfo(password, encrypted bool, overlay, peer string) string {
	info := fmt.Sprintf("%-6s %s", overlay, peer)
	switch {
	case !password:
		return info
	case encrypted:
		return fmt.Sprintf("%-11s %s", "encrypted", info)
	default:
		return fmt.Sprintf("%-11s %s", "unencrypted", info)
	}
}

// RenderStatus makes the text of `weave status`: labels right-aligned, the colon in column 16, one section per
// subsystem with an empty line between them.
func RenderStatus(r Report) string {
	var b strings.Builder
	line := func(label, value string) { fmt.Fprintf(&b, "%15s: %s\n", label, value) }
	line("Version", r.Version+" ("+versionCheck(r.VersionCheck)+")")
	b.WriteByte('\n')
	rt := r.Router
	line("Service", "router")
	line("Protocol", rt.Protocol+" "+protocolRange(rt.ProtocolMinVersion, rt.ProtocolMaxVersion))
	line("Name", rt.Name+"("+rt.NickName+")")
	line("Encryption", enabled(rt.Encryption))
	line("PeerDiscovery", enabled(rt.PeerDiscovery))
	line("Targets", fmt.Sprint(len(rt.Targets)))
	line("Connections", connectionCounts(rt.Connections))
	line("Peers", peerCounts(rt.Peers))
	line("TrustedSubnets", list(rt.TrustedSubnets))
	if r.IPAM != nil {
		b.WriteByte('\n')
		renderSpace(line, r.IPAM)
	}
	if r.DNS != nil {
		b.WriteByte('\n')
		renderNames(line, r.DNS)
	}
	if r.Proxy != nil {
		b.WriteByte('\n')
		renderProxy(line, r.Proxy)
	}
	if r.Runtime != nil {
		b.WriteByte('\n')
		renderRuntime(line, r.Runtime)
	}
	return b.String()
}

// RenderTargets makes the text of `weave status targets`: one target per line, as the user typed it.
func RenderTargets(r Report) string {
	var b strings.Builder
	for _, target := range r.Router.Targets {
		b.WriteString(target + "\n")
	}
	return b.String()
}

// RenderConnections makes the text of `weave status connections`. The separating space before the attributes stands
// also when there are none, as it always has; what our own program adds stands behind them. Peers that no connection
// leads to follow, with an arrow of their own.
func RenderConnections(r Report) string {
	var b strings.Builder
	for _, c := range r.Router.Connections {
		fmt.Fprintf(&b, "%s %-21s %-11s %s %s", arrow(c.Outbound), c.Address, c.State, c.Info, attributes(c.Attrs))
		if c.Path != nil {
			b.WriteString(" " + c.Path.text())
		}
		b.WriteByte('\n')
	}
	for _, p := range r.Router.Paths {
		fmt.Fprintf(&b, "-- %-21s %-11s %s %s\n", "no connection", p.Kind, p.Name+"("+p.NickName+")", p.text())
	}
	return b.String()
}

// text describes a path on one line: which it is, how good, and why it is no better.
func (p *Path) text() string {
	var parts []string
	switch {
	case p.Address != "":
		parts = append(parts, p.Kind+" "+p.Address)
	case p.Via != "":
		parts = append(parts, p.Kind+" via "+p.Via)
	default:
		parts = append(parts, p.Kind)
	}
	if p.RTT > 0 {
		parts = append(parts, fmt.Sprintf("rtt=%.3gms loss=%.0f%% mtu=%d", p.RTT, p.Loss, p.MTU))
	}
	if p.Shield != "" {
		parts = append(parts, "shield="+p.Shield)
	}
	if p.Reason != "" {
		parts = append(parts, "("+p.Reason+")")
	}
	return strings.Join(parts, " ")
}

// RenderPeers makes the text of `weave status peers`: each peer, and indented below it its connections.
func RenderPeers(r Report) string {
	var b strings.Builder
	for _, p := range r.Router.Peers {
		fmt.Fprintf(&b, "%s(%s)\n", p.Name, p.NickName)
		for _, c := range p.Connections {
			state := StatePending
			if c.Established {
				state = StateEstablished
			}
			fmt.Fprintf(&b, "   %s %-21s %-37s %s\n", arrow(c.Outbound), c.Address, c.Name+"("+c.NickName+")", state)
		}
	}
	return b.String()
}

// RenderContainers makes the text of `weave ps`: id, MAC and addresses, separated by single spaces. An engine's id of
// 64 hex digits is shortened to 12 unless the caller asked for containers by name, whose names are echoed as given.
func RenderContainers(containers []Container, asked bool) string {
	var b strings.Builder
	for _, c := range containers {
		id := c.ID
		if !asked && isEngineID(id) {
			id = id[:12]
		}
		b.WriteString(id + " " + c.MAC.String())
		for _, a := range c.Addresses {
			b.WriteString(" " + a.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// renderAddresses makes what attach and detach print: bare addresses on one line.
func renderAddresses(prefixes []netip.Prefix) string {
	parts := make([]string, len(prefixes))
	for i, p := range prefixes {
		parts[i] = p.Addr().String()
	}
	return strings.Join(parts, " ") + "\n"
}

func versionCheck(v VersionCheck) string {
	const when = "2006/01/02 15:04:05"
	switch {
	case !v.Enabled:
		return "version check update disabled"
	case !v.Success:
		return "failed to check latest version - see logs; next check at " + v.NextCheckAt.Format(when)
	case v.NewVersion != "":
		return "version " + v.NewVersion + " available - please upgrade!"
	default:
		return "up to date; next check at " + v.NextCheckAt.Format(when)
	}
}

func protocolRange(lowest, highest int) string {
	if lowest == highest {
		return fmt.Sprint(highest)
	}
	return fmt.Sprintf("%d..%d", lowest, highest)
}

func connectionCounts(connections []Connection) string {
	counts := make(map[string]int)
	for _, c := range connections {
		counts[c.State]++
	}
	text := fmt.Sprint(len(connections))
	states := []string{StateEstablished, StatePending, StateRetrying, StateFailed, StateConnecting}
	if detail := countList(counts, states); detail != "" {
		text += " (" + detail + ")"
	}
	return text
}

func peerCounts(peers []Peer) string {
	counts := make(map[string]int)
	for _, p := range peers {
		for _, c := range p.Connections {
			if c.Established {
				counts[StateEstablished]++
			} else {
				counts[StatePending]++
			}
		}
	}
	text := fmt.Sprint(len(peers))
	if detail := countList(counts, []string{StateEstablished, StatePending}); detail != "" {
		text += " (with " + detail + " connections)"
	}
	return text
}

func countList(counts map[string]int, order []string) string {
	var parts []string
	for _, key := range order {
		if n := counts[key]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, key))
		}
	}
	return strings.Join(parts, ", ")
}

// attributes concatenates k=v in the order of the keys, without any separator: scripts look for
// "encrypted=truemtu=1376". The overlay's name is already part of the info.
func attributes(attrs map[string]any) string {
	keys := make([]string, 0, len(attrs))
	for k := range attrs {
		if k != "name" {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s=%v", k, attrs[k])
	}
	return b.String()
}

func arrow(outbound bool) string {
	if outbound {
		return "->"
	}
	return "<-"
}

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func list(items []string) string {
	if len(items) == 0 {
		return "none"
	}
	return strings.Join(items, ", ")
}

func isEngineID(id string) bool {
	if len(id) != 64 {
		return false
	}
	return strings.Trim(id, "0123456789abcdef") == ""
}
