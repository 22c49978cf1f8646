package main

import (
	"fmt"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

// weaveOverhead: IPv4 20, UDP 8, the data message's header and tag 32, weave's
// header of a segment 16, the inner Ethernet header 14. With less, super-frames
// would be cut smaller than their sender wanted.
const weaveOverhead = 90

// weaveEntry is the product through user space, without a password (its traffic
// is encrypted all the same); binary "" is the one under test.
func weaveEntry(label, binary string) entry {
	return entry{
		name: label, title: label,
		join: func(c *contender) error {
			for i, h := range c.lab.Hosts {
				h.Bin = binary
				args := []string{"--mtu", fmt.Sprint(c.mtu - weaveOverhead)}
				if i > 0 {
					args = append(args, c.lab.Hosts[0].IP)
				}
				if err := c.launchWeave(h, userSpace, args...); err != nil {
					return err
				}
				if err := c.attachWeave(h, i); err != nil {
					return err
				}
			}
			return nil
		},
		joinAlone: func(c *contender) error {
			h := c.lab.Hosts[0]
			h.Bin = binary
			if err := c.launchWeave(h, userSpace, "--mtu", fmt.Sprint(c.mtu)); err != nil {
				return err
			}
			for i := range 2 {
				if err := c.attachWeave(h, i); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// weaveFast is the product in clear, where the kernel carries the frames.
func weaveFast() entry {
	return entry{
		name: "weave-fastdp", title: "weave fastdp (clear)", asked: true,
		join: func(c *contender) error {
			for i, h := range c.lab.Hosts {
				args := []string{"--mtu", fmt.Sprint(c.mtu - vxlanOverhead)}
				if i > 0 {
					args = append(args, c.lab.Hosts[0].IP)
				}
				if err := c.launchWeave(h, nil, args...); err != nil {
					return err
				}
				if err := c.attachWeave(h, i); err != nil {
					return err
				}
			}
			return lab.Eventually(20*time.Second, c.onFastdp)
		},
	}
}

// onFastdp is an error unless both hosts say that the kernel carries the frames.
func (c *contender) onFastdp() error {
	for _, h := range c.lab.Hosts {
		if r := h.Weave("status", "connections"); !strings.Contains(r.Stdout, " fastdp ") {
			return fmt.Errorf("no kernel path: %v", r)
		}
	}
	return nil
}

// userSpace is what has weave do without the kernel path, and means nothing to builds that have none.
var userSpace = []string{"WEAVE_NO_FASTDP=1"}

func (c *contender) launchWeave(h *lab.Host, env []string, args ...string) error {
	if r := h.WeaveEnv(env, append([]string{"launch"}, args...)...); r.RC != 0 || r.Err != nil {
		return fmt.Errorf("%v", r)
	}
	pid, err := h.DaemonPID()
	c.pids = append(c.pids, pid)
	return err
}

func (c *contender) attachWeave(h *lab.Host, i int) error {
	c.addr = "10.31.0.2"
	n, err := h.NewContainer()
	if err != nil {
		return err
	}
	if r := h.Weave("attach", fmt.Sprintf("10.31.0.%d/24", i+1), n.Name); r.RC != 0 || r.Err != nil {
		return fmt.Errorf("%v", r)
	}
	c.ends(i, n.NS)
	return nil
}
