// Package ipam decides which peer may hand out which addresses, and hands ours
// out to containers. It is a pure core: no socket, clock, file or goroutine.
//
// The nouns:
//
//   - Range: the IPv4 prefix that the whole network allocates from.
//   - Ring: who owns which part of the range. It is a CRDT of Entries, intervals
//     with an owner and a version, of which each reaches to the start of the
//     next at most. Merge takes what others know, Snapshot is all of it.
//   - Member: a peer in one of its lives. Who is removed gets a tombstone that
//     names the heir of all that this life owned; it returns as its next life,
//     owning nothing.
//   - Genesis: who shared the range at first. Rings of different geneses never
//     mix; Repair settles which one stays.
//   - Ident: what holds addresses, mostly a container's id. Holding: an address
//     with the ident that has it and the length of its subnet's prefix.
//   - Decree: a decision of several peers by Paxos, of which each knows the
//     others' votes by gossip: the first ring, and the heir of a removed peer.
//   - Stray: a holding in space that is another's, because that was settled so
//     or because it was claimed before its owner answered. We go on asking the
//     owner for it.
//
// Core ties these together: Step takes an Input and returns Effects, to be
// performed in their order; Deadline says when it wants a Tick; Check verifies
// its invariants.
//
// A Core and a Ring have one owner each: nothing of them may be called
// concurrently. A published View is never written again. The functions of the
// package are safe for concurrent use.
//
// What does not belong here: how messages travel (internal/node, peer), the
// interfaces that have the addresses (runtime), names (dns).
package ipam
