package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
)

// trouble is something that happens to a host and is over again.
type trouble struct {
	name  string
	lasts time.Duration
	begin func(*soak, *lab.Host) error
	end   func(*soak, *lab.Host) error
}

// troubles are drawn from at random.
var troubles = []trouble{
	{"daemon killed", 0, kill, nothing}, // its supervisor starts it again
	{"daemon stopped and launched", time.Second, stop, launch},
	{"cable out", 3 * time.Second, func(_ *soak, h *lab.Host) error { return h.Cut(true) }, func(_ *soak, h *lab.Host) error { return h.Cut(false) }},
	{"cable out for long", 20 * time.Second, func(_ *soak, h *lab.Host) error { return h.Cut(true) }, func(_ *soak, h *lab.Host) error { return h.Cut(false) }},
	{"UDP blocked", 8 * time.Second, func(_ *soak, h *lab.Host) error { return h.BlockUDP(true) }, func(_ *soak, h *lab.Host) error { return h.BlockUDP(false) }},
	{"20 % loss", 8 * time.Second, func(_ *soak, h *lab.Host) error { return h.Loss(20) }, func(_ *soak, h *lab.Host) error { return h.Loss(0) }},
	{"black hole above 700 bytes", 8 * time.Second, func(_ *soak, h *lab.Host) error { return h.BlackHole(728) }, func(_ *soak, h *lab.Host) error { return h.BlackHole(0) }},
	{"partition in halves", 8 * time.Second, halves, func(s *soak, _ *lab.Host) error { return s.lab.Partition() }},
	{"partition for long", 40 * time.Second, halves, func(s *soak, _ *lab.Host) error { return s.lab.Partition() }},
	{"only a chain of links", 8 * time.Second, chain, func(s *soak, _ *lab.Host) error { return s.lab.Join() }},
	{"another address", 3 * time.Second, readdress, nothing},
}

func nothing(*soak, *lab.Host) error { return nil }

func kill(_ *soak, h *lab.Host) error {
	pid, err := h.DaemonPID()
	if err != nil {
		return err
	}
	return unix.Kill(pid, unix.SIGKILL)
}

func stop(_ *soak, h *lab.Host) error { return command(h, "stop") }

// launch starts a host again, with the address that one of the others has now.
func launch(s *soak, h *lab.Host) error {
	other := s.lab.Hosts[h.Index%len(s.lab.Hosts)]
	return command(h, "launch", "--password", "soak", other.IP)
}

func command(h *lab.Host, args ...string) error {
	if r := h.Weave(args...); r.RC != 0 || r.Err != nil {
		return fmt.Errorf("host%d: %v", h.Index, r)
	}
	return nil
}

func halves(s *soak, _ *lab.Host) error {
	var groups [2][]*lab.Host
	for n, i := range s.rng.Perm(len(s.lab.Hosts)) {
		groups[n%2] = append(groups[n%2], s.lab.Hosts[i])
	}
	return s.lab.Partition(groups[0], groups[1])
}

func chain(s *soak, _ *lab.Host) error {
	order := s.rng.Perm(len(s.lab.Hosts))
	var pairs [][2]int
	for i := range order[1:] {
		pairs = append(pairs, [2]int{order[i] + 1, order[i+1] + 1})
	}
	return s.lab.Join(pairs...)
}

// readdress moves a host to an address that nobody had.
func readdress(s *soak, h *lab.Host) error {
	s.moved++
	return h.Readdress(fmt.Sprintf("10.99.0.%d", 100+s.moved%150))
}
