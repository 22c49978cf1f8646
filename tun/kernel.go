package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const devicePath = "/dev/net/tun"

// Feature bits of TUNSETOFFLOAD (Linux include/uapi/linux/if_tun.h): what the reader of the TAP accepts unfinished.
const (
	tcpFeatures = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	usoFeatures = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// openKernel opens cfg.Queues descriptors of one TAP. It must run in the namespace the TAP belongs to: a descriptor's
// namespace is fixed by open(2) on the tun device.
func openKernel(cfg Config) (*Device, error) {
	var files []*os.File
	fail := func(err error) (*Device, error) {
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	var features uint
	name := cfg.Name
	for i := range cfg.Queues {
		fd, err := openTun()
		if err != nil {
			return fail(err)
		}
		got, err := attach(fd, name, cfg.Queues > 1)
		if err == nil {
			features, err = enableOffloads(fd)
		}
		if err == nil && i == 0 {
			err = setPersist(fd, cfg.Persist)
		}
		if err != nil {
			unix.Close(fd)
			return fail(err)
		}
		name = got
		f, err := newFile(fd)
		if err != nil {
			return fail(err)
		}
		files = append(files, f)
	}
	return newDevice(name, Kernel, features, files)
}

func openTun() (int, error) {
	fd, err := unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, fs.ErrNotExist):
		return -1, fmt.Errorf("open %s: %w (load the kernel's tun module, or in a container pass the device in)", devicePath, err)
	case errors.Is(err, fs.ErrPermission):
		return -1, fmt.Errorf("open %s: %w (run as root, or let users open it: chmod 0666 %s)", devicePath, err, devicePath)
	}
	return -1, fmt.Errorf("open %s: %w", devicePath, err)
}

// newFile takes fd over. A descriptor that blocks when os.NewFile sees it stays out of the runtime's poller; reads of ours
// must not block all the same.
func newFile(fd int) (*os.File, error) {
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set blocking: %w", err)
	}
	f := os.NewFile(uintptr(fd), devicePath)
	if err := unix.SetNonblock(fd, true); err != nil {
		f.Close()
		return nil, fmt.Errorf("set non-blocking: %w", err)
	}
	return f, nil
}

// attach gives fd its interface, made now unless a persistent one of this name exists.
func attach(fd int, name string, multi bool) (string, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return "", fmt.Errorf("interface name %q: %w", name, err)
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	switch {
	case err == nil:
		return req.Name(), nil
	case errors.Is(err, unix.EBUSY):
		return "", fmt.Errorf("TUNSETIFF: %w (another process holds the interface)", err)
	case errors.Is(err, unix.EPERM):
		return "", fmt.Errorf("TUNSETIFF: %w (CAP_NET_ADMIN is needed in the user namespace that owns the network namespace)", err)
	case errors.Is(err, unix.EINVAL) && exists(name):
		return "", fmt.Errorf("TUNSETIFF: %w (an interface %s exists and is no TAP of this kind; remove it first)", err, name)
	case errors.Is(err, unix.EINVAL):
		return "", fmt.Errorf("TUNSETIFF with IFF_VNET_HDR: %w: %w", ErrRefused, err)
	}
	return "", fmt.Errorf("TUNSETIFF: %w", err)
}

// enableOffloads asks for everything, then for less, and returns what was granted.
func enableOffloads(fd int) (uint, error) {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderLen); err != nil {
		return 0, fmt.Errorf("TUNSETVNETHDRSZ: %w: %w", ErrRefused, err)
	}
	var err error
	for _, features := range []uint{tcpFeatures | usoFeatures, tcpFeatures} {
		if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, int(features)); err == nil {
			return features, nil
		}
	}
	return 0, fmt.Errorf("TUNSETOFFLOAD: %w: %w", ErrRefused, err)
}

func setPersist(fd int, on bool) error {
	if !on {
		return nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("TUNSETPERSIST: %w", err)
	}
	return nil
}

// adopt wraps a descriptor that already has its interface.
func adopt(fd int) (*Device, error) {
	fail := func(err error) (*Device, error) {
		unix.Close(fd)
		return nil, err
	}
	req, _ := unix.NewIfreq("")
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return fail(fmt.Errorf("TUNGETIFF: %w", err))
	}
	const need = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if flags := req.Uint16(); flags&need != need {
		return fail(fmt.Errorf("interface %s has flags %#x, TAP, NO_PI and VNET_HDR are needed", req.Name(), flags))
	}
	features, err := enableOffloads(fd)
	if err != nil {
		return fail(err)
	}
	unix.CloseOnExec(fd)
	f, err := newFile(fd)
	if err != nil {
		return nil, err
	}
	return newDevice(req.Name(), Kernel, features, []*os.File{f})
}

func exists(name string) bool {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer h.Close()
	_, err = h.LinkByName(name)
	return err == nil
}

// configure sets what has nothing to do with the descriptor. It runs in the interface's namespace.
func (d *Device) configure(cfg Config) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("find the new interface: %w", err)
	}
	d.mtu = link.Attrs().MTU
	if cfg.MTU != 0 {
		if err := h.LinkSetMTU(link, cfg.MTU); err != nil {
			return fmt.Errorf("set mtu %d: %w", cfg.MTU, err)
		}
		d.mtu = cfg.MTU
	}
	if cfg.MAC != nil {
		if err := h.LinkSetHardwareAddr(link, cfg.MAC); err != nil {
			return fmt.Errorf("set mac %v: %w", cfg.MAC, err)
		}
	}
	if err := h.LinkSetTxQLen(link, cfg.TxQueueLen); err != nil {
		return fmt.Errorf("set transmit queue length %d: %w", cfg.TxQueueLen, err)
	}
	if cfg.LeaveDown {
		return nil
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}
