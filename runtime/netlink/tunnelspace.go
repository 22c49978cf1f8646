package netlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tunnelSpace opens the namespace at Config.Tunnels, or makes one and mounts it there.
func (h *Host) tunnelSpace() (*space, error) {
	path := h.cfg.Tunnels
	if path == "" {
		return nil, errors.New("no place for the tunnels' network namespace")
	}
	if s, err := openSpace(path); err == nil {
		return s, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a place for the tunnels' network namespace: %w", err)
	}
	_ = file.Close()
	s, err := newSpace()
	if err != nil {
		return nil, err
	}
	_ = s.sysctl("net/ipv4/ip_forward", "0") // as the host's, at first; nothing is to pass from one peer to another
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		s.close()
		return nil, fmt.Errorf("keep the tunnels' network namespace at %s: %w", path, err)
	}
	return s, nil
}

// withoutWireGuard removes all that belongs to VXLAN over it.
func (h *Host) withoutWireGuard() error {
	if err := h.delete(tunnelNames(h.cfg.Bridge)[TunnelWireGuard]); err != nil {
		return err
	}
	h.removeWireGuard()
	return nil
}

// removeWireGuard removes the device and its namespace, if they are there. What sends by it must be gone before.
func (h *Host) removeWireGuard() {
	if h.wireguard != nil {
		h.wireguard.close()
	}
	path := h.cfg.Tunnels
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) { // "" does not exist either
		return
	}
	if s, err := openSpace(path); err == nil { // it may be mounted elsewhere as well, and would live on
		link, err := s.LinkByName(wireGuardName(h.cfg.Bridge))
		if err == nil {
			err = s.LinkDel(link)
		}
		if err != nil && !gone(err) {
			h.log.Warn("cannot remove an interface", "name", wireGuardName(h.cfg.Bridge), "err", err)
		}
		s.close()
	}
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		h.log.Warn("the tunnels' network namespace may be left behind", "at", path, "err", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("a file may be left behind", "at", path, "err", err)
	}
}

// WireGuardSupport says why this kernel has no WireGuard, or why there can be no device of it; nothing if it works. It makes one, in
// a namespace that is gone afterwards; that also has the kernel load its module. What it says is for users.
func (h *Host) WireGuardSupport() string {
	s, err := newSpace()
	if err != nil {
		return fmt.Sprintf("cannot try it: %v", err)
	}
	defer s.close()
	link := &vnl.GenericLink{LinkAttrs: vnl.NewLinkAttrs(), LinkType: wireGuardType}
	link.Name = "wg"
	switch err := s.LinkAdd(link); {
	case errors.Is(err, unix.EOPNOTSUPP):
		return "the kernel has no WireGuard (module wireguard)"
	case err != nil:
		return fmt.Sprintf("the kernel refuses WireGuard: %v", err)
	}
	return ""
}
