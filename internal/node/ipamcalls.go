package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"weave/internal/api"
	"weave/ipam"
)

// faultOf gives what is wrong with a request the status that scripts know.
func faultOf(r ipam.Reply) error {
	switch r.Fault {
	case "":
		return nil
	case ipam.ErrCancelled:
		return &api.StatusError{Code: http.StatusOK, Text: string(r.Fault)}
	}
	return api.BadRequest(string(r.Fault))
}

// Allocate implements api.Holders.
func (l *ipamLoop) Allocate(ctx context.Context, id string, subnet netip.Prefix) (netip.Prefix, error) {
	return l.allocate(ctx, id, subnet, false)
}

func (l *ipamLoop) allocate(ctx context.Context, id string, subnet netip.Prefix, container bool) (netip.Prefix, error) {
	if !subnet.IsValid() {
		subnet = l.cfg.DefaultSubnet
	}
	r, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input {
		return ipam.Allocate{ID: req, Ident: id, Subnet: subnet, Container: container, Anonymous: id == api.Anonymous}
	})
	if err != nil {
		return netip.Prefix{}, err
	}
	return r.CIDRs[0], nil
}

// Claim implements api.Holders.
func (l *ipamLoop) Claim(ctx context.Context, id string, cidr netip.Prefix, assume bool) error {
	return l.claim(ctx, id, cidr, assume, false)
}

func (l *ipamLoop) claim(ctx context.Context, id string, cidr netip.Prefix, assume, container bool) error {
	_, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input {
		return ipam.Claim{ID: req, Ident: id, CIDR: cidr, Container: container, Anonymous: id == api.Anonymous, Assume: assume}
	})
	return err
}

// Lookup implements api.Holders.
func (l *ipamLoop) Lookup(ctx context.Context, id string, subnet netip.Prefix) ([]netip.Prefix, error) {
	r, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input { return ipam.Lookup{ID: req, Ident: id, Subnet: subnet} })
	return r.CIDRs, err
}

// Free implements api.Holders.
func (l *ipamLoop) Free(ctx context.Context, id string, addr netip.Addr) error {
	if id == api.Anonymous && addr.IsValid() {
		id = addr.String()
	}
	_, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input { return ipam.Free{ID: req, Ident: id, Addr: addr} })
	return err
}

// Owned implements api.Space.
func (l *ipamLoop) Owned(ctx context.Context) ([]api.OwnedAddresses, error) {
	all, err := l.holdings(ctx)
	if err != nil {
		return nil, err
	}
	index := map[string]int{}
	var out []api.OwnedAddresses
	for _, h := range all {
		i, there := index[h.Ident]
		if !there {
			i = len(out)
			index[h.Ident] = i
			out = append(out, api.OwnedAddresses{ContainerID: h.Ident})
		}
		out[i].Addrs = append(out[i].Addrs, h.CIDR.String())
	}
	slices.SortFunc(out, func(a, b api.OwnedAddresses) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return out, nil
}

func (l *ipamLoop) holdings(ctx context.Context) ([]ipam.Holding, error) {
	r, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input { return ipam.List{ID: req} })
	return r.Holdings, err
}

// Prime implements api.Space.
func (l *ipamLoop) Prime(ctx context.Context) error {
	_, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input { return ipam.Prime{ID: req} })
	return err
}

// Settle implements api.Space.
func (l *ipamLoop) Settle(ctx context.Context, what any) (string, error) {
	switch what := what.(type) {
	case api.RemovePeer:
		r, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input { return ipam.Remove{ID: req, Peers: []string{what.Peer}} })
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d IPs taken over from %s\n", r.Counts[0], what.Peer), nil
	case api.HandOver:
		r, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input { return ipam.HandOver{ID: req} })
		return r.Text, err
	case api.Repair:
		r, err := l.ask(ctx, func(req ipam.ReqID) ipam.Input { return ipam.Repair{ID: req} })
		if r.Text == "" {
			return "Nothing to repair.\n", err
		}
		return r.Text + "\n", err
	}
	return "", errors.New("unknown request")
}

// Waiting implements api.Space.
func (l *ipamLoop) Waiting() ([]string, netip.Prefix) {
	var out []string
	if v := l.view.Load(); v != nil {
		for _, p := range v.Pending {
			if p.Reason != "" && !slices.Contains(out, p.Reason) {
				out = append(out, p.Reason)
			}
		}
	}
	return out, l.cfg.DefaultSubnet
}

// report is what status and report show.
func (l *ipamLoop) report() *api.IPAM {
	out := &api.IPAM{
		Range: l.cfg.Range.String(), RangeNumIPs: 1 << (32 - l.cfg.Range.Bits()), DefaultSubnet: l.cfg.DefaultSubnet.String(),
		PendingClaims: []api.PendingClaim{}, PendingAllocates: []string{}, Status: "idle",
	}
	if l.cfg.V6.IsValid() {
		out.RangeIPv6 = l.cfg.V6.String()
	}
	v := l.view.Load()
	if v == nil {
		return out
	}
	out.Status, out.ActiveIPs, out.Disagreements, out.Removed = v.Status, v.Active, v.Faults, v.Removed
	if v.Paxos != nil {
		out.Paxos = &api.Paxos{Elector: v.Paxos.Elector, KnownNodes: v.Paxos.Known, Quorum: v.Paxos.Quorum}
	}
	for _, s := range v.Segments {
		out.Entries = append(out.Entries, api.IPAMEntry{
			Token: s.Start.String(), Size: uint32(s.Size), Peer: s.Owner.String(), Nickname: s.Nickname, IsKnownPeer: s.Near, Version: s.Version,
		})
	}
	for _, p := range v.Pending {
		switch {
		case p.Claim:
			out.PendingClaims = append(out.PendingClaims, api.PendingClaim{Ident: p.Ident, CIDR: api.CIDR{Addr: p.CIDR.Addr().String(), PrefixLen: p.CIDR.Bits()}})
		case p.CIDR.IsValid():
			out.PendingAllocates = append(out.PendingAllocates, p.Ident+" "+p.CIDR.String())
		}
		if p.Reason != "" {
			out.Waiting = append(out.Waiting, strings.TrimSpace(p.Ident+" "+p.Reason))
		}
	}
	for _, s := range v.Strays {
		out.Strays = append(out.Strays, api.Stray{Ident: s.Ident, CIDR: s.CIDR.String(), Owner: s.Owner, Reason: s.Reason})
	}
	return out
}
