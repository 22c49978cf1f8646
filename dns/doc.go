// Package dns decides which names there are and what they stand for. It is a
// pure core: no socket, clock, file or goroutine.
//
// The nouns:
//
//   - Record: a name, what holds it (ident, mostly a container's id), an address,
//     perhaps services. Entry: a record with the version of its last change.
//   - Origin: the peer that a record was registered at. It alone tells of its
//     records, and it alone counts their versions, so clocks do not matter.
//   - Run: a number that a peer draws when it starts. What an earlier run told
//     counts no more; the network's view of the peer says which run it is in.
//   - Span: versions of an origin of which all changes are known. A Delta is what
//     changed in one span. Of each version either the entry that it made last is
//     known, or that something later took its place; both only ever become
//     more, so deltas may come in any order, twice, or with others lost between.
//   - Index: all living records by name and by address.
//   - Ask, digest: peers compare which versions they hold, and ask an origin for
//     what they lack.
//
// Catalogue keeps the entries and merges deltas; Core decides in addition whom
// to tell, ask and answer. Step takes an Input and returns Effects, to be
// performed in their order; Deadline says when it wants a Tick; Check verifies
// the invariants.
//
// Core and Catalogue have one owner each: nothing of them may be called
// concurrently. An Index may be read by anybody at any time; each answer is of
// one moment.
//
// What does not belong here: sockets, caches and other name servers
// (dns/server), how messages travel (internal/node, peer), addresses (ipam).
package dns

//go:generate protoc -I .. --go_out=.. --go_opt=paths=source_relative dns/dns.proto
