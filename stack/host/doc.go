// Package host is this host's presence on the overlay where the kernel may not be asked for it: a TCP/IP stack in this
// process (gVisor's netstack) that is one more port of the user-space switch.
//
// # Nouns
//
//   - A Host is the stack with its addresses. It answers ARP, neighbour discovery and ping, and has Dial and Listen as the
//     kernel would. New makes it, Run keeps it until a context ends.
//   - Its port (Host.Port) has the shape of a TAP's queue: packets are a virtio-net header of HeaderLen bytes and an Ethernet
//     frame, super-frames with partial checksums included, in both directions (virtio 1.2, section 5.1.6; package tun has
//     the drawing). TryRead takes what the stack sends, WriteV gives it what is for the host.
//   - A Forward listens on one side and connects to the other: Publish from a real socket of the host to the overlay, Import
//     from the overlay to a real address.
//   - Egress is a second stack that plays the whole internet to containers that have no other way out. What it accepts it
//     passes to real sockets. It is apart so that the Host itself never answers for an address that is not its own.
//   - A Proxy speaks SOCKS5 and HTTP to programs of the host and connects to names of the overlay.
//
// # Who may call what
//
// TryRead of the port belongs to one goroutine at a time. Everything else may be called by any goroutine at any time, until Run
// has returned; afterwards calls fail with ErrClosed. Netstack starts a few goroutines of its own in New; they and all
// others end before Run returns, so who calls New must call Run, or Close.
//
// Every table has a bound (Limits), and what does not fit is refused or dropped, and counted (Stats). Frames that make no
// sense are a counted drop.
//
// # What does not belong here
//
// Which frame comes here (package stack), names and addresses to use (they are arguments), the kernel's interfaces, logging.
package host
