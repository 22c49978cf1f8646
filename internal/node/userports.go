package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"

	"weave/internal/api"
	"weave/runtime"
	overlay "weave/stack/host"
)

// portLeader leads ports of the host to others; netlink.Host and userPorts do.
type portLeader interface {
	// Forward leads these ports and no others. What is connected stays so unless
	// its port is led no more.
	Forward(list []runtime.Forwarding) error
}

// userPorts leads ports where there is no bridge: this process listens, and
// carries each connection. It belongs to portServices.
type userPorts struct {
	host *overlay.Host
	open map[userPortKey]*userPort
}

type userPortKey struct {
	proto string
	at    netip.AddrPort
}

type userPort struct {
	forward *overlay.Forward
	targets atomic.Pointer[[]netip.AddrPort]
}

func newUserPorts(host *overlay.Host) *userPorts {
	return &userPorts{host: host, open: map[userPortKey]*userPort{}}
}

// Forward implements portLeader.
func (u *userPorts) Forward(list []runtime.Forwarding) error {
	wanted := map[userPortKey][]netip.AddrPort{}
	for _, f := range list {
		wanted[userPortKey{f.Proto, f.At}] = f.Targets
	}
	var errs []error
	for key, p := range u.open {
		if wanted[key] == nil {
			delete(u.open, key)
			errs = append(errs, p.forward.Close())
		}
	}
	for key, targets := range wanted {
		p := u.open[key]
		if p == nil {
			p = &userPort{}
		}
		p.targets.Store(&targets)
		if p.forward != nil {
			continue
		}
		var err error
		if p.forward, err = u.listen(key, p.target); err != nil {
			errs = append(errs, api.BadRequest(err.Error()))
			continue
		}
		u.open[key] = p
	}
	return errors.Join(errs...)
}

// listen opens a port, on the network's side if the address is ours there.
func (u *userPorts) listen(key userPortKey, to overlay.Target) (*overlay.Forward, error) {
	own := func(p netip.Prefix) bool { return p.Addr() == key.at.Addr() }
	if slices.ContainsFunc(u.host.Addresses(), own) {
		return u.host.Import(key.proto, key.at, to)
	}
	return u.host.Publish(key.proto, key.at, to)
}

// target gives a connection its targets: one by chance, and the others in case
// that it does not answer.
func (p *userPort) target(context.Context) ([]netip.AddrPort, error) {
	list := slices.Clone(*p.targets.Load()) // never empty: such a port is closed
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list, nil
}
