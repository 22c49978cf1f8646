package netlink

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"weave/runtime"
)

// TakesLong tells whether a namespace takes TCP packets over IPv4 that are longer than 64 KB, frames of up to size bytes, and has
// its host-side interface pass them uncut. Linux takes such packets since 6.3, which is when interfaces got a limit of
// their own for them (gso_ipv4_max_size, ip-link(8)). What reads packets itself might not: a namespace with a packet socket
// (packet(7)) or an XDP program on our interface is said not to. And what it forwards, the kernel has to cut up, which costs
// more than long frames save: forwarded is how many packets of IPv4 the namespace has forwarded so far.
func (h *Host) TakesLong(t runtime.Target, size int) (takes bool, forwarded uint64, err error) {
	outer, err := h.space.LinkByName(runtime.HostVeth(t.ID))
	if err != nil {
		return false, 0, fmt.Errorf("look for the interface of %s: %w", t, err)
	}
	limit := outer.Attrs().GSOIPv4MaxSize
	if limit == 0 {
		return false, 0, nil
	}
	inside, err := h.enter(t)
	if err != nil {
		return false, 0, err
	}
	defer inside.close()
	inner, err := inside.LinkByName(runtime.Inner)
	if err != nil {
		return false, 0, fmt.Errorf("look for %s in %s: %w", runtime.Inner, t, err)
	}
	if xdp := inner.Attrs().Xdp; xdp != nil && xdp.Attached {
		return false, 0, nil
	}
	if listened, err := inside.hasPacketSockets(); err != nil || listened {
		return false, 0, err
	}
	if forwarded, err = inside.forwarded(); err != nil {
		return false, 0, err
	}
	if int(limit) < size {
		err = h.space.LinkSetGSOIPv4MaxSize(outer, size)
	}
	return err == nil, forwarded, err
}

// hasPacketSockets tells whether anybody has a packet socket in the namespace.
func (s *space) hasPacketSockets() (bool, error) {
	list, err := s.readNet("packet") // a line of titles, and one for each socket
	return bytes.Count(list, []byte("\n")) > 1, err
}

// forwarded is how many packets of IPv4 the namespace has forwarded (ipForwDatagrams of RFC 1213).
func (s *space) forwarded() (uint64, error) {
	text, err := s.readNet("snmp") // for each protocol a line of titles and one of numbers
	if err != nil {
		return 0, err
	}
	var titles []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch i := slices.Index(titles, "ForwDatagrams"); {
		case len(fields) == 0 || fields[0] != "Ip:":
		case titles == nil:
			titles = fields
		case i > 0 && i < len(fields):
			return strconv.ParseUint(fields[i], 10, 64)
		}
	}
	return 0, errors.New("the kernel does not count what it forwards")
}

// readNet reads a file of /proc/net as the namespace has it.
func (s *space) readNet(name string) (text []byte, err error) {
	err = s.run(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/" + name)
		return err
	})
	return text, err
}
