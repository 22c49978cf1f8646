package node

import (
	"context"
	"os"
	"path/filepath"

	"weave/internal/api"
	"weave/peer"
	"weave/runtime/netlink"
)

// backends are what the API works with.
func (n *node) backends() api.Backends {
	b := api.Backends{Reporter: n, Peers: n, Attacher: n, Lifecycle: n, Secrets: n.secrets, Hooks: n, Exposer: n, Services: n.services, Policies: n.policy, Metrics: n.metricsHandler()}
	if n.ipam != nil {
		b.Holders, b.Space = n.ipam, n.ipam
	}
	if n.names != nil {
		b.Names = n
	}
	if n.proxy != nil {
		b.Proxies = n
	}
	return b
}

// Connect implements api.Peers.
func (n *node) Connect(ctx context.Context, targets []string, replace bool) error {
	return n.mesh.submit(ctx, peer.Connect{Targets: targets, Replace: replace})
}

// Forget implements api.Peers.
func (n *node) Forget(ctx context.Context, targets []string) error {
	return n.mesh.submit(ctx, peer.Forget{Targets: targets})
}

// Containers implements api.Attacher.
func (n *node) Containers(ctx context.Context, names []string) ([]api.Container, error) {
	if len(names) == 0 {
		return append(n.shownExposed(), n.attachments.containers()...), nil
	}
	var out []api.Container
	for _, name := range names {
		if name == exposeIdent {
			out = append(out, n.shownExposed()...)
			continue
		}
		if p, err := n.locate(ctx, name); err == nil && !p.target.ID.IsZero() {
			out = n.attachments.container(out, name, p.target)
		}
	}
	return out, nil
}

// Stop implements api.Lifecycle.
func (n *node) Stop() { n.stop() }

// Reset implements api.Lifecycle: what is ours on the host goes at once, the
// state file when the daemon ends, which the server sees to.
func (n *node) Reset(context.Context) error {
	n.resetting.Store(true)
	return n.host.Reset()
}

// Reset removes what a daemon that does not run left behind: interfaces and rules, but of a user's daemon, which had none (rootless), the
// state file, the socket. Nothing there is fine.
func Reset(_ context.Context, stateDir, runDir string, rootless bool) error {
	if !rootless {
		if err := resetHost(interfacesOf(stateDir), Paths{Run: runDir}); err != nil {
			return err
		}
	}
	if err := removeState(stateDir); err != nil {
		return err
	}
	return ignoreMissing(os.Remove(filepath.Join(runDir, api.SocketName)))
}

func resetHost(names interfaces, paths Paths) error {
	h, err := netlink.Open(netlink.Config{Bridge: names.bridge, Uplink: names.tap, Tunnels: paths.tunnels()}, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Reset()
}

// removeState removes what the daemon remembers; its log stays.
func removeState(dir string) error {
	return ignoreMissing(os.Remove(Paths{State: dir}.store()))
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
