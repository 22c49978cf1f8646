package node

import (
	"context"
	"net/netip"

	"weave/runtime"
)

// wiring gives namespaces their interface. There are two: veths on a bridge,
// where we have the rights of the host (netlink.Host), and TAPs whose descriptors
// this process holds, where we have only a user's (userHost).
type wiring interface {
	changer
	// Resolve finds the namespace that a target names.
	Resolve(target string) (runtime.Target, error)
	// Interface shows what users see of a namespace; false if it has none of ours.
	Interface(t runtime.Target) (runtime.MAC, []netip.Prefix, bool, error)
	// Lives tells whether an attached namespace is still there.
	Lives(t runtime.Target) bool
}

// changer is the part of a wiring that changes something.
type changer interface {
	// Attach adds addresses to a namespace, and the interface where it has none.
	Attach(ctx context.Context, a runtime.Attachment) (warnings []string, err error)
	// Detach removes addresses, and the interface with the last one.
	Detach(ctx context.Context, t runtime.Target, addresses []netip.Prefix) error
	// Reconcile makes the kernel show what is wanted, and tells which namespaces are gone.
	Reconcile(ctx context.Context, wanted []runtime.Attachment) (lost []runtime.Attachment, err error)
	// Reset removes everything of ours.
	Reset() error
}
