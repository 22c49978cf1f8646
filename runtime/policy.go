package runtime

import "net/netip"

// Policy is what frames on a bridge are held against, as it goes into the kernel.
type Policy struct {
	Allow   bool // what no rule is about
	Sides   []Side
	Rules   []PolicyRule
	Members [][]netip.Addr // of each side that is Living, now; PolicyChange tells of later ones
}

// Side is one side of rules: everybody, subnets, or who is a member.
type Side struct {
	Text   string // names it: one with the same text and subnets is the same side of another policy
	Any    bool
	Living bool // it has members
	Nets   []netip.Prefix
}

// PolicyRule decides about a packet if it is the first that matches.
type PolicyRule struct {
	Text     string // names its counter: a rule with the same text keeps it
	Allow    bool
	From, To int     // of Policy.Sides
	Protos   []uint8 // none: all. 1 stands for ICMP of both families
	Ports    []PortRange
}

// PortRange is a range of destination ports.
type PortRange struct{ First, Last uint16 }

// PolicyChange is a member that came or went.
type PolicyChange struct {
	Side  int
	Addr  netip.Addr
	Added bool
}

// PolicyCount is what a rule's counter shows.
type PolicyCount struct{ Packets, Bytes uint64 }
