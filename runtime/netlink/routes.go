package netlink

import (
	"fmt"
	"net/netip"
	"strings"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Overlapping returns a route of this process's network namespace that leads
// into the prefix; false if there is none. The default route and those through
// interfaces whose names begin with ours do not count. It needs no privileges.
func Overlapping(p netip.Prefix, ours string) (runtime.Route, bool, error) {
	list, err := retry(func() ([]vnl.Route, error) {
		return vnl.RouteListFiltered(vnl.FAMILY_V4, &vnl.Route{Table: unix.RT_TABLE_MAIN}, vnl.RT_FILTER_TABLE)
	})
	if err != nil {
		return runtime.Route{}, false, fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range list {
		to, ok := prefix(r.Dst)
		if !ok || to.Bits() == 0 || r.Type != unix.RTN_UNICAST || !to.Overlaps(p) {
			continue
		}
		device := ""
		if link, err := vnl.LinkByIndex(r.LinkIndex); err == nil {
			device = link.Attrs().Name
		}
		if !strings.HasPrefix(device, ours) {
			return runtime.Route{Prefix: to, Device: device}, true, nil
		}
	}
	return runtime.Route{}, false, nil
}
