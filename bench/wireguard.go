package main

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"os/exec"
	"strings"

	"weave/netns-tests/lab"
)

// wireguardOverhead leaves room for an outer IPv6 header, as wg-quick does.
const wireguardOverhead = 80

// wireguardGo routes the containers' traffic through wireguard-go.
func wireguardGo(c *contender) error {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	for i, h := range c.lab.Hosts {
		other := c.lab.Hosts[1-i]
		config := fmt.Sprintf("private_key=%x\nlisten_port=51820\npublic_key=%x\nendpoint=%s:51820\nallowed_ip=0.0.0.0/0\n",
			keys[i].Bytes(), keys[1-i].PublicKey().Bytes(), other.IP)
		if err := startWireguard(c, h.NS, config); err != nil {
			return err
		}
	}
	return c.routed("wg0", c.mtu-wireguardOverhead)
}

func startWireguard(c *contender, n *lab.NS, config string) error {
	program, err := find(c.programs, "wireguard-go")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "wg0", fmt.Sprint(c.mtu-wireguardOverhead))
	cmd.Stdin = strings.NewReader(config)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.daemon(n, cmd); err != nil {
		return fmt.Errorf("start wireguard-go: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		return fmt.Errorf("wireguard-go said %q: %w", line, err)
	}
	return nil
}
