package netlink

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// ErrConflict reports an address by which the host would lose what it reaches otherwise.
var ErrConflict = errors.New("this host is in that subnet already")

// Expose gives the bridge these addresses and makes the rules for them. had are those it was given before: they go if they
// are not wanted any more; addresses that somebody else gave the bridge stay. It is idempotent. Without addresses some
// rules remain, which keep containers on the bridge together (see runtime.ExposeRules). Warnings tell what works but may
// surprise.
func (h *Host) Expose(exposed []runtime.Exposure, had []netip.Prefix) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exposing = true
	var want []netip.Prefix
	for _, e := range exposed {
		want = append(want, e.Prefix)
	}
	warnings, err := h.exposeAddresses(want, had)
	if err != nil {
		return nil, fmt.Errorf("expose: %w", err)
	}
	h.exposed = slices.Clone(exposed)
	more, err := h.assertRules()
	if err != nil {
		return nil, fmt.Errorf("expose: %w", err)
	}
	warnings = append(append(warnings, more...), h.legacyWarnings()...)
	return append(warnings, h.enableForwarding(want)...), nil
}

// Forward leads these ports of the host, and no others. What is connected stays connected. It is idempotent, and takes
// effect with Expose.
func (h *Host) Forward(list []runtime.Forwarding) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forwardings = slices.Clone(list)
	if !h.exposing {
		return nil
	}
	if _, err := h.assertRules(); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	return nil
}

func (h *Host) exposeAddresses(want, had []netip.Prefix) ([]string, error) {
	link, err := h.space.LinkByName(h.cfg.Bridge)
	if err != nil {
		return nil, err
	}
	there, err := h.space.addresses(link)
	if err != nil {
		return nil, err
	}
	fresh := runtime.Remove(want, there)
	if err := h.refuseConflicts(fresh); err != nil {
		return nil, err
	}
	h.tuneExposed(want)
	for _, p := range runtime.Remove(had, want) {
		if err := h.space.address(runtime.Step{Op: runtime.RemoveAddress, Prefix: p}, link); err != nil {
			return nil, fmt.Errorf("remove address %s: %w", p, err)
		}
	}
	var mac runtime.MAC
	copy(mac[:], link.Attrs().HardwareAddr)
	var warnings []string
	for _, p := range want {
		// Also those that were there: the kernel takes a subnet's other addresses away with its first, unless told not to.
		err := h.space.address(runtime.Step{Op: runtime.AddAddress, Prefix: p}, link)
		if err != nil && p.Addr().Is6() && (noIPv6(err) || link.Attrs().MTU < minIPv6MTU) {
			warnings = append(warnings, fmt.Sprintf("address %s was not exposed: the host has no IPv6 on %s (%v)", p, h.cfg.Bridge, err))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("add address %s: %w", p, err)
		}
		if err := h.space.send(link.Attrs().Index, runtime.Announcement(mac, p.Addr())); err != nil {
			h.log.Debug("an address was not announced", "address", p, "err", err)
		}
	}
	if len(fresh) == 0 {
		return warnings, nil
	}
	routes, err := h.routes()
	if err != nil {
		h.log.Warn("cannot tell whether addresses overlap with routes", "err", err)
	}
	return append(warnings, runtime.Overlaps(fresh, routes, h.cfg.Bridge)...), nil
}

// isBridge tells what kind of a device this is.
func (h *Host) isBridge(device string) bool {
	link, err := h.space.LinkByName(device)
	return err == nil && link.Type() == "bridge"
}

// refuseConflicts looks at the host's other interfaces.
func (h *Host) refuseConflicts(fresh []netip.Prefix) error {
	list, err := retry(func() ([]vnl.Addr, error) { return h.space.AddrList(nil, vnl.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	var host []runtime.HostAddress
	for _, a := range list {
		p, ok := prefix(a.IPNet)
		if !ok || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		link, err := h.space.LinkByIndex(a.LinkIndex)
		if err != nil {
			continue // gone meanwhile
		}
		host = append(host, runtime.HostAddress{Prefix: p, Device: link.Attrs().Name})
	}
	for _, p := range fresh {
		a, found := runtime.Conflict(p, h.cfg.Bridge, host)
		if found && strings.HasPrefix(a.Device, "weave") && h.isBridge(a.Device) {
			return fmt.Errorf("%w: %s, by %s of %s, which is of another weave on this host. If both networks have to have the same addresses, run one of the two as an ordinary "+
				"user or in a network namespace of its own, and join them by 'weave service export' here and 'import' there", ErrConflict, a.Prefix.Masked(), a.Prefix.Addr(), a.Device)
		}
		if found {
			return fmt.Errorf("%w: %s, by %s of %s; it would lose what it reaches there: choose an address of another subnet than %s",
				ErrConflict, a.Prefix.Masked(), a.Prefix.Addr(), a.Device, p)
		}
	}
	return nil
}

// tuneExposed sets sysctls of the bridge; they go with it.
func (h *Host) tuneExposed(want []netip.Prefix) {
	keys := [][2]string{{"net/ipv4/conf/%/promote_secondaries", "1"}}
	if slices.ContainsFunc(want, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		keys = append(keys, [2]string{"net/ipv6/conf/%/disable_ipv6", "0"})
	}
	for _, k := range keys {
		if err := h.space.sysctl(strings.ReplaceAll(k[0], "%", h.cfg.Bridge), k[1]); err != nil {
			h.log.Debug("a sysctl was not set", "key", k[0], "err", err)
		}
	}
}

// enableForwarding has the kernel forward packets of the families of these addresses. It stays so after they are gone, since
// others may have come to need it.
func (h *Host) enableForwarding(want []netip.Prefix) []string {
	var warnings []string
	for _, f := range []struct {
		key   string
		is    func(netip.Addr) bool
		first func() error
	}{
		{"net/ipv4/ip_forward", netip.Addr.Is4, func() error { return nil }},
		{"net/ipv6/conf/all/forwarding", netip.Addr.Is6, h.keepAdvertised},
	} {
		if !slices.ContainsFunc(want, func(p netip.Prefix) bool { return f.is(p.Addr()) }) {
			continue
		}
		on, err := h.space.readSysctl(f.key)
		if errors.Is(err, fs.ErrNotExist) || on == "1" {
			continue
		}
		if err == nil {
			err = errors.Join(f.first(), h.space.sysctl(f.key, "1"))
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("the host does not forward packets, so that containers reach no further than it: %v; set %s=1", err, f.key))
			continue
		}
		h.log.Info("the host now forwards packets", "sysctl", f.key)
	}
	return warnings
}

// keepAdvertised has interfaces heed router advertisements further that do so now: with a host that forwards they would
// stop, and the host would lose its routes (Documentation/networking/ip-sysctl.rst, accept_ra).
func (h *Host) keepAdvertised() error {
	return h.space.run(func() error {
		keys, _ := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra") // the pattern is right: there is no other error
		for _, key := range keys {
			if value, err := os.ReadFile(key); err != nil || strings.TrimSpace(string(value)) != "1" || filepath.Base(filepath.Dir(key)) == "all" {
				continue
			}
			if err := os.WriteFile(key, []byte("2"), 0); err != nil && !errors.Is(err, unix.ENODEV) {
				return err
			}
		}
		return nil
	})
}

// Exposed is the bridge as weave ps shows it: its MAC and addresses but for the service address; false without any.
func (h *Host) Exposed() (runtime.MAC, []netip.Prefix, bool) {
	mac, addresses, there, err := h.Bridge()
	if err != nil || !there || len(addresses) == 0 {
		return mac, nil, false
	}
	return mac, slices.DeleteFunc(addresses, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() }), true
}
