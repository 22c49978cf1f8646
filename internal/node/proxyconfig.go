package node

import (
	"fmt"
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
	Endpoints           proxy.Endpoints
	NoDefaultAllocation bool
	RewriteInspect      bool
}

// ParseProxyFlags checks the flags, and tells the engines' configuration what it has to know of them.
func ParseProxyFlags(f ProxyFlags, run string, engines *EngineConfig) (ProxyConfig, error) {
	c := ProxyConfig{NoDefaultAllocation: f.NoDefaultAllocation, RewriteInspect: f.RewriteInspect}
	match, err := regexp.Compile(f.Match)
	if err != nil {
		return c, fmt.Errorf("invalid --hostname-match: %w", err)
	}
	engines.Naming = runtime.Naming{FromLabel: f.FromLabel, Match: match, Replacement: f.Replacement}
	engines.WithoutDNS, engines.NoMulticastRoute, engines.NoRewriteHosts = f.WithoutDNS, f.NoMulticastRoute, f.NoRewriteHosts
	if !f.On || engines.Docker == "" {
		return c, nil
	}
	path, unix := strings.CutPrefix(engines.Docker, "unix://")
	c.Endpoints = proxy.Endpoints{Socket: filepath.Join(run, ProxySocket), List: f.Listen, TLS: f.TLS}
	switch {
	case unix:
		c.Endpoints.Like = path
		if len(f.Listen) == 0 {
			c.Endpoints.List = []string{"unix://" + c.Endpoints.Socket}
		}
	case len(f.Listen) == 0:
		c.Endpoints.List = []string{"tcp://0.0.0.0:" + ProxyPort}
	}
	for _, text := range f.Listen {
		if _, _, err := proxy.ParseEndpoint(text); err != nil {
			return c, fmt.Errorf("-H: %w", err)
		}
	}
	return c, nil
}
