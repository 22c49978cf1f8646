// Package policy decides which policy a network has, and who is in it. It is a pure core: no socket, clock, file or goroutine.
//
// The nouns: the Document is the one policy, a text with a version; it is replaced as a whole, and whichever copies meet, in any
// order, the same one is left: the higher version, then the higher author, then the higher text. An Endpoint is something with
// addresses on one peer, its origin, with the names and labels that a policy may be about. An origin alone tells of its endpoints
// and counts their versions; its run, a number that it draws at its start, tells one life from another.
//
// A change is told to everybody once, in one letter, whatever the number of endpoints. What got lost is found by digests: from
// time to time each peer compares versions with another one at random, and asks an origin for what it lacks. Endpoints of a peer that
// cannot be reached stay for a while, so that what is established with them is not cut while it starts again.
//
// Core has one owner: nothing of it may be called concurrently. Step takes an Input and returns Effects, to be performed in their
// order; Deadline says when it wants a Tick; Check verifies the invariants.
//
// What does not belong here: what a policy says and who is meant (stack/filter), how letters travel (peer), what is done about it
// (internal/node).
package policy

//go:generate protoc -I .. --go_out=.. --go_opt=paths=source_relative policy/policy.proto
