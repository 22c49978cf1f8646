package runtime

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"testing"
)

// world is a kernel as far as steps can tell: what package runtime/netlink does to the real one, in maps.
type world struct {
	State
	names map[string]Identity // host-side veths
}

func newWorld(s State) *world {
	w := &world{State: State{Bridge: s.Bridge, Uplink: s.Uplink, Seen: maps.Clone(s.Seen)}, names: map[string]Identity{}}
	if w.Seen == nil {
		w.Seen = map[Identity]Seen{}
	}
	for id := range s.Seen {
		w.names[HostVeth(id)] = id
	}
	return w
}

// run performs steps and fails the test if one is impossible.
func (w *world) run(t testing.TB, steps []Step) {
	t.Helper()
	for i, s := range steps {
		if err := w.step(s); err != nil {
			t.Fatalf("step %d, %v: %v", i, s, err)
		}
	}
}

func (w *world) step(s Step) error {
	switch {
	case s.Op == FilterMulticast:
		return w.filter(s)
	case s.Optional():
		return nil
	case s.Op == CreateVeth || s.Op == DeleteVeth:
		return w.veth(s)
	case s.Link == Inner:
		seen := w.Seen[s.Namespace]
		if !seen.Present {
			return fmt.Errorf("no %s", Inner)
		}
		err := innerStep(&seen, s)
		w.Seen[s.Namespace] = seen
		return err
	case !s.Namespace.IsZero():
		return fmt.Errorf("no %s in a container", s.Link)
	case s.Link == w.Uplink.Name:
		return change(s, &w.Uplink.Up, &w.Uplink.MTU, nil, &w.Uplink.Master, nil)
	}
	if id, ok := w.names[s.Link]; ok {
		seen := w.Seen[id]
		if !seen.Port.Present {
			return fmt.Errorf("no %s", s.Link)
		}
		err := w.portStep(&seen.Port, s)
		w.Seen[id] = seen
		return err
	}
	return w.bridgeStep(s)
}

func (w *world) veth(s Step) error {
	seen := w.Seen[s.Namespace]
	if s.Link != HostVeth(s.Namespace) || s.Peer != Inner {
		return fmt.Errorf("strange names")
	}
	w.names[s.Link] = s.Namespace
	if s.Op == DeleteVeth {
		if !seen.Port.Present {
			return fmt.Errorf("nothing to delete")
		}
		w.see(s.Namespace, Seen{Filter: seen.Filter})
		return nil
	}
	if seen.Present || seen.Port.Present {
		return fmt.Errorf("exists")
	}
	mac := s.MAC
	if mac.IsZero() {
		mac = MAC{2, 0xff}
	}
	w.Seen[s.Namespace] = Seen{Present: true, MAC: mac, MTU: s.MTU, Filter: seen.Filter, Port: Port{Present: true, MTU: s.MTU}}
	return nil
}

// filter needs no interface.
func (w *world) filter(s Step) error {
	seen := w.Seen[s.Namespace]
	if was := seen.Filter.String(); s.Link != Inner || s.Namespace.IsZero() || was != s.Was {
		return fmt.Errorf("was %q", was)
	}
	var err error
	seen.Filter, err = ParseFilter(s.Value)
	w.see(s.Namespace, seen)
	return err
}

// see forgets a namespace in which nothing is left.
func (w *world) see(id Identity, seen Seen) {
	if seen.Present || seen.Port.Present || seen.Filter.On {
		w.Seen[id] = seen
		return
	}
	delete(w.Seen, id)
}

func innerStep(seen *Seen, s Step) error {
	has := slices.Contains(seen.Addresses, s.Prefix)
	switch s.Op {
	case AddAddress, RemoveAddress:
		if has == (s.Op == AddAddress) {
			return fmt.Errorf("has address: %v", has)
		}
		if s.Op == AddAddress {
			seen.Addresses = Add(seen.Addresses, []netip.Prefix{s.Prefix})
		} else {
			seen.Addresses = Remove(seen.Addresses, []netip.Prefix{s.Prefix})
		}
		return nil
	case AddRoute, RemoveRoute:
		if !seen.Up {
			return fmt.Errorf("route on an interface that is down")
		}
		if s.Prefix != multicast {
			if seen.Service == (s.Op == AddRoute) {
				return fmt.Errorf("has route: %v", seen.Service)
			}
			seen.Service = s.Op == AddRoute
			break
		}
		if seen.MulticastRoute == (s.Op == AddRoute) {
			return fmt.Errorf("has route: %v", seen.MulticastRoute)
		}
		seen.MulticastRoute = s.Op == AddRoute
		return nil
	}
	return change(s, &seen.Up, &seen.MTU, &seen.MAC, nil, nil)
}

func (w *world) portStep(p *Port, s Step) error {
	if s.Op == JoinBridge {
		if s.Value == w.Bridge.Name && !w.Bridge.Present {
			return fmt.Errorf("no bridge")
		}
		if p.Hairpin {
			return fmt.Errorf("hairpin would be lost")
		}
	}
	if s.Op == SetHairpin && p.Master == "" {
		return fmt.Errorf("hairpin without a bridge")
	}
	return change(s, &p.Up, &p.MTU, nil, &p.Master, &p.Hairpin)
}

func (w *world) bridgeStep(s Step) error {
	b := &w.Bridge
	switch s.Op {
	case CreateBridge:
		if b.Present {
			return fmt.Errorf("exists")
		}
		mac := s.MAC
		if mac.IsZero() {
			mac = MAC{2, 0xfe}
		}
		*b = Bridge{Present: true, Name: s.Link, MAC: mac, MTU: s.MTU}
		return nil
	case DeleteBridge:
		if s.Link != b.Name || !b.Present {
			return fmt.Errorf("no bridge %s", s.Link)
		}
		*b = Bridge{}
		return nil
	}
	if s.Link != b.Name || !b.Present {
		return fmt.Errorf("no interface %s", s.Link)
	}
	return change(s, &b.Up, &b.MTU, &b.MAC, nil, nil)
}

// change sets a value, if the interface has such a one (not nil) and it was what the step says.
func change(s Step, up *bool, mtu *int, mac *MAC, master *string, hairpin *bool) error {
	was := "?"
	switch {
	case s.Op == SetUp && up != nil:
		was, *up = onOff(*up), s.Value == on
	case s.Op == SetHairpin && hairpin != nil:
		was, *hairpin = onOff(*hairpin), s.Value == on
	case s.Op == JoinBridge && master != nil:
		was, *master = *master, s.Value
	case s.Op == SetMTU && mtu != nil:
		n, err := strconv.Atoi(s.Value)
		if err != nil {
			return err
		}
		was, *mtu = strconv.Itoa(*mtu), n
	case s.Op == SetMAC && mac != nil:
		was = mac.String()
		if _, err := fmt.Sscanf(s.Value, "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]); err != nil {
			return err
		}
	default:
		return fmt.Errorf("no such thing here")
	}
	if was != s.Was {
		return fmt.Errorf("was %q", was)
	}
	return nil
}
