package runtime

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// DefaultMTU is the MTU in bytes of containers' interfaces where nothing else is said. It is what Weave Net's users
// have: 1460 (the smallest common underlay) less VXLAN and ESP.
const DefaultMTU = 1376

// MAC is an Ethernet address; zero means any.
type MAC [6]byte

// MaxFrame is the longest frame that an interface takes, bytes.
const MaxFrame = 65535 + 14

// IsZero reports whether no address is given.
func (m MAC) IsZero() bool { return m == MAC{} }

// String is the address in colon-separated hex.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Attachment is what is wanted in one namespace. Without Addresses nothing is wanted there: the interface goes.
type Attachment struct {
	ID             string // container or endpoint, as the caller knows it; for people and logs
	Target         Target
	MAC            MAC            // zero: whatever it has, or the kernel chooses
	Addresses      []netip.Prefix // host bits set: 10.2.1.5/24
	MulticastRoute bool           // 224.0.0.0/4 through the interface
	Service        netip.Addr     `json:"-"` // gets a route through the interface; invalid: none
	MTU            int            // bytes; 0 is DefaultMTU
}

// Port is the host-side end of an attachment's veth.
type Port struct {
	Present bool
	Up      bool
	Master  string // the bridge it is a port of; "" none
	Hairpin bool
	MTU     int
}

// Seen is what one namespace and its host side show.
type Seen struct {
	Present        bool // an interface Inner whose other end is our Port
	Up             bool
	MAC            MAC
	MTU            int
	Addresses      []netip.Prefix // without link-local ones
	MulticastRoute bool
	Service        bool   // there is a route to the attachment's Service
	Filter         Filter // of the namespace; also without an interface
	Port           Port
}

// Bridge is the host's bridge, wanted or seen.
type Bridge struct {
	Present bool // seen only
	Up      bool // seen only
	Name    string
	MAC     MAC
	MTU     int
}

// Uplink is the port of the bridge that leads to other hosts.
type Uplink struct {
	Present bool   // seen only
	Up      bool   // seen only
	Name    string // "" none is wanted
	Master  string // seen only
	MTU     int    // wanted 0: whatever it has
}

// Want is all that is wanted of a host.
type Want struct {
	Bridge      Bridge
	Uplink      Uplink
	Attachments []Attachment
}

// State is all that the kernel shows of a host. A namespace without an entry is taken as empty.
type State struct {
	Bridge Bridge
	Uplink Uplink
	Seen   map[Identity]Seen
}

// Route is an entry of the host's routing table.
type Route struct {
	Prefix netip.Prefix
	Device string
}

// Overlaps describes which of the addresses' networks the host also reaches otherwise: traffic of the host, and of
// containers that leave through it, may then go where nobody expects. Default routes, and routes through one of the own
// devices, do not count.
func Overlaps(addresses []netip.Prefix, routes []Route, own ...string) []string {
	var warnings []string
	for _, a := range addresses {
		for _, r := range routes {
			if r.Prefix.Bits() == 0 || slices.Contains(own, r.Device) || !a.Masked().Overlaps(r.Prefix) {
				continue
			}
			warnings = append(warnings, fmt.Sprintf("address %s overlaps with the host's route %s via %s; "+
				"choose another subnet if the container cannot reach what is behind that route", a, r.Prefix, r.Device))
			break
		}
	}
	return warnings
}

// Add returns addresses with those of more that are missing.
func Add(addresses, more []netip.Prefix) []netip.Prefix {
	out := slices.Clone(addresses)
	for _, p := range more {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// Remove returns addresses without those of less.
func Remove(addresses, less []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(addresses), func(p netip.Prefix) bool { return slices.Contains(less, p) })
}
