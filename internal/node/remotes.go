package node

import (
	"iter"

	"weave/peer"
	"weave/stack"
)

// remotePage is how many ports a page of remotes has.
const remotePage = 64

// remotes finds peers by port, and is made anew for each table. Ports are handed out in turn, so that after a while few of
// many numbers are in use: a page without any takes no memory. It is immutable.
type remotes []*[remotePage]*remote

// newRemotes makes remotes of all peers.
func newRemotes(ports map[stack.Port]*peerState) remotes {
	most := -1
	for port := range ports {
		most = max(most, int(port-firstRemotePort)/remotePage)
	}
	all := make(remotes, most+1, peer.Ample(most+1))
	for port, p := range ports {
		i := int(port - firstRemotePort)
		page := &all[i/remotePage]
		if *page == nil {
			*page = new([remotePage]*remote)
		}
		(*page)[i%remotePage] = p.remote
	}
	return all
}

// of is the peer at a port, nil if that is not a peer's.
func (r remotes) of(p stack.Port) *remote {
	i := uint(p) - uint(firstRemotePort) // a local port is beyond all
	if page := i / remotePage; page < uint(len(r)) && r[page] != nil {
		return r[page][i%remotePage]
	}
	return nil
}

// all goes through the peers in the order of their ports.
func (r remotes) all() iter.Seq[*remote] {
	return func(yield func(*remote) bool) {
		for _, page := range r {
			if page == nil {
				continue
			}
			for _, p := range page {
				if p != nil && !yield(p) {
					return
				}
			}
		}
	}
}
