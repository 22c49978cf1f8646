package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"weave/dns"
)

// Defaults of names; those of Weave Net, but for the address.
const (
	DefaultDomain   = "weave.local."
	DefaultTTL      = 1 // seconds
	DefaultFallback = 5 * time.Second
	DefaultResolv   = "/etc/resolv.conf"
	portDNS         = 53
)

// NameFlags are the flags of launch about names, as typed.
type NameFlags struct {
	Off        bool
	Domain     string
	TTL        int    // seconds
	Listen     string // ip:port; "" = port 53 of the bridge's service address
	Upstreams  []string
	Fallback   time.Duration
	ResolvConf string
}

// NameConfig says how names are served. Without a Domain they are not.
type NameConfig struct {
	Domain     dns.Domain
	TTL        time.Duration
	Listen     netip.AddrPort // invalid = port 53 of the bridge's service address
	Upstreams  []netip.AddrPort
	Fallback   time.Duration
	ResolvConf string
}

// ParseNameFlags checks the flags.
func ParseNameFlags(f NameFlags) (NameConfig, error) {
	var c NameConfig
	if f.Off {
		return c, nil
	}
	var err error
	if c.Domain, err = dns.ParseDomain(f.Domain); err != nil {
		return c, fmt.Errorf("invalid --dns-domain %q, should look like %s", f.Domain, DefaultDomain)
	}
	if f.TTL < 0 || f.TTL > 1<<31-1 {
		return c, fmt.Errorf("invalid --dns-ttl %d, should be a number of seconds", f.TTL)
	}
	c.TTL = time.Duration(f.TTL) * time.Second
	if f.Listen != "" {
		if c.Listen, err = addrPort(f.Listen); err != nil {
			return c, fmt.Errorf("invalid --dns-listen-address %q, should be ip:port", f.Listen)
		}
	}
	for _, text := range f.Upstreams {
		at, err := addrPort(text)
		if err != nil {
			return c, fmt.Errorf("invalid --dns-upstream %q, should be ip or ip:port", text)
		}
		c.Upstreams = append(c.Upstreams, at)
	}
	if c.Fallback = f.Fallback; c.Fallback <= 0 {
		return c, errors.New("invalid --dns-fallback-timeout, should be longer than nothing")
	}
	c.ResolvConf = f.ResolvConf
	if c.ResolvConf == "" {
		c.ResolvConf = DefaultResolv
	}
	return c, nil
}

// addrPort reads an address with or without a port, which is 53.
func addrPort(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a, portDNS), nil
	}
	return netip.ParseAddrPort(text)
}
