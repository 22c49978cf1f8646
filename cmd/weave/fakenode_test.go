package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"weave/internal/api"
	"weave/internal/node"
)

// fakeNode stands for internal/node as a whole: a daemon that has an API, a state file, and no network.
type fakeNode struct {
	mu       sync.Mutex
	cfg      node.Config
	attached []api.Container
	policy   string
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
	b := api.Backends{Reporter: n, Peers: n, Attacher: n, Lifecycle: n, Policies: n}
	if n.cfg.Nickname == "proxied" {
		b.Proxies = n
	}
	return b
}

func (n *fakeNode) ProxyAddresses() []string {
	return []string{"tcp://0.0.0.0:12375", "unix:///run/weave/weave.sock"}
}

// resetFakeNode is node.Reset.
func resetFakeNode(_ context.Context, stateDir, _ string, _ bool) error {
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

// SetPolicy takes what begins with a group.
func (n *fakeNode) SetPolicy(_ context.Context, text string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !strings.HasPrefix(text, "group ") {
		return nil, api.BadRequest("line 1: unknown word\nline 2: there is no group \"db\"")
	}
	n.policy = text
	return []string{"the policy is not enforced on this host yet: no nf_tables"}, nil
}

func (n *fakeNode) ClearPolicy(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.policy = ""
	return nil, nil
}

func (n *fakeNode) PolicyStatus(context.Context) (api.PolicyStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.policy == "" {
		return api.PolicyStatus{}, nil
	}
	return api.PolicyStatus{
		Version: 3, Author: "02:00:00:00:00:01(one)", SetAt: time.Unix(1e9, 0), Text: n.policy, Default: "deny",
		Groups: []api.PolicyGroup{{Name: "web", Addresses: 2}},
		Rules:  []api.PolicyRule{{Line: 2, PolicyCount: api.PolicyCount{Text: "allow web -> * tcp 80", Packets: 7, Bytes: 420}}},
		Other:  []api.PolicyCount{{Text: "default", Packets: 1, Bytes: 60}},
	}, nil
}

func (n *fakeNode) TestPolicy(_ context.Context, from, to, service string) (api.PolicyVerdict, error) {
	if from == "nobody" {
		return api.PolicyVerdict{}, api.BadRequest("there is no container")
	}
	v := api.PolicyVerdict{
		From: api.PolicyEnd{Name: from, Address: "10.0.0.1", Peer: "02:00:00:00:00:01(one)", Groups: []string{"web", "all"}},
		To:   api.PolicyEnd{Address: to}, Service: service,
	}
	if service == "80" {
		v.Allowed, v.Line, v.Rule = true, 2, "allow web -> * tcp 80"
	}
	return v, nil
}
