package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

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
	if err := n.installShim(); err != nil {
		return fmt.Errorf("the wait shim: %w", err)
	}
	p, err := proxy.New(proxy.Config{
		Upstream: n.cfg.Engines.Docker, Network: n.containers, Naming: n.cfg.Engines.Naming, DNS: n.containerDNS(),
		Shim: proxy.Shim{Dir: n.shimDir(), Relabel: selinux()}, Log: n.log.With("part", "proxy"),
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

// shimDir is what containers get as runtime.ShimDir.
func (n *node) shimDir() string { return filepath.Join(n.cfg.Paths.State, "w") }

// installShim puts our own binary where containers have it mounted, and what it
// has to wait for.
func (n *node) installShim() error {
	dir := n.shimDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var routes []string
	if !n.cfg.Engines.NoMulticastRoute {
		routes = append(routes, runtime.Multicast().String())
	}
	if at := n.containerDNS(); at.Is4() && runtime.ServiceRange().Contains(at) {
		routes = append(routes, netip.PrefixFrom(at, 32).String())
	}
	if err := os.WriteFile(filepath.Join(dir, shim.RoutesFile), []byte(strings.Join(routes, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	ours, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "w")
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, ours) {
		return nil
	}
	f, err := os.CreateTemp(dir, ".w-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(ours)
	if err := errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path) // containers that wait go on with the old one
}

// run serves until ctx ends.
func (p *proxyServer) run(ctx context.Context) error { return p.Run(ctx, p.Listeners.Listeners()) }

// ProxyAddresses implements api.Proxies.
func (n *node) ProxyAddresses() []string { return n.proxy.Addresses() }

// report is what status and report show.
func (p *proxyServer) report() *api.Proxy { return &api.Proxy{Addresses: p.Addresses()} }
