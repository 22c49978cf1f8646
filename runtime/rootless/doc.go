// Package rootless is the edge to namespaces of containers that belong to an ordinary user: no process of the host may
// enter them as a thread, so a child does, through nsenter(1), with the rights that the user has there.
//
// # Nouns
//
//   - A Request says where a child goes and what it is told; its reply comes with a file, if it sends one. Serve is the
//     child's side.
//   - A Watch tells whether a namespace still has processes. Somebody who holds a TAP holds the namespace too, so that
//     its end cannot be seen by the TAP.
//
// # Who may call what
//
// Run may be called concurrently. A Watch belongs to one goroutine.
//
// # What does not belong here
//
// What the child does (runtime/netlink.Inside, tun): internal/node joins them.
package rootless
