package api

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// fakeNode stands for the whole daemon behind the API. It keeps what it was told.
type fakeNode struct {
	mu       sync.Mutex
	report   Report
	targets  []string
	attached map[string]AttachRequest
	fault    error
	ended    []string // the order in which it was told to end
	cancel   context.CancelFunc
}

func newFakeNode() *fakeNode {
	return &fakeNode{report: busyReport(), attached: make(map[string]AttachRequest)}
}

func (n *fakeNode) Report() Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.report
	if n.targets != nil {
		r.Router.Targets = slices.Clone(n.targets)
	}
	return r
}

func (n *fakeNode) Connect(_ context.Context, targets []string, replace bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if replace {
		n.targets = []string{}
	}
	n.targets = append(n.targets, targets...)
	return n.fault
}

func (n *fakeNode) Forget(_ context.Context, targets []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.targets = slices.DeleteFunc(n.targets, func(t string) bool { return slices.Contains(targets, t) })
	return n.fault
}

func (n *fakeNode) Attach(_ context.Context, req AttachRequest) (AttachReply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if req.Target == "panic" {
		panic("told to")
	}
	if n.fault != nil {
		return AttachReply{}, n.fault
	}
	list, err := prefixes(req)
	if err == nil {
		n.attached[req.Target] = req
	}
	return AttachReply{Addresses: list}, err
}

func (n *fakeNode) Detach(_ context.Context, req AttachRequest) (AttachReply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, req.Target)
	list, err := prefixes(req)
	return AttachReply{Addresses: list}, errors.Join(n.fault, err)
}

func (n *fakeNode) Containers(_ context.Context, names []string) ([]Container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []Container
	for name, req := range n.attached {
		if len(names) == 0 || slices.Contains(names, name) {
			list, _ := prefixes(req)
			found = append(found, Container{ID: name, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addresses: list})
		}
	}
	return found, n.fault
}

func (n *fakeNode) Stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = append(n.ended, "stop")
	n.cancel()
}

func (n *fakeNode) Reset(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = append(n.ended, "reset")
	return n.fault
}

func (n *fakeNode) setFault(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = err
}

// fakeResolver knows the name "known".
type fakeResolver struct{}

func (fakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == "known" {
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
	}
	return nil, errors.New("no such host")
}

// prefixes are the addresses of a request; nil and an error where they are to be allocated, which this node cannot.
func prefixes(req AttachRequest) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, a := range req.Addresses {
		if a.Allocate {
			return nil, BadRequest(NoAllocation)
		}
		out = append(out, a.Prefix)
	}
	return out, nil
}
