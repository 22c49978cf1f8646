package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Action is what is done with a packet.
type Action uint8

// Actions.
const (
	Deny Action = iota
	Allow
)

func (a Action) String() string {
	if a == Allow {
		return "allow"
	}
	return "deny"
}

// Document is a policy.
type Document struct {
	Default  Action
	Groups   []Group   // in the order of their first lines
	Operands []Operand // each one once
	Rules    []Rule    // the first that matches decides
}

// Group is a name for terms: whoever one of them is about is in it.
type Group struct {
	Name  string
	Terms []Term
}

// Term is one line of a group; all that it has must hold.
type Term struct {
	Names   []string       // globs; one of them matches one of the names
	Peers   []string       // globs of a peer's name or nickname
	Labels  []Label        // each of them is there
	Subnets []netip.Prefix // the address is in one of them
}

// Label is a label with its value, a glob; "*" also stands for no value given.
type Label struct{ Key, Value string }

// OnlySubnets tells that a term is about addresses, whoever has them.
func (t Term) OnlySubnets() bool { return len(t.Names)+len(t.Peers)+len(t.Labels) == 0 }

// Operand is one side of a rule.
type Operand struct {
	Text   string // as in the policy
	Any    bool   // everybody
	Groups []int  // of Document.Groups
	Terms  []Term // of the groups, and the subnets that stand in the rule itself
}

// Nets are the subnets of which every address is meant.
func (o Operand) Nets() []netip.Prefix {
	var out []netip.Prefix
	for _, t := range o.Terms {
		if t.OnlySubnets() {
			out = append(out, t.Subnets...)
		}
	}
	return out
}

// Living tells that endpoints come and go in it.
func (o Operand) Living() bool {
	for _, t := range o.Terms {
		if !t.OnlySubnets() {
			return true
		}
	}
	return false
}

// Ports is a range of ports.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// IP protocol numbers (IANA).
const (
	protoICMP   = 1
	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// Rule is one line that allows or denies.
type Rule struct {
	Line     int
	Action   Action
	From, To int     // of Document.Operands
	Protos   []uint8 // none: every packet. 1 stands for ICMP of both families
	Ports    []Ports // destination; none: all
}

// Has tells whether the rule is about a protocol, with ICMPv6 as ICMP.
func (r *Rule) Has(proto uint8) bool {
	if len(r.Protos) == 0 {
		return true
	}
	if proto == protoICMPv6 {
		proto = protoICMP
	}
	for _, p := range r.Protos {
		if p == proto {
			return true
		}
	}
	return false
}

// HasPort tells whether the rule is about a destination port.
func (r *Rule) HasPort(port uint16) bool {
	if len(r.Ports) == 0 {
		return true
	}
	for _, p := range r.Ports {
		if p.First <= port && port <= p.Last {
			return true
		}
	}
	return false
}

// RuleText is a rule as people write it. Two rules with the same text do the same.
func (d *Document) RuleText(i int) string {
	r := &d.Rules[i]
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s -> %s", r.Action, d.Operands[r.From].Text, d.Operands[r.To].Text)
	for n, p := range r.Protos {
		b.WriteByte(" ,"[min(n, 1)])
		b.WriteString(protoName(p))
	}
	for n, p := range r.Ports {
		b.WriteByte(" ,"[min(n, 1)])
		b.WriteString(p.String())
	}
	return b.String()
}

var protoNames = map[string]uint8{"tcp": protoTCP, "udp": protoUDP, "sctp": protoSCTP, "icmp": protoICMP}

func protoName(p uint8) string {
	for name, n := range protoNames {
		if n == p {
			return name
		}
	}
	return strconv.Itoa(int(p))
}

// hasPorts tells which protocols have ports, at the same place: RFC 9293, RFC 768, RFC 9260.
func hasPorts(p uint8) bool { return p == protoTCP || p == protoUDP || p == protoSCTP }

// ParseService reads [tcp|udp|sctp/]PORT, icmp or a number of a protocol, as `policy test` is asked.
func ParseService(text string) (proto uint8, port uint16, err error) {
	name, rest, given := strings.Cut(text, "/")
	if !given {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
			return protoTCP, uint16(n), nil
		}
		if name == "icmp" {
			return protoICMP, 0, nil
		}
		return 0, 0, fmt.Errorf("invalid %q, should be PORT, tcp/PORT, udp/PORT, sctp/PORT or icmp", text)
	}
	proto = protoNames[name]
	n, err := strconv.ParseUint(rest, 10, 16)
	if !hasPorts(proto) || err != nil || n == 0 {
		return 0, 0, fmt.Errorf("invalid %q, should be PORT, tcp/PORT, udp/PORT, sctp/PORT or icmp", text)
	}
	return proto, uint16(n), nil
}
