package api

import (
	"cmp"
	"fmt"
	"strings"
)

// IPAM describes the address range and who shares it.
type IPAM struct {
	Paxos            *Paxos // nil unless the network is agreeing on who shares the range
	Range            string
	RangeNumIPs      int
	ActiveIPs        int // held here
	DefaultSubnet    string
	Entries          []IPAMEntry // nil before the agreement
	PendingClaims    []PendingClaim
	PendingAllocates []string // "id cidr"
	Status           string
	RangeIPv6        string   `json:",omitempty"`
	Waiting          []string `json:",omitempty"` // reasons
	Disagreements    []string `json:",omitempty"` // with other peers
	Strays           []Stray  `json:",omitempty"`
	Removed          []string `json:",omitempty"` // peers, with their heirs
}

// Paxos is how far the agreement is.
type Paxos struct {
	Elector    bool
	KnownNodes int
	Quorum     int
}

// IPAMEntry is a part of the range and its owner.
type IPAMEntry struct {
	Token       string // its first address
	Size        uint32
	Peer        string
	Nickname    string
	IsKnownPeer bool // can be reached
	Version     uint32
}

// PendingClaim is a claim that waits.
type PendingClaim struct {
	Ident string
	CIDR  CIDR
}

// CIDR is an address with the length of its subnet's prefix.
type CIDR struct {
	Addr      string
	PrefixLen int
}

// Stray is an address in use here that belongs to another peer.
type Stray struct {
	Ident  string
	CIDR   string
	Owner  string // name(nickname)
	Reason string // why it keeps it; "": not known yet
}

// renderSpace is the section of status about addresses.
func renderSpace(line func(label, value string), i *IPAM) {
	line("Service", "ipam")
	line("Status", i.Status)
	line("Range", i.Range)
	line("DefaultSubnet", i.DefaultSubnet)
}

// share is what one peer owns.
type share struct {
	name, nick string
	size       uint64
	known      bool
}

// shares adds the entries up by peer, the own first, then in the order of the ring.
func shares(r Report) []share {
	index := map[string]int{r.Router.Name: 0}
	out := []share{{name: r.Router.Name, nick: r.Router.NickName, known: true}}
	for _, e := range r.IPAM.Entries {
		i, there := index[e.Peer]
		if !there {
			i = len(out)
			index[e.Peer] = i
			out = append(out, share{name: e.Peer, nick: e.Nickname, known: e.IsKnownPeer})
		}
		out[i].size += uint64(e.Size)
	}
	return out
}

// RenderSpace makes the text of `weave status ipam`: one line per owner, nothing before there is a ring.
func RenderSpace(r Report) string {
	if r.IPAM == nil || len(r.IPAM.Entries) == 0 {
		return ""
	}
	var b strings.Builder
	for i, s := range shares(r) {
		info := ""
		switch {
		case i == 0:
			info = fmt.Sprintf("(%d active)", r.IPAM.ActiveIPs)
		case !s.known:
			info = "- unreachable!"
		}
		fmt.Fprintf(&b, "%-37s %8d IPs (%04.1f%% of total) %s\n", s.name+"("+s.nick+")", s.size,
			100*float64(s.size)/float64(max(1, r.IPAM.RangeNumIPs)), info)
	}
	return b.String()
}

// RenderSpaceCheck makes the text of `weave ipam check`: the ring, and whatever is not as it should be.
func RenderSpaceCheck(r Report) string {
	i := r.IPAM
	if i == nil {
		return "Addresses are not allocated here.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Range %s, default subnet %s, IPv6 %s: %s\n", i.Range, i.DefaultSubnet, cmp.Or(i.RangeIPv6, "none"), i.Status)
	if len(i.Entries) == 0 {
		b.WriteString("It is not shared yet; the first command that needs an address has that done, or 'weave prime'.\n")
	}
	b.WriteString(RenderSpace(r))
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			b.WriteString(title + "\n")
		}
		for _, l := range lines {
			b.WriteString("   " + l + "\n")
		}
	}
	list("Removed peers:", i.Removed)
	list("Waiting:", i.Waiting)
	var strays []string
	for _, s := range i.Strays {
		reason := s.Reason
		if reason == "" {
			reason = "asking"
		}
		strays = append(strays, fmt.Sprintf("%s, used by %s, belongs to %s: %s", s.CIDR, s.Ident, s.Owner, reason))
	}
	list("Addresses in use here that belong to other peers:", strays)
	list("Disagreements:", i.Disagreements)
	if len(strays)+len(i.Disagreements) == 0 {
		b.WriteString("No disagreement.\n")
	} else {
		b.WriteString("'weave ipam check --repair' settles what can be settled; connections and all other addresses work meanwhile.\n")
	}
	return b.String()
}
