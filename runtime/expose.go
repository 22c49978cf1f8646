package runtime

import (
	"fmt"
	"net/netip"
	"strings"
)

// Exposure is an address of the host on the overlay.
type Exposure struct {
	Prefix     netip.Prefix // host bits set: 10.32.0.1/12
	Masquerade bool         // what comes in from elsewhere, or goes there, has the host's address
}

// Place is a chain of the packet filter that a Rule stands in.
type Place uint8

const (
	// Postrouting decides the source address of what leaves, in a chain of ours.
	Postrouting Place = iota + 1
	// Forward decides what passes the host, in a chain of ours: it can only forbid.
	Forward
	// Foreign decides the same at the head of others' chains, which forbid by themselves (Docker's, firewalld's, ufw's).
	Foreign
	// Prerouting and Output decide where what comes to the host's ports goes, from elsewhere and from the host itself, in
	// chains of ours.
	Prerouting
	Output
	// ForeignInput decides what reaches the host itself, at the head of others' chains, as Foreign does for what passes it.
	ForeignInput
)

// Verdict is what a Rule does.
type Verdict uint8

const (
	// Return, Masquerade, Accept and DropIt are nftables' verdicts of these names.
	Return Verdict = iota + 1
	Masquerade
	Accept
	DropIt
	// Lead is nftables' dnat: packets go to the rule's To.
	Lead
)

// Rule is one line of the packet filter. What is empty matches everything.
type Rule struct {
	Place                Place
	Label                string // tells it from others of its place; what it is for, in a few words
	In, Out, NotOut      string // interfaces
	Known                bool   // only what belongs to a connection that exists, or is related to one
	Source, NotSource    netip.Prefix
	Destination, NotDest netip.Prefix // one of these at most, as of the former two
	Port                 PortMatch
	Led                  bool           // only what a Lead rule has led
	To                   netip.AddrPort // of Lead
	Verdict              Verdict
}

// PortMatch is the part of a rule that is about ports.
type PortMatch struct {
	Proto string // "tcp" or "udp"; "" matches everything
	Port  uint16
	Local bool // only what is for an address of the host's, but for loopback ones
	OneIn int  // one of so many connections, by chance; 0 and 1: all of them
}

// DockerBridge is the bridge that Docker gives containers by default.
const DockerBridge = "docker0"

const portDNS = 53

var multicast6 = netip.MustParsePrefix("ff00::/8")

// ExposeRules are the rules for a bridge and the host's addresses on it, in order. They say what Weave Net's iptables
// rules said, for both families:
//
//   - Docker's containers do not reach ours by way of the host. Answers to ours do pass.
//   - What the bridge carries from port to port passes, where the kernel shows it to the packet filter (the sysctl
//     net.bridge.bridge-nf-call-iptables, which Docker sets).
//   - Containers reach the host's name server, whatever else of the host is closed to them.
//   - What comes from an exposed subnet, or goes there, passes the host, and is masqueraded unless that is not wanted.
func ExposeRules(bridge string, exposed []Exposure) []Rule {
	rules := []Rule{
		{Place: Forward, Label: "answers from " + DockerBridge, In: DockerBridge, Out: bridge, Known: true, Verdict: Accept},
		{Place: Forward, Label: "not from " + DockerBridge, In: DockerBridge, Out: bridge, Verdict: DropIt},
		{Place: Foreign, Label: "within", In: bridge, Out: bridge, Verdict: Accept},
	}
	for _, proto := range []string{"udp", "tcp"} {
		rules = append(rules, Rule{
			Place: ForeignInput, Label: "names by " + proto, In: bridge, Destination: serviceRange,
			Port: PortMatch{Proto: proto, Port: portDNS}, Verdict: Accept,
		})
	}
	for _, subnet := range subnets(exposed, false) {
		rules = append(
			rules,
			Rule{Place: Foreign, Label: "from " + subnet.String(), In: bridge, Source: subnet, Verdict: Accept},
			Rule{Place: Foreign, Label: "to " + subnet.String(), Out: bridge, Destination: subnet, Verdict: Accept},
		)
	}
	for _, subnet := range subnets(exposed, true) {
		groups := multicast
		if subnet.Addr().Is6() {
			groups = multicast6
		}
		rules = append(
			rules,
			Rule{Place: Postrouting, Label: "multicast of " + subnet.String(), Source: subnet, Destination: groups, Verdict: Return},
			Rule{Place: Postrouting, Label: "to " + subnet.String(), Out: bridge, NotSource: subnet, Destination: subnet, Verdict: Masquerade},
			Rule{Place: Postrouting, Label: "from " + subnet.String(), NotOut: bridge, Source: subnet, NotDest: subnet, Verdict: Masquerade},
		)
	}
	return rules
}

// subnets are those of the addresses, each once, in order; of all, or of those that are masqueraded.
func subnets(exposed []Exposure, masqueraded bool) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range exposed {
		if e.Masquerade || !masqueraded {
			out = Add(out, []netip.Prefix{e.Prefix.Masked()})
		}
	}
	return out
}

// Families tells which families a rule is for: both where it names no subnet.
func (r Rule) Families() (v4, v6 bool) {
	for _, p := range []netip.Prefix{r.Source, r.NotSource, r.Destination, r.NotDest} {
		if p.IsValid() {
			return p.Addr().Is4(), p.Addr().Is6()
		}
	}
	if r.To.IsValid() {
		return r.To.Addr().Is4(), r.To.Addr().Is6()
	}
	return true, true
}

// String is the rule as nft would show it, more or less, for logs and golden files.
func (r Rule) String() string {
	var parts []string
	add := func(format string, a any) { parts = append(parts, fmt.Sprintf(format, a)) }
	add("%s:", [...]string{"?", "postrouting", "forward", "foreign", "prerouting", "output", "foreign input"}[r.Place])
	if r.In != "" {
		add("iifname %q", r.In)
	}
	if r.Out != "" {
		add("oifname %q", r.Out)
	}
	if r.NotOut != "" {
		add("oifname != %q", r.NotOut)
	}
	if r.Known {
		parts = append(parts, "ct state established,related")
	}
	for _, m := range []struct {
		text string
		p    netip.Prefix
	}{{"saddr %v", r.Source}, {"saddr != %v", r.NotSource}, {"daddr %v", r.Destination}, {"daddr != %v", r.NotDest}} {
		if m.p.IsValid() {
			add(m.text, m.p)
		}
	}
	parts = append(parts, r.Port.words()...)
	if r.Led {
		parts = append(parts, "ct status dnat")
	}
	add("%s", [...]string{"?", "return", "masquerade", "accept", "drop", "dnat"}[r.Verdict])
	if r.Verdict == Lead {
		add("to %v", r.To)
	}
	return strings.Join(parts, " ")
}

func (m PortMatch) words() []string {
	var parts []string
	if m.Local {
		parts = append(parts, "fib daddr type local")
	}
	if m.Proto != "" {
		parts = append(parts, fmt.Sprintf("%s dport %d", m.Proto, m.Port))
	}
	if m.OneIn > 1 {
		parts = append(parts, fmt.Sprintf("numgen random mod %d 0", m.OneIn))
	}
	return parts
}
