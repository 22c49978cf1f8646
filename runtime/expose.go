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
	// Postrouting decides the source address of what leaves.
	Postrouting Place = iota + 1
	// Forward decides what passes the host, in a chain of ours: it can only forbid.
	Forward
	// Foreign decides the same at the head of others' chains, which forbid by themselves (Docker's, firewalld's, ufw's).
	Foreign
)

// Verdict is what a Rule does.
type Verdict uint8

const (
	// Return, Masquerade, Accept and DropIt are nftables' verdicts of these names.
	Return Verdict = iota + 1
	Masquerade
	Accept
	DropIt
)

// Rule is one line of the packet filter. What is empty matches everything.
type Rule struct {
	Place                Place
	In, Out              string       // interfaces
	Source, NotSource    netip.Prefix // of these only one is valid
	Destination, NotDest netip.Prefix
	Verdict              Verdict
}

// ExposeRules are the rules for the addresses of a bridge, in order: what Weave Net's iptables rules said (its chains WEAVE
// and WEAVE-EXPOSE), for both families. Without addresses there are none.
func ExposeRules(bridge string, exposed []Exposure) []Rule {
	if len(exposed) == 0 {
		return nil
	}
	rules := []Rule{
		{Place: Forward, In: "docker0", Out: bridge, Verdict: DropIt},
		{Place: Foreign, In: bridge, Verdict: Accept},
	}
	for _, e := range exposed {
		subnet := e.Prefix.Masked()
		rules = append(rules, Rule{Place: Foreign, Out: bridge, Destination: subnet, Verdict: Accept})
		if !e.Masquerade {
			continue
		}
		if subnet.Addr().Is4() {
			rules = append(rules, Rule{Place: Postrouting, Source: subnet, Destination: multicast, Verdict: Return})
		} else {
			rules = append(rules, Rule{Place: Postrouting, Source: subnet, Destination: netip.MustParsePrefix("ff00::/8"), Verdict: Return})
		}
		rules = append(rules,
			Rule{Place: Postrouting, Out: bridge, NotSource: subnet, Destination: subnet, Verdict: Masquerade},
			Rule{Place: Postrouting, Source: subnet, NotDest: subnet, Verdict: Masquerade})
	}
	return rules
}

// Families tells which families a rule is for: both where it names no subnet.
func (r Rule) Families() (v4, v6 bool) {
	for _, p := range []netip.Prefix{r.Source, r.NotSource, r.Destination, r.NotDest} {
		if p.IsValid() {
			return p.Addr().Is4(), p.Addr().Is6()
		}
	}
	return true, true
}

// String is the rule as nft would show it, more or less, for logs and golden files.
func (r Rule) String() string {
	var parts []string
	add := func(format string, a any) { parts = append(parts, fmt.Sprintf(format, a)) }
	add("%s:", [...]string{"?", "postrouting", "forward", "foreign"}[r.Place])
	if r.In != "" {
		add("iifname %q", r.In)
	}
	if r.Out != "" {
		add("oifname %q", r.Out)
	}
	for _, m := range []struct {
		text string
		p    netip.Prefix
	}{{"saddr %v", r.Source}, {"saddr != %v", r.NotSource}, {"daddr %v", r.Destination}, {"daddr != %v", r.NotDest}} {
		if m.p.IsValid() {
			add(m.text, m.p)
		}
	}
	add("%s", [...]string{"?", "return", "masquerade", "accept", "drop"}[r.Verdict])
	return strings.Join(parts, " ")
}
