package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// tincOverhead: IPv4 20, UDP 8, sequence number 4, the inner Ethernet header
// 14, what fills the cipher's last block up to 16, MAC 4.
const tincOverhead = 66

// tincLargest is the most a tinc built without --enable-jumbograms carries, and
// Debian builds it so.
const tincLargest = 1500

// tinc bridges tinc in switch mode with its default ciphers, AES-256-CBC and
// SHA-256.
func tinc(c *contender) error {
	program, err := find(c.programs, "tincd")
	if err != nil {
		return err
	}
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return err
		}
	}
	for i, h := range c.lab.Hosts {
		dir := filepath.Join(c.lab.Dir, fmt.Sprintf("tinc%d", h.Index))
		config := fmt.Sprintf("Name = h%d\nMode = switch\nInterface = tap0\nAddressFamily = ipv4\nConnectTo = h%d\n", h.Index, 3-h.Index)
		err := errors.Join(
			os.MkdirAll(dir+"/hosts", 0o700),
			os.WriteFile(dir+"/tinc.conf", []byte(config), 0o600),
			os.WriteFile(dir+"/rsa_key.priv", pem.EncodeToMemory(&pem.Block{
				Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys[i]),
			}), 0o600))
		for j, other := range c.lab.Hosts {
			public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&keys[j].PublicKey)})
			text := fmt.Sprintf("Address = %s\n%s", other.IP, public)
			err = errors.Join(err, os.WriteFile(fmt.Sprintf("%s/hosts/h%d", dir, other.Index), []byte(text), 0o600))
		}
		if err != nil {
			return err
		}
		if err := c.daemon(h.NS, exec.Command(program, "-D", "-c", dir, "--pidfile="+dir+"/pid")); err != nil {
			return fmt.Errorf("start tinc: %w", err)
		}
		if err := appears(h.NS, "tap0"); err != nil {
			return err
		}
	}
	return c.bridged("tap0", min(c.mtu-tincOverhead, tincLargest))
}
