package lab

import (
	"errors"
	"fmt"
	"path/filepath"
)

// WAN is a wide-area network that hosts of several labs have in common, beside what each lab has within:
//
//	host ── eth1 198.51.100.1 ─────────────────────────── br0
//	host ── eth1 192.168.1.2 ── NAT ── 198.51.100.2 ───── br0
type WAN struct {
	*NS
	nats []*NS
}

// NewWAN makes one. l gives it its name; whoever made it closes it.
func NewWAN(l *Lab) (*WAN, error) {
	n, err := NewNS(l.ID+"-wan", "wan")
	if err != nil {
		return nil, err
	}
	return &WAN{NS: n}, Bridge(n, "br0", 1500)
}

func (w *WAN) plug(n *NS, dev string, number int) error {
	port := fmt.Sprintf("w%d", number)
	return errors.Join(
		Veth(w.NS, port, n, dev, 1500),
		Enslave(w.NS, port, "br0"),
		n.AddAddr(dev, WANAddress(number)+"/24"))
}

// WANAddress is the public address with a number.
func WANAddress(number int) string { return fmt.Sprintf("198.51.100.%d", number) }

// Connect gives a host a public address.
func (w *WAN) Connect(h *Host, number int) error { return w.plug(h.NS, "eth1", number) }

// ConnectNAT puts a host behind a router with a public address, which lets nothing in that was not asked for; ports become
// others, by chance.
func (w *WAN) ConnectNAT(h *Host, number int) error {
	nat, err := NewNS(fmt.Sprintf("%s-nat%d", filepath.Base(w.Path()), number), "nat")
	if err != nil {
		return err
	}
	w.nats = append(w.nats, nat)
	return errors.Join(
		w.plug(nat, "out", number),
		Veth(nat, "in", h.NS, "eth1", 1500),
		nat.AddAddr("in", "192.168.1.1/24"),
		h.AddAddr("eth1", "192.168.1.2/24"),
		h.addRoute("eth1", "198.51.100.0/24", "192.168.1.1"),
		nat.Sysctl("net/ipv4/ip_forward", "1"),
		nat.replaceTable("ip", "labnat", `
chain post { type nat hook postrouting priority 100; oifname "out" masquerade random; }
chain through { type filter hook forward priority 0; policy drop; iifname "in" accept; ct state established,related accept; }`))
}

// Close takes it down.
func (w *WAN) Close() error {
	errs := []error{w.NS.Close()}
	for _, n := range w.nats {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}
