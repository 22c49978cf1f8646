package main

import (
	"errors"
	"fmt"
	"os/exec"
	"time"

	"weave/netns-tests/lab"

	"github.com/vishvananda/netlink"
)

// underlay is what lies between the two hosts.
type underlay struct {
	name  string
	about string
	mtu   int
	plain bool          // no segmentation offloads on the link
	loss  float64       // per cent of the frames, each way
	delay time.Duration // each way
	alone bool          // no underlay at all: both containers are on one host
	user  bool          // alone, into a container of an ordinary user's
	works string        // what is measured unless the user says otherwise

	special func(*plan) (figures, error) // measures something else altogether
	takes   time.Duration                // as long as that takes
	show    func(figures) string         // its figures, in Markdown
	asked   bool                         // measured only if it is named
}

const everything = "all"

func underlays() []underlay {
	const lossy = "tcp1,rr"
	return []underlay{
		{name: "V1500", mtu: 1500, works: everything, about: "plain veth: super-frames pass uncut, an ideal network card"},
		{name: "N1500", mtu: 1500, plain: true, works: everything, about: "segmentation offloads off, every frame fits 1,500 bytes: a plain network card"},
		{name: "V9000", mtu: 9000, works: "tcp1,tcp4", about: "V1500 with an MTU of 9,000"},
		{name: "N9000", mtu: 9000, plain: true, works: "tcp1,tcp4", about: "N1500 with an MTU of 9,000"},
		{name: "N1500-loss0.1", mtu: 1500, plain: true, loss: 0.1, works: lossy, about: "N1500 through a bridge that drops 0.1 % of the frames each way"},
		{name: "N1500-loss1", mtu: 1500, plain: true, loss: 1, works: lossy, about: "N1500 through a bridge that drops 1 % of the frames each way"},
		{name: "N1500-20ms", mtu: 1500, plain: true, delay: 10 * time.Millisecond, works: lossy, about: "N1500 through a relay that holds each frame for 10 ms: 20 ms more per round trip"},
		{name: "one-host", mtu: 1500, alone: true, works: everything, about: "both containers on one host"},
		{name: "one-user", mtu: 1500, user: true, works: "tcp1,tcp4,reverse", about: "a user's container, from another one or from the host"},
		{name: "idlepeers", about: "anonymous memory of a daemon with 2, 12 and 32 connected peers, through user space", special: idlePeers, takes: idlePeersTime, show: renderIdlePeers},
		{name: "idlecpu", about: "processor time of daemons that have nothing to carry", special: idleCPU, takes: idleCPUTime, show: renderIdleCPU, asked: true},
	}
}

func (u underlay) key() string { return u.name }

// join is how a contender joins two containers here, nil if it cannot.
func (u underlay) join(e entry) func(*contender) error {
	switch {
	case u.user:
		return e.joinUser
	case u.alone:
		return e.joinAlone
	}
	return e.join
}

// build makes the hosts and what lies between them.
func (u underlay) build() (*lab.Lab, error) {
	cfg := lab.Config{Hosts: 2, MTU: u.mtu, Plain: u.plain, Direct: u.loss == 0 && u.delay == 0}
	if u.alone || u.user {
		cfg.Hosts, cfg.Direct = 1, false
	}
	l, err := lab.New(cfg)
	if err != nil {
		return nil, err
	}
	if u.loss > 0 {
		err = l.Loss(u.loss)
	}
	return l, err
}

// relayCoalesce is how long a host's card collects what the relay sends one
// frame at a time; without it each frame would be a turn of its own for the
// kernel, and the relay would carry half as much.
const relayCoalesce = 50 * time.Microsecond

// startRelay puts a program in the place of the bridge between the hosts:
//
//	eth0 ═══ h1 ── relay ── h2 ═══ eth0
//
// What reaches a packet socket must be whole and carry its checksum, so the
// links lose every offload. The relay is part of the wire: its processor time
// is not the contender's.
func startRelay(c *contender, u underlay, m *meter) error {
	program, err := find(c.programs, "relay")
	if err != nil {
		return err
	}
	under := c.lab.Under
	for _, h := range c.lab.Hosts {
		port := fmt.Sprintf("h%d", h.Index)
		err := errors.Join(
			under.WithLink(port, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetNoMaster(l) }),
			lab.SetFeatures(under, port, map[string]bool{"rx-gro": false, "tx-checksum-ip-generic": false}),
			lab.SetFeatures(h.NS, "eth0", map[string]bool{"tx-checksum-ip-generic": false, "tx-scatter-gather": false}),
			lab.Coalesce(h.NS, "eth0", relayCoalesce))
		if err != nil {
			return err
		}
	}
	cmd := exec.Command(program, "-delay", u.delay.String(), "h1", "h2")
	if err := c.start(under, cmd); err != nil {
		return fmt.Errorf("start relay: %w", err)
	}
	return m.exclude(cmd.Process.Pid)
}
