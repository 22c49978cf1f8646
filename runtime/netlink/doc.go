// Package netlink performs what package runtime plans: it makes the host's bridge, gives namespaces their interface, and
// tells what is there.
//
// # Nouns
//
// A Host is the network namespace that the daemon started in, whatever that is: the machine's own, one made by `ip netns`,
// or one in a user namespace. Everything "host" in this package is relative to it.
//
// # Rules
//
//   - Everything is idempotent. A step that fails takes those before it back, so that nothing is left half-made.
//   - Nothing of ours goes away when the Host or its Fast (the kernel path) is closed; only Detach, Reset and RemoveFast
//     remove interfaces.
//   - The kernel is asked through sockets that were made in the right namespace. Only sysctls and packet sockets need a
//     thread to go there; it is locked meanwhile, and dies if it cannot be brought back.
//   - Kernels without IPv6 or nf_tables and read-only sysctls are no errors.
//   - In a container's namespace, the chain multicast of the nftables table weave (family ip) is ours; no other table or
//     chain is touched.
//   - In the host's, the nftables table named after the bridge is ours (family inet), the one with "-fastdp" behind that, and
//     rules with our comment in others' chains of the forward hook.
//   - WireGuard's network namespace is ours as a whole.
//
// # Who may call what
//
// All methods of a Host may be called concurrently; those that change something wait for each other.
//
// # What does not belong here
//
// Deciding (package runtime), opening TAPs (package tun: an uplink is named to AddUplink), engines.
package netlink
