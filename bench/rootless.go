package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"weave/netns-tests/lab"
)

// portOfIperf is where iperf3 listens, in containers, and where a published port leads there.
const portOfIperf = 5201

// weaveUser is the product as an ordinary user has it, on one host or two.
func weaveUser(c *contender) error {
	at := ""
	for i, h := range c.lab.Hosts {
		u, err := c.launchUser(h, "--mtu", fmt.Sprint(c.mtu-weaveOverhead), at)
		if err != nil {
			return err
		}
		at = u.Address()
		if _, err := c.attachUser(u, i); err != nil {
			return err
		}
	}
	return nil
}

// weaveUserAlone joins two containers of one user by the user's daemon.
func weaveUserAlone(c *contender) error {
	u, err := c.launchUser(c.lab.Hosts[0], "--mtu", fmt.Sprint(c.mtu), "")
	if err != nil {
		return err
	}
	for i := range 2 {
		if _, err := c.attachUser(u, i); err != nil {
			return err
		}
	}
	return nil
}

// weavePublished leads a port of the host into a container.
func weavePublished(c *contender) error {
	u, err := c.launchUser(c.lab.Hosts[0], "--mtu", fmt.Sprint(c.mtu), "")
	if err != nil {
		return err
	}
	if _, err := c.attachUser(u, 1); err != nil {
		return err
	}
	if r := u.Weave("expose", "10.31.0.1/24"); r.RC != 0 || r.Err != nil {
		return fmt.Errorf("%v", r)
	}
	if r := u.Weave("expose", "--publish", fmt.Sprintf("%d:%s:%[1]d", portOfIperf, c.addr)); r.RC != 0 || r.Err != nil {
		return fmt.Errorf("%v", r)
	}
	c.fromHost()
	return nil
}

func (c *contender) launchUser(h *lab.Host, flag, value, peer string) (*lab.User, error) {
	u, err := h.NewUser()
	if err != nil {
		return nil, err
	}
	args := []string{flag, value}
	if peer != "" {
		args = append(args, peer)
	}
	if r := u.Launch(args...); r.RC != 0 || r.Err != nil {
		return nil, fmt.Errorf("%v", r)
	}
	c.pids = append(c.pids, u.Daemons()...)
	return u, nil
}

func (c *contender) attachUser(u *lab.User, i int) (*lab.Box, error) {
	c.addr = "10.31.0.2"
	b, err := u.NewBox()
	if err != nil {
		return nil, err
	}
	if r := u.Weave("attach", fmt.Sprintf("10.31.0.%d/24", i+1), strconv.Itoa(b.PID)); r.RC != 0 || r.Err != nil {
		return nil, fmt.Errorf("%v", r)
	}
	c.ends(i, b.NS)
	return b, nil
}

// fromHost has the host itself connect, to a port of its own that leads into the container.
func (c *contender) fromHost() {
	c.from, c.addr, c.dev = c.lab.Hosts[0].NS, "127.0.0.1", ""
}

// userBox is a container of an ordinary user's that has no network yet.
func (c *contender) userBox() (*lab.User, *lab.Box, error) {
	u, err := c.lab.Hosts[0].NewUser()
	if err != nil {
		return nil, nil, err
	}
	b, err := u.NewBox()
	if err != nil {
		return nil, nil, err
	}
	c.ends(1, b.NS)
	c.fromHost()
	return u, b, b.Up("lo")
}

// slirp publishes a port by slirp4netns, as rootless Podman's slirp4netns:port_handler=slirp4netns does.
func slirp(c *contender) error {
	u, b, err := c.userBox()
	if err != nil {
		return err
	}
	socket := filepath.Join(u.Home, "slirp.sock")
	cmd := u.Command(context.Background(), "slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback",
		"--api-socket", socket, strconv.Itoa(b.PID), "tap0")
	if err := c.daemon(u.Host.NS, cmd); err != nil {
		return err
	}
	return lab.Eventually(10*time.Second, func() error {
		return forwardBySlirp(socket)
	})
}

// forwardBySlirp asks by slirp4netns's API (slirp4netns(1), API socket); 10.0.2.100 is the container's address by default.
func forwardBySlirp(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	ask := map[string]any{"execute": "add_hostfwd", "arguments": map[string]any{
		"proto": "tcp", "host_addr": "127.0.0.1", "host_port": portOfIperf, "guest_addr": "10.0.2.100", "guest_port": portOfIperf,
	}}
	if err := json.NewEncoder(conn).Encode(ask); err != nil {
		return err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	var answer struct{ Error any }
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return fmt.Errorf("slirp4netns: %v", answer.Error)
	}
	return nil
}

// pasta publishes a port by pasta(1).
func pasta(c *contender) error {
	u, b, err := c.userBox()
	if err != nil {
		return err
	}
	if err := route(u.Host.NS, "eth0", "0.0.0.0/0", "10.99.0.254"); err != nil { // it wants an interface to imitate
		return err
	}
	cmd := u.Command(context.Background(), "pasta", "-4", "--config-net", "--foreground", "--quiet",
		"-t", strconv.Itoa(portOfIperf), "-u", "none", "-T", "none", "-U", "none", strconv.Itoa(b.PID))
	return c.daemon(u.Host.NS, cmd)
}
