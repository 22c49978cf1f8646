// Package runtime decides how containers get on the network: it compares what is wanted with what the kernel shows and
// answers with ordered steps, each of which can be undone. It acts on nothing; runtime/netlink performs the steps.
//
// # Nouns
//
//   - A Target is what an operator names: a path to a network namespace, a name under /run/netns, or a process. Its
//     Identity (device and inode) is what it turned out to be.
//   - An Attachment is what is wanted in one namespace; Seen is what is there.
//   - Want and State are the same for the whole host: bridge, uplink and all attachments.
//   - A Step is plain data: one change, with the value before it, so that Undo needs no memory.
//   - An Exposure is an address of the host on the bridge, a Forwarding a port of the host that leads elsewhere. Rules are
//     what follows from them for the packet filter; a Repair is what of these is not there, or not wanted any more.
//
// Start, attach, detach and recovery are one function, Diff: a state that already is as wanted yields no steps.
//
//	  container's namespace          host's namespace
//	+-----------------------+      +---------------------------------------+
//	| ethwe (Inner)         |======| vethwepl… (HostVeth) -- bridge weave   |
//	|   addresses           | veth |                          |             |
//	|   224.0.0.0/4 route   |      |                        uplink (a TAP)  |
//	+-----------------------+      +---------------------------------------+
//
// IPv4 multicast stays in its subnet: the container's namespace has a Filter that takes it from the subnets of its own
// addresses only. IPv6 multicast is not filtered.
//
// # Who may call what
//
// Everything here is a function of its arguments and safe for concurrent use.
//
// # What does not belong here
//
// Sockets, files, namespaces, clocks. The standard library's runtime is imported as goruntime by those who need both.
package runtime
