package dns

import (
	"net/netip"
	"time"

	"weave/peer"
)

// ReqID names a request that a Reply answers; the driver gives it.
type ReqID uint64

// Input is something that happened; Core.Step takes it.
type Input interface{ input() }

// Tick lets time pass; give it when Deadline is reached, or at any time.
type Tick struct{}

// Add registers records here. Those outside the domain are left out without a
// word, as they always were.
type Add struct {
	ID      ReqID
	Records []Record
}

// Remove takes records of ours away: all that match what is given.
type Remove struct {
	ID    ReqID
	Ident string     // "" = any
	Addr  netip.Addr // invalid = any
	Name  string     // "" = any
}

// Reachable tells which other peers can be reached, with the number of their
// run. Give it when that changes.
type Reachable struct{ Peers map[peer.Name]uint64 }

// Message is a message of another peer's Core.
type Message struct {
	From peer.Name
	Data []byte // not kept
}

func (Tick) input()      {}
func (Add) input()       {}
func (Remove) input()    {}
func (Reachable) input() {}
func (Message) input()   {}

// Effects are what the driver does after a Step, in the order of the fields.
// There is nothing to save: who registered names registers them again. The
// Index has changed already.
type Effects struct {
	Publish *View // nil = unchanged
	Send    []Send
	Replies []Reply
}

// Send passes a message to the Core of another peer; the zero Name is everybody
// that can be reached. It may get lost.
type Send struct {
	To   peer.Name
	Data []byte
}

// Reply answers a request; Fault is a text for users, "" if all is well.
type Reply struct {
	ID    ReqID
	Fault string
	Count int // records added or removed
}

// View is what the core shows of itself.
type View struct {
	Own      int // living entries of this peer
	Counters Counters
}

// Counters count messages.
type Counters struct {
	Bad    uint64 // malformed, or more than a peer may tell
	Stale  uint64 // of another run
	Asked  uint64 // by us
	Refill uint64 // asks of others that we answered
}

// Times.
const (
	digestEvery = 30 * time.Second
	askAgain    = 500 * time.Millisecond // doubled until askSlow
	askSlow     = 30 * time.Second
	answerEvery = 250 * time.Millisecond // the same ask of the same peer
	pace        = 50 * time.Millisecond  // between bursts of asks
)

// Sizes.
const (
	burst       = 32       // asks at once
	chunkBytes  = 48 << 10 // of a delta's entries, roughly
	chunksAtOne = 8        // deltas in answer to one ask
)
