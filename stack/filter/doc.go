// Package filter is the policy of a network: what it says, who is meant by it, and what follows for a packet.
//
// The nouns: a Document is a policy as Parse reads it: groups, rules, a default. An Operand is one side of a rule: everybody, or
// whoever one of its Terms is about. An Endpoint is something with addresses: a container, with names and labels, on a peer.
// Members says which addresses each operand has, and what changes when an endpoint does. A Filter is a policy made ready for
// packets, Judge its verdict on one. Flows remembers which flows were allowed, so that answers pass. A Guard is what one port
// may call itself: its MAC and addresses.
//
// A packet is judged once on each host that it passes, in this order:
//
//	tagged (VLAN)                       drop
//	neither IP nor ARP                  the default
//	ARP, ND, MLD, IGMP, DHCP, our DNS   pass
//	of a flow allowed before            pass, as does an ICMP error about such a flow
//	the first rule that matches         as it says; a flow begins
//	none does                           the default
//
// Pieces of a packet have no ports: they pass if the first piece did, and not before it. The same order stands in nftables on
// hosts with a bridge (runtime/netlink); Parse, Members and Explain serve both.
//
// The rule is found by an index: of each part of a packet the set of rules that it could be of, and the first rule in all sets.
//
// Parse, Members and Explain have one caller at a time. Filter, Flows and Guard may be used by any number of goroutines; Judge and
// Check take no lock and allocate nothing. A change of the policy (New), or of who is a member (With), makes a new Filter over the same
// Flows: a flow that it may forbid is judged anew by the first packet that comes after.
//
// What does not belong here: how a policy travels (policy), who calls Judge (internal/node), nftables (runtime/netlink).
package filter
