package main

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"weave/netns-tests/lab"

	"github.com/vishvananda/netlink"
)

// contender is one way to join two containers.
type contender struct {
	name     string
	lab      *lab.Lab
	from, to *lab.NS
	addr     string      // of `to`, as seen by `from`
	pid      int         // the daemon on host 1, 0 when there is none
	procs    []*exec.Cmd // beside the lab's own
	rssIdle  float64
	rssAfter float64
	samples  []sample
}

// sample is one round.
type sample struct {
	tcp1, tcp4 float64 // Gb/s
	cpu        float64 // CPU-seconds per gigabyte, one stream
	kpps       float64 // 64-byte datagrams per millisecond with at most 1 % lost
	p50, p99   time.Duration
}

func (c *contender) reaches() error {
	_, err := c.from.Ping(c.addr, 56, time.Second)
	return err
}

func (c *contender) measure(o options, m *meter) (s sample, err error) {
	if s.tcp1, s.cpu, err = tcp(c, 1, o.seconds, m); err != nil {
		return s, err
	}
	if s.tcp4, _, err = tcp(c, 4, o.seconds, m); err != nil {
		return s, err
	}
	if s.kpps, err = smallDatagrams(c); err != nil {
		return s, err
	}
	s.p50, s.p99, err = roundTrips(c)
	return s, err
}

// close ends the contender's processes and takes its network down.
func (c *contender) close() {
	for _, p := range c.procs {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	_ = c.lab.Close()
}

func newContender(name string, plain bool) (*contender, error) {
	l, err := lab.New(lab.Config{Hosts: 2, Direct: true, Plain: plain})
	return &contender{name: name, lab: l}, err
}

// bareCable is the container's veth and the cable as two ports of a bridge:
//
//	c1 ── br ── eth0 ═══ eth0 ── br ── c2
func bareCable(plain bool) (*contender, error) {
	c, err := newContender("raw veth", plain)
	if err != nil {
		return c, err
	}
	c.addr = "10.31.0.2"
	for i, h := range c.lab.Hosts {
		n, err := h.NewContainer()
		if err != nil {
			return c, err
		}
		err = errors.Join(
			lab.Bridge(h.NS, "br", 1500),
			lab.Enslave(h.NS, "eth0", "br"),
			lab.Veth(h.NS, "veth", n.NS, "ethwe", 1500),
			lab.Enslave(h.NS, "veth", "br"),
			n.AddAddr("ethwe", fmt.Sprintf("10.31.0.%d/24", i+1)))
		if err != nil {
			return c, err
		}
		c.ends(i, n.NS)
	}
	return c, nil
}

func (c *contender) ends(i int, n *lab.NS) {
	if i == 0 {
		c.from = n
	} else {
		c.to = n
	}
}

// weave is the product, without a password (its traffic is encrypted all the same).
func weave(plain bool) (*contender, error) {
	c, err := newContender("weave", plain)
	if err != nil {
		return c, err
	}
	c.addr = "10.31.0.2"
	for i, h := range c.lab.Hosts {
		args := []string{"launch"}
		if i > 0 {
			args = append(args, c.lab.Hosts[0].IP)
		}
		n, err := h.NewContainer()
		if err != nil {
			return c, err
		}
		for _, args := range [][]string{args, {"attach", fmt.Sprintf("10.31.0.%d/24", i+1), n.Name}} {
			if r := h.Weave(args...); r.RC != 0 {
				return c, fmt.Errorf("%v", r)
			}
		}
		c.ends(i, n.NS)
	}
	c.pid, err = c.lab.Hosts[0].DaemonPID()
	return c, err
}

// wireguardGo routes the containers' traffic through wireguard-go:
//
//	c1 10.31.1.2 ── 10.31.1.1 host1 wg0 ═══ wg0 host2 10.31.2.1 ── 10.31.2.2 c2
func wireguardGo(plain bool) (*contender, error) {
	c, err := newContender("wireguard-go", plain)
	if err != nil {
		return c, err
	}
	c.addr = "10.31.2.2"
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return c, err
		}
	}
	for i, h := range c.lab.Hosts {
		other := c.lab.Hosts[1-i]
		config := fmt.Sprintf("private_key=%x\nlisten_port=51820\npublic_key=%x\nendpoint=%s:51820\nallowed_ip=0.0.0.0/0\n",
			keys[i].Bytes(), keys[1-i].PublicKey().Bytes(), other.IP)
		proc, err := startWireguard(h.NS, config)
		if err != nil {
			return c, err
		}
		c.procs = append(c.procs, proc)
		c.pid = c.procs[0].Process.Pid
		n, err := h.NewContainer()
		if err != nil {
			return c, err
		}
		if err := routeThroughWireguard(h.NS, n.NS, i+1); err != nil {
			return c, err
		}
		c.ends(i, n.NS)
	}
	return c, nil
}

// wireguardMTU leaves room for WireGuard's overhead in 1,500 bytes, over IPv6 too.
const wireguardMTU = 1420

func startWireguard(n *lab.NS, config string) (*exec.Cmd, error) {
	cmd := exec.Command(os.Getenv("WIREGUARD_BIN"), "wg0", fmt.Sprint(wireguardMTU))
	cmd.Stdin, cmd.Stderr = strings.NewReader(config), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.Start(cmd); err != nil {
		return nil, fmt.Errorf("start wireguard-go ($WIREGUARD_BIN): %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		return nil, fmt.Errorf("wireguard-go said %q: %w", line, err)
	}
	return cmd, nil
}

func routeThroughWireguard(host, cont *lab.NS, side int) error {
	gateway := fmt.Sprintf("10.31.%d.1", side)
	err := errors.Join(
		lab.Veth(host, "veth", cont, "ethwe", wireguardMTU),
		host.AddAddr("veth", gateway+"/24"),
		cont.AddAddr("ethwe", fmt.Sprintf("10.31.%d.2/24", side)),
		host.Sysctl("net/ipv4/ip_forward", "1"),
		host.Up("wg0"))
	if err != nil {
		return err
	}
	route := func(n *lab.NS, dev, dst, via string) error {
		return n.WithLink(dev, func(h *netlink.Handle, l netlink.Link) error {
			_, to, err := net.ParseCIDR(dst)
			if err != nil {
				return err
			}
			return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to, Gw: net.ParseIP(via)})
		})
	}
	return errors.Join(
		route(host, "wg0", fmt.Sprintf("10.31.%d.0/24", 3-side), ""),
		route(cont, "ethwe", "10.31.0.0/16", gateway))
}
