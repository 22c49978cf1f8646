package runtime

import (
	"net/netip"
	"slices"
	"strconv"
)

// multicast is what a container's multicast route covers.
var multicast = netip.MustParsePrefix("224.0.0.0/4")

// Multicast is the prefix of AddRoute steps: all of IPv4 multicast.
func Multicast() netip.Prefix { return multicast }

const (
	on  = "on"
	off = "off"
)

func onOff(b bool) string {
	if b {
		return on
	}
	return off
}

// Diff lists the steps from seen to want: bridge, uplink, then every attachment in the order given. It touches nothing
// that want does not name. It is empty if nothing is missing.
func Diff(want Want, seen State) []Step {
	steps := bridgeSteps(want.Bridge, seen.Bridge)
	steps = append(steps, uplinkSteps(want.Uplink, want.Bridge.Name, seen.Uplink)...)
	for _, a := range want.Attachments {
		steps = append(steps, Plan(a, want.Bridge.Name, seen.Seen[a.Target.ID])...)
	}
	return steps
}

// Plan lists the steps that make one namespace, seen as it is, what want says, on the bridge of that name. want's target
// must be resolved.
func Plan(want Attachment, bridge string, seen Seen) []Step {
	if want.MTU == 0 {
		want.MTU = DefaultMTU
	}
	p := plan{ns: want.Target.ID, host: HostVeth(want.Target.ID), bridge: bridge, want: want, seen: seen}
	if len(want.Addresses) == 0 {
		p.remove()
		return p.steps
	}
	if !seen.Present {
		p.create()
	}
	p.port()
	p.inner()
	return p.steps
}

// plan is a Plan being written; seen follows the steps as far as later ones depend on them.
type plan struct {
	ns     Identity
	host   string
	bridge string
	want   Attachment
	seen   Seen
	steps  []Step
}

func (p *plan) add(s Step) { p.steps = append(p.steps, s) }

// set adds a step that changes a value, if it changes it.
func (p *plan) set(op Op, ns Identity, link, was, value string) {
	if was != value {
		p.add(Step{Op: op, Namespace: ns, Link: link, Was: was, Value: value})
	}
}

// create makes the veth. A host end without its inner end is a leftover: of a namespace that had the same inode, or of
// someone who renamed the inner end.
func (p *plan) create() {
	if p.seen.Port.Present {
		p.add(Step{Op: DeleteVeth, Namespace: p.ns, Link: p.host, Peer: Inner, MTU: p.seen.Port.MTU})
	}
	p.add(Step{Op: CreateVeth, Namespace: p.ns, Link: p.host, Peer: Inner, MAC: p.want.MAC, MTU: p.want.MTU})
	p.seen = Seen{
		Present: true, MAC: p.want.MAC, MTU: p.want.MTU, Filter: p.seen.Filter, Port: Port{Present: true, MTU: p.want.MTU},
	}
	// A bridge port needs no addresses, and must not speak for itself.
	p.add(Step{Op: Tune, Link: p.host, Key: "net/ipv6/conf/%/disable_ipv6", Value: "1"})
	for _, t := range innerTuning {
		p.add(Step{Op: Tune, Namespace: p.ns, Link: Inner, Key: t[0], Value: t[1]})
	}
}

// innerTuning: no addresses or routes from strangers' router advertisements (CVE-2020-13597); an address that moved to
// another host is found again within seconds; removing one address of a subnet leaves the others.
var innerTuning = [][2]string{
	{"net/ipv6/conf/%/accept_ra", "0"},
	{"net/ipv4/neigh/%/base_reachable_time_ms", "5000"},
	{"net/ipv4/neigh/%/delay_first_probe_time", "2"},
	{"net/ipv4/neigh/%/ucast_solicit", "1"},
	{"net/ipv6/neigh/%/base_reachable_time_ms", "5000"},
	{"net/ipv6/neigh/%/delay_first_probe_time", "2"},
	{"net/ipv6/neigh/%/ucast_solicit", "1"},
	{"net/ipv4/conf/%/promote_secondaries", "1"},
}

// port makes the host end right.
func (p *plan) port() {
	s, host := p.seen.Port, Identity{}
	p.set(SetMTU, host, p.host, strconv.Itoa(s.MTU), strconv.Itoa(p.want.MTU))
	if s.Master != p.bridge {
		p.set(SetHairpin, host, p.host, onOff(s.Hairpin), off) // a flag of the port: it does not move along
		s.Hairpin = false
		p.add(Step{Op: JoinBridge, Link: p.host, Was: s.Master, Value: p.bridge})
	}
	p.set(SetHairpin, host, p.host, onOff(s.Hairpin), on)
	p.set(SetUp, host, p.host, onOff(s.Up), on)
}

// inner makes the container's end right. Addresses come before up, so that nothing is sent from a half-made interface,
// and are announced last. The filter comes before both, so that nothing from elsewhere slips in.
func (p *plan) inner() {
	w, s := p.want, p.seen
	if !w.MAC.IsZero() {
		p.set(SetMAC, p.ns, Inner, s.MAC.String(), w.MAC.String())
	}
	p.set(SetMTU, p.ns, Inner, strconv.Itoa(s.MTU), strconv.Itoa(w.MTU))
	p.set(FilterMulticast, p.ns, Inner, s.Filter.String(), FilterFor(w.Addresses).String())
	extra, missing := Remove(s.Addresses, w.Addresses), Remove(w.Addresses, s.Addresses)
	for _, a := range extra {
		p.add(Step{Op: RemoveAddress, Namespace: p.ns, Link: Inner, Prefix: a})
	}
	if slices.ContainsFunc(missing, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
		p.add(Step{Op: Tune, Namespace: p.ns, Link: Inner, Key: "net/ipv6/conf/%/disable_ipv6", Value: "0"})
	}
	for _, a := range missing {
		p.add(Step{Op: AddAddress, Namespace: p.ns, Link: Inner, Prefix: a})
	}
	p.set(SetUp, p.ns, Inner, onOff(s.Up), on)
	if w.Service.IsValid() && !s.Service {
		p.add(Step{Op: AddRoute, Namespace: p.ns, Link: Inner, Prefix: netip.PrefixFrom(w.Service, w.Service.BitLen())})
	}
	switch { // the last route, which the wait shim looks for
	case w.MulticastRoute && !s.MulticastRoute:
		p.add(Step{Op: AddRoute, Namespace: p.ns, Link: Inner, Prefix: multicast})
	case !w.MulticastRoute && s.MulticastRoute:
		p.add(Step{Op: RemoveRoute, Namespace: p.ns, Link: Inner, Prefix: multicast})
	}
	if !s.Up || s.Port.Master != p.bridge || (!w.MAC.IsZero() && s.MAC != w.MAC) {
		missing = w.Addresses // the others may not know, or know something else
	}
	for _, a := range missing {
		p.add(Step{Op: Announce, Namespace: p.ns, Link: Inner, Prefix: a})
	}
}

// remove takes the interface apart piece by piece, so that each step can be undone; the filter goes after it.
func (p *plan) remove() {
	s := p.seen
	if s.Present {
		if s.MulticastRoute {
			p.add(Step{Op: RemoveRoute, Namespace: p.ns, Link: Inner, Prefix: multicast})
		}
		// Before it goes down, because the kernel then drops IPv6 addresses, and an undo could not bring them back.
		for _, a := range slices.Backward(s.Addresses) {
			p.add(Step{Op: RemoveAddress, Namespace: p.ns, Link: Inner, Prefix: a})
		}
		p.set(SetUp, p.ns, Inner, onOff(s.Up), off)
	}
	if s.Port.Present {
		p.removePort()
	}
	p.set(FilterMulticast, p.ns, Inner, s.Filter.String(), Filter{}.String())
}

// removePort takes the host end off the bridge and deletes the veth.
func (p *plan) removePort() {
	s, host := p.seen, Identity{}
	p.set(SetUp, host, p.host, onOff(s.Port.Up), off)
	if s.Port.Master != "" {
		p.set(SetHairpin, host, p.host, onOff(s.Port.Hairpin), off)
		p.set(JoinBridge, host, p.host, s.Port.Master, "")
	}
	if s.Present {
		p.set(SetMTU, host, p.host, strconv.Itoa(s.Port.MTU), strconv.Itoa(s.MTU))
	}
	p.add(Step{Op: DeleteVeth, Namespace: p.ns, Link: p.host, Peer: Inner, MAC: s.MAC, MTU: s.MTU})
}

func bridgeSteps(want, seen Bridge) []Step {
	if want.Name == "" {
		return nil
	}
	p := plan{}
	if want.MTU == 0 {
		want.MTU = DefaultMTU
	}
	if !seen.Present {
		p.add(Step{Op: CreateBridge, Link: want.Name, MAC: want.MAC, MTU: want.MTU})
		seen.MAC, seen.MTU, seen.Up = want.MAC, want.MTU, false
	}
	if !want.MAC.IsZero() {
		p.set(SetMAC, Identity{}, want.Name, seen.MAC.String(), want.MAC.String())
	}
	p.set(SetMTU, Identity{}, want.Name, strconv.Itoa(seen.MTU), strconv.Itoa(want.MTU))
	p.set(SetUp, Identity{}, want.Name, onOff(seen.Up), on)
	if len(p.steps) == 0 {
		return nil
	}
	// New or just adopted. Before it goes up, so that no router's advertisement comes first.
	last := len(p.steps) - 1
	var tuning []Step
	for _, t := range bridgeTuning {
		tuning = append(tuning, Step{Op: Tune, Link: want.Name, Key: t[0], Value: t[1]})
	}
	if p.steps[last].Op != SetUp {
		last++
	}
	return slices.Insert(p.steps, last, tuning...)
}

var bridgeTuning = [][2]string{
	{"net/ipv6/conf/%/accept_ra", "0"},
	{"net/ipv4/neigh/%/base_reachable_time_ms", "5000"},
	{"net/ipv4/neigh/%/delay_first_probe_time", "2"},
	{"net/ipv4/neigh/%/ucast_solicit", "1"},
}

// uplinkSteps never makes the uplink: who holds its descriptor did.
func uplinkSteps(want Uplink, bridge string, seen Uplink) []Step {
	if want.Name == "" || !seen.Present {
		return nil
	}
	p := plan{}
	if seen.Master != bridge {
		p.add(Step{Op: Tune, Link: want.Name, Key: "net/ipv6/conf/%/disable_ipv6", Value: "1"})
	}
	if want.MTU != 0 {
		p.set(SetMTU, Identity{}, want.Name, strconv.Itoa(seen.MTU), strconv.Itoa(want.MTU))
	}
	if seen.Master != bridge {
		// It must be isolated before it forwards anything: the kernel path is the other way to peers.
		p.set(SetUp, Identity{}, want.Name, onOff(seen.Up), off)
		p.set(JoinBridge, Identity{}, want.Name, seen.Master, bridge)
		p.add(Step{Op: Isolate, Link: want.Name})
		seen.Up = false
	}
	p.set(SetUp, Identity{}, want.Name, onOff(seen.Up), on)
	return p.steps
}
