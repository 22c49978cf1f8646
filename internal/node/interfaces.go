package node

import (
	"errors"
	"fmt"
	"syscall"

	"weave/internal/store"
	"weave/tun"
)

// Names of a daemon's interfaces. The first daemon in a network namespace has
// these; a second one, with a state directory of its own, has them with a 2,
// and so on. Which it is, is remembered.
const (
	bridgeName = "weave"
	tapName    = "vethwe-tap"
	lastSlot   = 9
)

// interfaces are the names of one daemon's interfaces on the host.
type interfaces struct {
	bridge string
	tap    string // the uplink, a port of the bridge
}

func interfacesAt(slot int) interfaces {
	if slot <= 1 {
		return interfaces{bridge: bridgeName, tap: tapName}
	}
	return interfaces{bridge: fmt.Sprintf("%s%d", bridgeName, slot), tap: fmt.Sprintf("%s%d", tapName, slot)}
}

// openTap opens the remembered TAP, or the first that no other daemon holds.
func (n *node) openTap() (interfaces, error) {
	first, last := 1, lastSlot
	if slot, ok := slotOf(n.store); ok {
		first, last = slot, slot
	}
	cfg := tun.Config{Queues: n.cfg.Queues, MTU: n.cfg.MTU, LeaveDown: true}
	if n.cfg.Tap != "" {
		var err error
		if cfg.Backend, err = tun.ParseBackend(n.cfg.Tap); err != nil {
			return interfaces{}, err
		}
	}
	for slot := first; ; slot++ {
		names := interfacesAt(slot)
		var err error
		cfg.Name = names.tap
		n.tap, err = tun.Open(cfg)
		if errors.Is(err, syscall.EBUSY) && slot < last {
			continue
		}
		if err != nil {
			return names, err
		}
		return names, n.store.Put(keySlot, []byte{byte('0' + slot)})
	}
}

func slotOf(st *store.Store) (int, bool) {
	v, ok, err := st.Get(keySlot)
	if err != nil || !ok || len(v) != 1 || v[0] < '1' || v[0] > '0'+lastSlot {
		return 0, false
	}
	return int(v[0] - '0'), true
}

// interfacesOf finds the names that belong to a state directory; the usual
// ones where it does not say.
func interfacesOf(stateDir string) interfaces {
	st, err := store.Open(Paths{State: stateDir}.store())
	if err != nil {
		return interfacesAt(1)
	}
	defer st.Close()
	slot, _ := slotOf(st)
	return interfacesAt(slot)
}
