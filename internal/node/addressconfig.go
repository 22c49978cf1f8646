package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"weave/ipam"
	"weave/runtime/netlink"
)

// DefaultRange is the address range where launch is told none.
const DefaultRange = "10.32.0.0/12"

var (
	//lint:ignore ST1005 scripts look for this text, as Weave Net wrote it
	errSubnetAlone = errors.New("--ipalloc-default-subnet specified without --ipalloc-range.")
	//lint:ignore ST1005 scripts look for this text, as Weave Net wrote it
	errInitAlone = errors.New("--ipalloc-init specified without --ipalloc-range.")
)

// AddressFlags are the flags of launch about addresses, as typed.
type AddressFlags struct {
	Range         string // "" = no allocation
	DefaultSubnet string // "" = the range
	Init          string
	RangeV6       string // "" = derived from the range
	NoIPv6        bool
	ReclaimAfter  time.Duration // 0 = never
}

// AddressConfig says how addresses are allocated. Without a valid Range they are
// not.
type AddressConfig struct {
	Range         netip.Prefix
	DefaultSubnet netip.Prefix
	V6            netip.Prefix // /64 of the addresses beside those of the range; invalid = none
	Init          ipam.Init
	ReclaimAfter  time.Duration
}

// ParseAddressFlags checks the flags. The errors' texts are those that users of
// Weave Net know.
func ParseAddressFlags(f AddressFlags) (AddressConfig, error) {
	var c AddressConfig
	if f.Range == "" {
		switch {
		case f.DefaultSubnet != "":
			return c, errSubnetAlone
		case f.Init != "":
			return c, errInitAlone
		case f.RangeV6 != "" || f.ReclaimAfter != 0:
			return c, errors.New("--ipalloc-range-v6 and --reclaim-after need an --ipalloc-range")
		}
		return c, nil
	}
	var err error
	if c.Range, err = netip.ParsePrefix(f.Range); err != nil {
		return c, fmt.Errorf("invalid --ipalloc-range %q, should look like %s", f.Range, DefaultRange)
	}
	if err := ipam.CheckSubnet(c.Range, c.Range); err != nil {
		return c, fmt.Errorf("invalid --ipalloc-range: %w", err)
	}
	c.DefaultSubnet = c.Range
	if f.DefaultSubnet != "" {
		if c.DefaultSubnet, err = netip.ParsePrefix(f.DefaultSubnet); err != nil {
			return c, fmt.Errorf("invalid --ipalloc-default-subnet %q, should look like %s", f.DefaultSubnet, DefaultRange)
		}
		if err := ipam.CheckSubnet(c.DefaultSubnet, c.Range); err != nil {
			return c, fmt.Errorf("invalid --ipalloc-default-subnet: %w", err)
		}
	}
	if c.Init, err = ipam.ParseInit(f.Init); err != nil {
		//lint:ignore ST1005 scripts look for this text, as Weave Net wrote it
		return c, fmt.Errorf("Unable to parse --ipalloc-init: %w", err)
	}
	if c.ReclaimAfter = f.ReclaimAfter; c.ReclaimAfter < 0 || c.ReclaimAfter > 0 && c.ReclaimAfter < minReclaim {
		return c, fmt.Errorf("invalid --reclaim-after %v, should be %v at least, or 0 for never", f.ReclaimAfter, minReclaim)
	}
	return c, c.chooseV6(f)
}

// minReclaim keeps a restart from being taken for the end of a peer.
const minReclaim = time.Minute

func (c *AddressConfig) chooseV6(f AddressFlags) error {
	var err error
	switch {
	case f.RangeV6 != "":
		c.V6, err = ipam.ParseV6(f.RangeV6)
	default:
		c.V6 = ipam.DeriveV6(c.Range)
	}
	if f.NoIPv6 {
		c.V6 = netip.Prefix{}
	}
	return err
}

// withoutV6 drops the IPv6 addresses where the kernel knows none.
func (c AddressConfig) withoutV6() (AddressConfig, bool) {
	if !c.V6.IsValid() {
		return c, false
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		return c, false
	}
	c.V6 = netip.Prefix{}
	return c, true
}

// OverlappingRoute names a route of this host that leads into the range and
// not to us, "" if there is none: containers and what is behind it could not
// both be reached.
func OverlappingRoute(r netip.Prefix) (string, error) {
	route, found, err := netlink.Overlapping(r, bridgeName)
	if err != nil || !found {
		return "", err
	}
	return route.Prefix.String(), nil
}
