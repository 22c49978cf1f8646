package api

import (
	"context"
	"net/netip"
)

// Anonymous is the id of holders without one: each is stored under its address.
const Anonymous = "_"

// Holders gives addresses to whoever asks under an id, any text, mostly a container's. All but Lookup may wait until the
// context ends; then they do nothing, and return its error.
type Holders interface {
	// Allocate returns an address in subnet, which is the default one if it is not valid; the same id gets the same
	// address again.
	Allocate(ctx context.Context, id string, subnet netip.Prefix) (netip.Prefix, error)
	// Claim takes one address. With assume it succeeds at once where its owner cannot be asked now.
	Claim(ctx context.Context, id string, cidr netip.Prefix, assume bool) error
	// Lookup lists what id has, in subnet if that is valid.
	Lookup(ctx context.Context, id string, subnet netip.Prefix) ([]netip.Prefix, error)
	// Free gives an address back, or with an invalid one all that id has.
	Free(ctx context.Context, id string, addr netip.Addr) error
}

// Space is the address range and who shares it.
type Space interface {
	// Owned lists everything that is held here.
	Owned(ctx context.Context) ([]OwnedAddresses, error)
	// Prime waits until the network has agreed on who shares the range.
	Prime(ctx context.Context) error
	// Settle has the ring put right: by a RemovePeer, a HandOver or a Repair. It returns what to print.
	Settle(ctx context.Context, what any) (string, error)
	// Waiting tells what requests wait for, one reason a line, and the default subnet.
	Waiting() (reasons []string, defaultSubnet netip.Prefix)
}

// What Space.Settle takes.
type (
	// RemovePeer takes over the space of a dead peer, by name or nickname.
	RemovePeer struct{ Peer string }
	// HandOver gives all our space to another peer.
	HandOver struct{}
	// Repair settles disagreements about the ring.
	Repair struct{}
)

// OwnedAddresses is an id with what it holds.
type OwnedAddresses struct {
	ContainerID string   `json:"containerid"`
	Addrs       []string `json:"addrs"`
}
