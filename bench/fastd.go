package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// fastdOverhead: IPv4 20, UDP 8, fastd's header with the tag 24, the inner
// Ethernet header 14.
const fastdOverhead = 66

const fastdConfig = `
mode tap;
interface "tap0";
method "salsa2012+umac";
mtu %d;
bind 0.0.0.0:10000;
secret "%s";
peer "other" { key "%s"; remote ipv4 "%s":10000; }
`

// fastd bridges fastd in TAP mode with salsa2012+umac.
func fastd(c *contender) error {
	program, err := find(c.programs, "fastd")
	if err != nil {
		return err
	}
	var secret, public [2]string
	for i := range secret {
		text, err := exec.Command(program, "--generate-key").CombinedOutput()
		if err != nil {
			return fmt.Errorf("fastd --generate-key: %w", err)
		}
		secret[i], public[i] = fastdKeys(string(text))
	}
	mtu := c.mtu - fastdOverhead
	for i, h := range c.lab.Hosts {
		config := filepath.Join(c.lab.Dir, fmt.Sprintf("fastd%d.conf", h.Index))
		text := fmt.Sprintf(fastdConfig, mtu, secret[i], public[1-i], c.lab.Hosts[1-i].IP)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		if err := c.daemon(h.NS, exec.Command(program, "--config", config)); err != nil {
			return fmt.Errorf("start fastd: %w", err)
		}
		if err := appears(h.NS, "tap0"); err != nil {
			return err
		}
	}
	return c.bridged("tap0", mtu)
}

// fastdKeys reads what --generate-key prints.
func fastdKeys(text string) (secret, public string) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Secret: "); ok {
			secret = strings.TrimSpace(rest)
		}
		if rest, ok := strings.CutPrefix(line, "Public: "); ok {
			public = strings.TrimSpace(rest)
		}
	}
	return secret, public
}
