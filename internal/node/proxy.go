package node

import (
	"context"
	"net/netip"
	"os"

	"weave/internal/api"
	"weave/runtime"
	"weave/runtime/proxy"
	"weave/runtime/shim"
)

// proxyServer is the Docker API proxy with its listeners.
type proxyServer struct {
	*proxy.Proxy
	*proxy.Listeners
}

// openProxy opens the proxy, if it is wanted: when the engine need not be asked
// for by name, only where its socket is.
func (n *node) openProxy() error {
	cfg := n.cfg.Proxy
	if len(cfg.Endpoints.List) == 0 {
		return nil
	}
	if like := cfg.Endpoints.Like; like != "" && n.cfg.Engines.Auto {
		if _, err := os.Stat(like); err != nil {
			n.log.Info("no Docker here: its API is not proxied; launch with --runtime=docker to have that nevertheless", "socket", like)
			return nil
		}
	}
	dirs, err := shim.Install(n.cfg.Paths.State, "/proc/self/exe", n.shimRoutes())
	if err != nil {
		return err
	}
	p, err := proxy.New(proxy.Config{
		Upstream: n.cfg.Engines.Docker, Network: n.containers, Naming: n.cfg.Engines.Naming, DNS: n.containerDNS(),
		Shim: proxy.Shim{Dir: dirs.Wait, NoWait: dirs.NoWait, Relabel: selinux()}, Log: n.log.With("part", "proxy"),
		NoDefaultAllocation: cfg.NoDefaultAllocation || n.ipam == nil, RewriteInspect: cfg.RewriteInspect,
	})
	if err != nil {
		return err
	}
	listeners, err := proxy.Listen(cfg.Endpoints)
	if err != nil {
		return err
	}
	n.proxy = &proxyServer{p, listeners}
	return os.Chmod(n.cfg.Paths.Run, 0o711) // others may use the proxy who may use the engine
}

// selinux tells whether the kernel keeps containers from files that are not
// labelled for them (selinux(8)).
func selinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// containerDNS is the name server for containers; invalid if there is none.
func (n *node) containerDNS() netip.Addr {
	if n.names == nil || n.cfg.Engines.WithoutDNS {
		return netip.Addr{}
	}
	return n.names.address.Addr()
}

// shimRoutes are what containers wait for besides an address.
func (n *node) shimRoutes() []netip.Prefix {
	var routes []netip.Prefix
	if !n.cfg.Engines.NoMulticastRoute {
		routes = append(routes, runtime.Multicast())
	}
	if at := n.containerDNS(); at.Is4() && runtime.ServiceRange().Contains(at) {
		routes = append(routes, netip.PrefixFrom(at, 32))
	}
	return routes
}

// run serves until ctx ends.
func (p *proxyServer) run(ctx context.Context) error { return p.Run(ctx, p.Listeners.Listeners()) }

// ProxyAddresses implements api.Proxies.
func (n *node) ProxyAddresses() []string { return n.proxy.Addresses() }

// report is what status and report show.
func (p *proxyServer) report() *api.Proxy { return &api.Proxy{Addresses: p.Addresses()} }
