package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"weave/internal/api"
	"weave/internal/node"
)

// fakeNode stands for internal/node as a whole: a daemon that has an API, a state file, and no network.
type fakeNode struct {
	mu       sync.Mutex
	cfg      node.Config
	attached []api.Container
	stop     context.CancelFunc
}

// runFakeNode is node.Run. It fails at once for the nickname "fails" and never gets ready for "unready".
func runFakeNode(ctx context.Context, cfg node.Config) error {
	if cfg.Nickname == "fails" {
		return errors.New("told to fail")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	n := &fakeNode{cfg: cfg, stop: stop}
	if err := os.WriteFile(filepath.Join(cfg.Paths.State, stateFile), nil, 0o600); err != nil {
		return err
	}
	s, err := api.Listen(api.Config{
		Socket: filepath.Join(cfg.Paths.Run, api.SocketName), HTTPAddr: cfg.Listeners.HTTP, StatusAddr: cfg.Listeners.Status,
		Instance: cfg.Instance, Log: cfg.Log,
	}, backends(n))
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// backends has a proxy for the nickname "proxied".
func backends(n *fakeNode) api.Backends {
	b := api.Backends{Reporter: n, Peers: n, Attacher: n, Lifecycle: n}
	if n.cfg.Nickname == "proxied" {
		b.Proxies = n
	}
	return b
}

func (n *fakeNode) ProxyAddresses() []string {
	return []string{"tcp://0.0.0.0:12375", "unix:///run/weave/weave.sock"}
}

// resetFakeNode is node.Reset.
func resetFakeNode(_ context.Context, stateDir, _ string) error {
	return os.Remove(filepath.Join(stateDir, stateFile))
}

func (n *fakeNode) Report() api.Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := api.Report{Ready: n.cfg.Nickname != "unready", Version: api.Version}
	r.Router.Mesh = api.Mesh{
		Protocol: "weave", ProtocolMinVersion: 1, ProtocolMaxVersion: 1, Encryption: len(n.cfg.Passwords) > 0,
		PeerDiscovery: !n.cfg.NoDiscovery, Name: n.cfg.Name, NickName: n.cfg.Nickname, Port: n.cfg.Port,
		Targets: n.cfg.Peers,
	}
	if n.cfg.Resume {
		r.Router.Targets = []string{"resumed"}
	}
	if n.cfg.Host.IsValid() {
		r.Router.Interface = n.cfg.Host.String()
	}
	return r
}

func (n *fakeNode) Connect(_ context.Context, targets []string, replace bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if replace {
		n.cfg.Peers = nil
	}
	n.cfg.Peers = append(n.cfg.Peers, targets...)
	return nil
}

func (n *fakeNode) Forget(context.Context, []string) error { return nil }

func (n *fakeNode) Attach(_ context.Context, req api.AttachRequest) (api.AttachReply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch req.Target {
	case "dead":
		return api.AttachReply{}, api.BadRequest("Container dead died")
	case "absent":
		return api.AttachReply{}, &api.StatusError{Code: http.StatusNotFound, Text: "nobody sees this"}
	}
	list, err := prefixes(req)
	if err != nil {
		return api.AttachReply{}, err
	}
	n.attached = append(n.attached, api.Container{
		ID: req.Target, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addresses: list,
	})
	return api.AttachReply{Addresses: list}, nil
}

func (n *fakeNode) Detach(_ context.Context, req api.AttachRequest) (api.AttachReply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attached = nil
	list, err := prefixes(req)
	return api.AttachReply{Addresses: list}, err
}

func (n *fakeNode) Containers(_ context.Context, names []string) ([]api.Container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(names) > 0 && names[0] == "other" {
		return nil, nil
	}
	return n.attached, nil
}

func (n *fakeNode) Stop() { n.stop() }

func (n *fakeNode) Reset(context.Context) error {
	return os.Remove(filepath.Join(n.cfg.Paths.State, stateFile))
}

// prefixes are the addresses of a request; nil and an error where they are to be allocated, which this node cannot.
func prefixes(req api.AttachRequest) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, a := range req.Addresses {
		if a.Allocate {
			return nil, api.BadRequest(api.NoAllocation)
		}
		out = append(out, a.Prefix)
	}
	return out, nil
}
