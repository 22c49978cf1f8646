package runtime

import (
	"fmt"
	"net/netip"
)

// Forwarding leads a port of the host to others, one of them for each connection.
type Forwarding struct {
	Proto   string         // "tcp" or "udp"
	At      netip.AddrPort // an address of the host's; an unspecified one stands for all of its family
	Targets []netip.AddrPort
}

// ForwardRules are the rules for ports of the host, in order. Targets of another family than the port's address are left
// out. Ports of all addresses are not led at service addresses, where containers ask for names. What a container of an exposed subnet sends to another of it by way of the host is masqueraded: the answer would
// go past the host, and nobody would know it.
func ForwardRules(bridge string, exposed []Exposure, list []Forwarding) []Rule {
	if len(list) == 0 {
		return nil
	}
	rules := []Rule{{
		Place: Forward, Label: "led from " + DockerBridge, In: DockerBridge, Out: bridge, Led: true, Verdict: Accept,
	}}
	for _, subnet := range subnets(exposed, false) {
		rules = append(rules, Rule{
			Place: Postrouting, Label: "led within " + subnet.String(), Out: bridge, Source: subnet, Destination: subnet, Led: true, Verdict: Masquerade,
		})
	}
	for _, place := range []Place{Prerouting, Output} {
		rules = append(rules, Rule{Place: place, Label: "not of names", Destination: serviceRange, Verdict: Return})
		var all []Rule // after those of one address
		for _, f := range list {
			if f.At.Addr().IsUnspecified() {
				all = append(all, f.rules(place)...)
			} else {
				rules = append(rules, f.rules(place)...)
			}
		}
		rules = append(rules, all...)
	}
	return rules
}

var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

// rules lead the first connection in n to the first target, of the rest one in n-1 to the second, and so on: each target
// gets as many.
func (f Forwarding) rules(place Place) []Rule {
	var targets []netip.AddrPort
	for _, t := range f.Targets {
		if t.Addr().Is4() == f.At.Addr().Is4() {
			targets = append(targets, t)
		}
	}
	var out []Rule
	for i, t := range targets {
		r := Rule{Place: place, Port: PortMatch{Proto: f.Proto, Port: f.At.Port(), OneIn: len(targets) - i}, To: t, Verdict: Lead}
		switch at := f.At.Addr(); {
		case !at.IsUnspecified():
			r.Destination = netip.PrefixFrom(at, at.BitLen())
		case at.Is4():
			r.Port.Local, r.NotDest = true, loopback4
		default:
			r.Port.Local, r.NotDest = true, netip.PrefixFrom(netip.IPv6Loopback(), 128)
		}
		r.Label = fmt.Sprintf("%s %v to %v (1 in %d)", f.Proto, f.At, t, r.Port.OneIn)
		out = append(out, r)
	}
	return out
}
