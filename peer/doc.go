// Package peer decides who belongs to the network, how its members are joined
// and which way frames travel between them. It is a pure core: it opens no
// socket, reads no clock, starts no goroutine and writes no file.
//
// The nouns:
//
//   - Identity: the Ed25519 key of a peer, and the X25519 key derived from it
//     that Noise and WireGuard use. Name: six bytes, derived from the key
//     unless the operator chose one, pinned to the key on first sight.
//   - Record: what a peer tells the network about itself, versioned and signed
//     by it (Signed). Relays pass on the signed bytes unchanged.
//   - Topology: the newest record of every peer; a CRDT (Merge, Snapshot).
//   - Connection: a control connection (TCP, Noise) that the driver opened or
//     accepted. Target: an address the operator gave. Attempt: the state of
//     dialling one address, given or discovered.
//   - Paths: by which way a peer is reached. FastPaths: which peers the
//     kernel reaches.
//   - Mesh: the state machine that ties these together. Step takes an Input
//     and returns Effects; Deadline says when it wants a Tick; Check verifies
//     its invariants. View is the immutable picture it publishes.
//
// A Mesh has one owner: Step, Deadline, Check and Counters must not be called
// concurrently. A published View and everything it points to is never written
// again, so any number of goroutines may read it. All other functions of the
// package are safe for concurrent use, except the methods that change a
// Topology.
//
// What does not belong here: frames and sessions (stack, peer/session),
// sockets (peer/control, peer/link), address management and names of
// containers (ipam, dns).
package peer
