package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"

	"weave/runtime"
	"weave/runtime/proxy"
)

const (
	// ProxySocket is the name of the proxy's socket in the run directory.
	ProxySocket = "weave.sock"
	// ShimPath is what the program is called as the wait shim.
	ShimPath = runtime.ShimPath
	// ProxyPort is where the proxy listens by default if the engine is reached by TCP.
	ProxyPort = "12375"
)

// ProxyFlags are the flags of launch about the Docker API proxy, as typed.
type ProxyFlags struct {
	On     bool
	Listen []string // -H
	TLS    proxy.TLS
	ContainerFlags
}

// ContainerFlags say how containers made through the proxy are changed, and others that join.
type ContainerFlags struct {
	WithoutDNS, NoMulticastRoute, NoRewriteHosts bool
	NoDefaultAllocation, RewriteInspect          bool
	FromLabel, Match, Replacement                string // of host names
}

// ProxyConfig says how the proxy runs. Without endpoints it does not.
type ProxyConfig struct {
	Endpoints           []string // the main socket is the last of them
	Links               []string // paths that lead to the main socket
	TLS                 *tls.Config
	NoDefaultAllocation bool
	RewriteInspect      bool
}

// ParseProxyFlags checks the flags, and tells the engines' configuration what it has to know of them.
func ParseProxyFlags(f ProxyFlags, run string, engines *EngineConfig) (ProxyConfig, error) {
	var c ProxyConfig
	match, err := regexp.Compile(f.Match)
	if err != nil {
		return c, fmt.Errorf("invalid --hostname-match: %w", err)
	}
	engines.Naming = runtime.Naming{FromLabel: f.FromLabel, Match: match, Replacement: f.Replacement}
	engines.WithoutDNS, engines.NoMulticastRoute, engines.NoRewriteHosts = f.WithoutDNS, f.NoMulticastRoute, f.NoRewriteHosts
	c.NoDefaultAllocation, c.RewriteInspect = f.NoDefaultAllocation, f.RewriteInspect
	if !f.On || engines.Docker == "" {
		return c, nil
	}
	if c.TLS, err = f.TLS.Load(); err != nil {
		return c, err
	}
	socket := filepath.Join(run, ProxySocket)
	switch {
	case len(f.Listen) > 0:
		return c, c.listen(f.Listen, socket)
	case strings.HasPrefix(engines.Docker, "unix://"):
		c.Endpoints = []string{"unix://" + socket}
	default:
		c.Endpoints = []string{"tcp://0.0.0.0:" + ProxyPort}
	}
	return c, nil
}

// listen sorts endpoints: tcp ones first, then paths, which are links to the one socket.
func (c *ProxyConfig) listen(texts []string, socket string) error {
	for _, text := range texts {
		scheme, rest, ok := strings.Cut(text, "://")
		switch {
		case !ok && strings.Contains(text, "/"), ok && scheme == "unix":
			if !ok {
				rest = text
			}
			if !filepath.IsAbs(rest) {
				return errors.New("When launching the proxy, unix sockets must be specified as an absolute path.") //lint:ignore ST1005 Weave Net's words
			}
			if rest != socket {
				c.Links = append(c.Links, rest)
			}
		default:
			if !ok {
				scheme, rest = "tcp", text
			}
			if _, _, err := net.SplitHostPort(rest); scheme != "tcp" || err != nil {
				return fmt.Errorf("invalid -H %q, should be [tcp://][ip]:port or [unix://]/path", text)
			}
			c.Endpoints = append(c.Endpoints, "tcp://"+rest)
		}
	}
	if len(c.Links) > 0 || len(c.Endpoints) < len(texts) {
		c.Endpoints = append(c.Endpoints, "unix://"+socket)
	}
	return nil
}

// Addresses are all endpoints in the order that users know: tcp, other paths, the main socket.
func (c ProxyConfig) Addresses() []string {
	var out, last []string
	for _, e := range c.Endpoints {
		if strings.HasPrefix(e, "unix://") {
			last = append(last, e)
		} else {
			out = append(out, e)
		}
	}
	for _, l := range c.Links {
		out = append(out, "unix://"+l)
	}
	return append(out, last...)
}
