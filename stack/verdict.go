package stack

// Port is one way in and out of the switch. The driver gives the numbers: small, dense, reusable after RemovePort.
// Zero is no port.
type Port uint16

// PortKind says on which side of the horizon a port lies.
type PortKind uint8

const (
	// Local ports lead to this host: a TAP, the host's own endpoint.
	Local PortKind = iota + 1
	// Remote ports lead to a peer. Peers form a full mesh, so a frame from one is never passed on to another.
	Remote
)

// String names the kind.
func (k PortKind) String() string {
	switch k {
	case Local:
		return "local"
	case Remote:
		return "remote"
	}
	return "none"
}

// Stamp is a coarse time: whole seconds since some start of the driver's choosing, the same for the life of a Switch.
// It may lag or step back by a few seconds between goroutines; nothing but the ageing depends on it.
type Stamp uint32

// since is how long ago a was at now; zero when a lies ahead, as it may when two goroutines' clocks differ.
func (now Stamp) since(a Stamp) Stamp {
	if now < a {
		return 0
	}
	return now - a
}

// Action says what to do with a frame.
type Action uint8

const (
	// Drop means forward nowhere; Verdict.Reason says why, and it has been counted.
	Drop Action = iota
	// Unicast means forward to Verdict.Out.
	Unicast
	// Flood means forward to Verdict.Ports: broadcast, or nothing better is known.
	Flood
	// Group means forward to Verdict.Ports: those known to want this multicast frame.
	Group
)

// String names the action.
func (a Action) String() string {
	switch a {
	case Unicast:
		return "unicast"
	case Flood:
		return "flood"
	case Group:
		return "group"
	}
	return "drop"
}

// Verdict is the switch's word on one frame. Ports is shared and immutable: read it, even long after; it is nil for Drop and
// Unicast, never empty for Flood and Group, and never holds the port the frame came from.
type Verdict struct {
	Ports  *PortSet
	Out    Port
	Action Action
	Reason DropReason
}

// DropReason says why a frame went nowhere.
type DropReason uint8

const (
	// DropNone is the reason of a frame that was forwarded.
	DropNone DropReason = iota
	// DropMalformed is a frame without a whole Ethernet header.
	DropMalformed
	// DropUnknownPort is a frame from a port the switch does not have (any more).
	DropUnknownPort
	// DropBadSource is a source address that no station can have: zero, or a group.
	DropBadSource
	// DropReserved is a frame for 01:80:C2:00:00:00 to 0F: spanning tree, pause, LACP, LLDP. IEEE 802.1Q table 8-1 keeps
	// them on their link.
	DropReserved
	// DropSamePort is a frame for an address behind the port it came from.
	DropSamePort
	// DropHorizon is a frame from a peer for an address behind another peer: that one has its own copy or has moved.
	DropHorizon
	// DropNoPort is a frame to flood where there is no other port.
	DropNoPort
	// DropNoMember is a multicast frame that nobody on the other ports wants.
	DropNoMember
	// DropNoRouter is a membership report that concerns nobody here: only routers may hear it (RFC 4541 section 2.1.1).
	DropNoRouter
	// DropStorm is a frame to flood from a port that had its share of the second (PortLimits).
	DropStorm
	// DropReasons is how many there are, DropNone included.
	DropReasons
)

var dropNames = [DropReasons]string{
	DropNone:        "none",
	DropMalformed:   "malformed",
	DropUnknownPort: "unknown_port",
	DropBadSource:   "bad_source",
	DropReserved:    "reserved_destination",
	DropSamePort:    "same_port",
	DropHorizon:     "split_horizon",
	DropNoPort:      "no_port",
	DropNoMember:    "no_member",
	DropNoRouter:    "no_router",
	DropStorm:       "storm",
}

// String is the reason as the name of a counter: lower case, underscores.
func (r DropReason) String() string {
	if r >= DropReasons {
		return "unknown"
	}
	return dropNames[r]
}

// Counters is a snapshot of what the switch has counted since it was made. Each number is exact and only grows; together they
// are not of one instant.
type Counters struct {
	Drops         [DropReasons]uint64 // frames, by DropReason
	Moved         uint64              // a known MAC was seen on another port
	NotLearnt     uint64              // frames whose source found no room in the MAC table, or in its port's part of it
	BadIGMP       uint64              // IGMP messages flooded unread: lengths, checksum, fragment
	BadMLD        uint64              // the same for MLD
	GroupsRefused uint64              // reports of groups beyond Config.MaxGroups, which stay flooded
}
