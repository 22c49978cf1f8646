package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"weave/peer"
)

const (
	mtuLook = time.Second // between two looks at the paths
	// A smaller MTU is taken up after this many looks, a larger one when it has been right for mtuGrow.
	mtuLooks = 2
	mtuGrow  = 30 * time.Second
	// guessedOverhead is what of an underlay's packet is left for others than containers, IPv6 and all: nobody can tell yet.
	guessedOverhead = 102
)

// mtuKeeper has containers' MTU follow the paths, with --mtu auto: all hosts of the network take the smallest that any of
// them can reach all its peers with, since whoever sends has to know what the receiver takes.
type mtuKeeper struct {
	n       *node
	told    int // in our record
	looks   int // in a row that said: smaller
	growing time.Time
}

// firstMTU is what --mtu auto begins with: what it was last, else what the underlay lets hope for.
func (n *node) firstMTU() (int, error) {
	text, ok, err := n.store.Get(keyMTU)
	if err != nil {
		return 0, err
	}
	if mtu, err := strconv.Atoi(string(text)); ok && err == nil && mtu >= MinMTU && mtu <= MaxMTU {
		return mtu, nil
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		return 0, fmt.Errorf("find an mtu: %w", err)
	}
	least := 0
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || len(addressesOf(i)) == 0 {
			continue
		}
		if least == 0 || i.MTU < least {
			least = i.MTU
		}
	}
	if least == 0 {
		return DefaultMTU, nil
	}
	return min(max(least-guessedOverhead, MinMTU), MaxMTU), nil
}

// follow starts what follows the underlay.
func (n *node) follow(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return n.ended("kernel path", n.sessions.fast.run(ctx)) })
	g.Go(func() error { return n.watchAddresses(ctx) })
	if n.cfg.AutoMTU {
		g.Go(func() error { return (&mtuKeeper{n: n}).run(ctx) })
	}
}

// run works until ctx ends.
func (k *mtuKeeper) run(ctx context.Context) error {
	tick := time.NewTicker(mtuLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			k.look(ctx, now)
		}
	}
}

// look tells the others what our paths carry, and follows what all of them do.
func (k *mtuKeeper) look(ctx context.Context, now time.Time) {
	v, current := k.n.mesh.view.Load(), k.n.bridge.MTU()
	fit := fitOf(k.n.paths())
	if v == nil || fit == 0 {
		return
	}
	fit = min(max(fit, MinMTU), MaxMTU)
	if fit != k.told && k.n.mesh.submit(ctx, peer.MTU{MTU: uint16(fit)}) == nil {
		k.told = fit
	}
	want := fit
	for _, p := range v.Peers {
		if p.Name != v.Self.Name && p.MTU != 0 {
			want = min(want, max(int(p.MTU), MinMTU))
		}
	}
	switch {
	case want >= current:
		k.looks = 0
	case k.looks+1 < mtuLooks:
		k.looks++
		return
	}
	switch {
	case want <= current:
		k.growing = time.Time{}
	case k.growing.IsZero():
		k.growing = now
	}
	if want < current || want > current && now.Sub(k.growing) >= mtuGrow {
		k.growing, k.looks = time.Time{}, 0
		k.change(ctx, current, want)
	}
}

// fitOf is the largest packet of containers that all paths carry whole; 0 while there is none, or one is being measured.
func fitOf(paths pathReports) int {
	fit := 0
	for _, r := range paths {
		switch {
		case r.kind == 0 || r.kind == peer.WayStream: // it carries any size
		case r.fit == 0:
			return 0
		case fit == 0 || r.fit < fit:
			fit = r.fit
		}
	}
	return fit
}

// change gives this host's interfaces another MTU. What forwards never takes less than what sends.
func (k *mtuKeeper) change(ctx context.Context, was, mtu int) {
	n := k.n
	var err error
	if mtu > was {
		err = n.bridge.SetMTU(mtu)
	}
	err = errors.Join(err, n.attachments.resize(ctx, mtu))
	if mtu < was {
		err = errors.Join(err, n.bridge.SetMTU(mtu))
	}
	err = errors.Join(err, n.store.Put(keyMTU, []byte(strconv.Itoa(mtu))))
	if err != nil {
		n.log.Warn("not every interface has the new MTU", "mtu", mtu, "err", err)
	}
	n.log.Info("MTU of containers changed", "was", was, "is", mtu)
}
