package netlink

import (
	"bytes"
	"fmt"
	"os"

	"weave/runtime"
)

// TakesLong tells whether a namespace takes TCP packets over IPv4 that are longer than 64 KB, frames of up to size bytes, and has
// its host-side interface pass them uncut. Linux takes such packets since 6.3, which is when interfaces got a limit of
// their own for them (gso_ipv4_max_size, ip-link(8)). What reads packets itself might not: a namespace with a packet socket
// (packet(7)) or an XDP program on our interface is said not to.
func (h *Host) TakesLong(t runtime.Target, size int) (bool, error) {
	outer, err := h.space.LinkByName(runtime.HostVeth(t.ID))
	if err != nil {
		return false, fmt.Errorf("look for the interface of %s: %w", t, err)
	}
	limit := outer.Attrs().GSOIPv4MaxSize
	if limit == 0 {
		return false, nil
	}
	inside, err := h.enter(t)
	if err != nil {
		return false, err
	}
	defer inside.close()
	inner, err := inside.LinkByName(runtime.Inner)
	if err != nil {
		return false, fmt.Errorf("look for %s in %s: %w", runtime.Inner, t, err)
	}
	if xdp := inner.Attrs().Xdp; xdp != nil && xdp.Attached {
		return false, nil
	}
	if listened, err := inside.hasPacketSockets(); err != nil || listened {
		return false, err
	}
	if int(limit) < size {
		err = h.space.LinkSetGSOIPv4MaxSize(outer, size)
	}
	return err == nil, err
}

// hasPacketSockets tells whether anybody has a packet socket in the namespace.
func (s *space) hasPacketSockets() (bool, error) {
	var list []byte
	err := s.run(func() (err error) {
		list, err = os.ReadFile("/proc/thread-self/net/packet") // a line of titles, and one for each socket
		return err
	})
	return bytes.Count(list, []byte("\n")) > 1, err
}
