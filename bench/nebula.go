package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nebulaOverhead: IPv4 20, UDP 8, nebula's header 16, the AEAD's tag 16.
const nebulaOverhead = 60

// nebulaConfig is one host's: everything is allowed, each knows where the
// other is, and the other's container is an "unsafe" route. The cipher is
// nebula's default, AES-256-GCM.
const nebulaConfig = `
pki: {ca: %[1]s/ca.crt, cert: %[1]s/h%[2]d.crt, key: %[1]s/h%[2]d.key}
static_host_map: {"10.30.0.%[3]d": ["%[4]s:4242"]}
lighthouse: {am_lighthouse: false}
listen: {host: 0.0.0.0, port: 4242}
punchy: {punch: false}
cipher: aes
tun:
  dev: nebula
  mtu: %[5]d
  unsafe_routes: [{route: 10.31.%[3]d.0/24, via: 10.30.0.%[3]d}]
logging: {level: warning}
firewall:
  outbound: [{port: any, proto: any, host: any, local_cidr: 0.0.0.0/0}]
  inbound: [{port: any, proto: any, host: any, local_cidr: 0.0.0.0/0}]
`

// nebula routes the containers' traffic through nebula.
func nebula(c *contender) error {
	program, err1 := find(c.programs, "nebula")
	cert, err2 := find(c.programs, "nebula-cert")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	dir := c.lab.Dir
	if err := said(exec.Command(cert, "ca", "-name", "bench", "-out-crt", dir+"/ca.crt", "-out-key", dir+"/ca.key")); err != nil {
		return err
	}
	mtu := c.mtu - nebulaOverhead
	for i, h := range c.lab.Hosts {
		other := c.lab.Hosts[1-i]
		err := said(exec.Command(cert, "sign", "-ca-crt", dir+"/ca.crt", "-ca-key", dir+"/ca.key",
			"-name", h.Name, "-networks", fmt.Sprintf("10.30.0.%d/24", h.Index), "-unsafe-networks", fmt.Sprintf("10.31.%d.0/24", h.Index),
			"-out-crt", fmt.Sprintf("%s/h%d.crt", dir, h.Index), "-out-key", fmt.Sprintf("%s/h%d.key", dir, h.Index)))
		if err != nil {
			return err
		}
		config := filepath.Join(dir, fmt.Sprintf("h%d.yml", h.Index))
		text := fmt.Sprintf(nebulaConfig, dir, h.Index, other.Index, other.IP, mtu)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		if err := c.daemon(h.NS, exec.Command(program, "-config", config)); err != nil {
			return fmt.Errorf("start nebula: %w", err)
		}
		if err := appears(h.NS, "nebula"); err != nil {
			return err
		}
	}
	return c.routed("nebula", mtu)
}

// said runs a command and turns its words into an error if it fails.
func said(cmd *exec.Cmd) error {
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text)
	}
	return nil
}
