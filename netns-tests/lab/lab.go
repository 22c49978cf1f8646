package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config describes a Lab.
type Config struct {
	Hosts int // how many hosts, numbered from 1
	MTU   int // of the underlay; 0 = 1500
	// Direct joins two hosts by one cable, without the bridge between.
	Direct bool
	// Routed joins each host to a router instead of all to a bridge, by IPv4 only;
	// Loss, Partition, Join and Cut are for a bridge.
	Routed bool
	// Plain switches segmentation offloads off on every underlay link, so that
	// no packet on the wire is larger than the MTU, as with a simple network
	// card. Without it veth passes super-frames of 64 KB uncut.
	Plain bool
}

// Lab is one underlay with its hosts.
type Lab struct {
	ID    string
	Dir   string // on tmpfs, with a short path: unix socket names have 108 bytes
	Hosts []*Host
	Under *NS // nil when Direct
	cfg   Config
	conts []*Container
	boxes []*Box

	machines []*Machine
	wires    []*os.File // of Host.Delay
}

// New builds the underlay and its hosts; nothing runs in them yet.
func New(cfg Config) (*Lab, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	dir, err := os.MkdirTemp("/run", "l")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	l := &Lab{ID: filepath.Base(dir), Dir: dir, cfg: cfg}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	for i := 1; i <= l.cfg.Hosts; i++ {
		h, err := newHost(l, i)
		if err != nil {
			return err
		}
		l.Hosts = append(l.Hosts, h)
	}
	if l.cfg.Direct {
		return l.cable()
	}
	if l.cfg.Routed {
		return l.route()
	}
	return l.bridge()
}

// cable joins exactly two hosts back to back.
func (l *Lab) cable() error {
	if len(l.Hosts) != 2 {
		return fmt.Errorf("a direct cable joins 2 hosts, not %d", len(l.Hosts))
	}
	if err := Veth(l.Hosts[0].NS, "eth0", l.Hosts[1].NS, "eth0", l.cfg.MTU); err != nil {
		return err
	}
	for _, h := range l.Hosts {
		if err := h.address(); err != nil {
			return err
		}
	}
	return nil
}

// bridge joins all hosts by a bridge in a namespace of its own.
func (l *Lab) bridge() error {
	var err error
	if l.Under, err = NewNS(l.ID+"-u", "underlay"); err != nil {
		return err
	}
	if err := Bridge(l.Under, "br0", l.cfg.MTU); err != nil {
		return err
	}
	for _, cidr := range []string{"10.99.0.254/24", "fd99::254/64"} {
		if err := l.Under.AddAddr("br0", cidr); err != nil {
			return err
		}
	}
	for _, h := range l.Hosts {
		if err := Veth(l.Under, h.port(), h.NS, "eth0", l.cfg.MTU); err != nil {
			return err
		}
		if err := Enslave(l.Under, h.port(), "br0"); err != nil {
			return err
		}
		if l.cfg.Plain {
			if err := PlainNIC(l.Under, h.port()); err != nil {
				return err
			}
		}
		if err := h.address(); err != nil {
			return err
		}
	}
	return nil
}

// Close kills the daemons and takes everything down.
func (l *Lab) Close() error {
	var errs []error
	for _, m := range l.machines {
		errs = append(errs, m.close())
	}
	for _, h := range l.Hosts {
		errs = append(errs, h.KillAll())
	}
	for _, c := range l.conts {
		errs = append(errs, c.Close())
	}
	for _, b := range l.boxes {
		errs = append(errs, b.Close())
	}
	for _, w := range l.wires {
		errs = append(errs, w.Close())
	}
	for _, h := range l.Hosts {
		for _, u := range h.users {
			u.close()
		}
		errs = append(errs, h.NS.Close())
		kept, _ := filepath.Glob(filepath.Join(h.RunDir, "*.netns")) // namespaces that a daemon left which was killed
		for _, path := range kept {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
			}
		}
	}
	if l.Under != nil {
		errs = append(errs, l.Under.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(l.Dir))...)
}

// Veth joins two namespaces by a cable and sets both ends up.
func Veth(a *NS, aDev string, b *NS, bDev string, mtu int) error {
	h, err := a.Links()
	if err != nil {
		return err
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = aDev, mtu
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: bDev, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(int(b.net.Fd()))}
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth %s-%s: %w", aDev, bDev, err)
	}
	return errors.Join(a.Up(aDev), b.Up(bDev))
}

// Bridge makes a bridge that floods multicast, and sets it up.
func Bridge(n *NS, name string, mtu int) error {
	h, err := n.Links()
	if err != nil {
		return err
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	snoop := false
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snoop}); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	return n.Up(name)
}

// Enslave makes dev a port of a bridge in the same namespace.
func Enslave(n *NS, dev, bridge string) error {
	return n.WithLink(bridge, func(h *netlink.Handle, br netlink.Link) error {
		return n.WithLink(dev, func(_ *netlink.Handle, l netlink.Link) error {
			return h.LinkSetMaster(l, br)
		})
	})
}
