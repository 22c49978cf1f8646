package policy

import (
	"net/netip"
	"time"

	"weave/peer"
)

// Document is a policy of the network.
type Document struct {
	Version uint64
	Author  peer.Name
	Text    string // "" = there is none any more
	Time    time.Time
}

// newer tells which of two documents counts.
func (d *Document) newer(than *Document) bool {
	if d.Version != than.Version {
		return d.Version > than.Version
	}
	if c := d.Author.Compare(than.Author); c != 0 {
		return c > 0
	}
	return d.Text > than.Text
}

// Endpoint is something with addresses on its origin.
type Endpoint struct {
	ID     string // unique at its origin
	Names  []string
	Labels map[string]string
	Addrs  []netip.Addr
}

// Bounds of an endpoint, of an origin, and of a document.
const (
	MaxNames     = 32
	MaxLabels    = 64
	MaxBytes     = 8 << 10 // of an endpoint's names and labels together
	MaxAddrs     = 64
	MaxEndpoints = 20000
	MaxText      = 192 << 10
)

// Input is something that happened; Core.Step takes it.
type Input interface{ input() }

// Tick lets time pass; give it when Deadline is reached, or at any time.
type Tick struct{}

// Set makes a text the policy of the network; "" takes the policy away.
type Set struct{ Text string }

// Recall gives back what was saved: the document, and the endpoints of others, which count until their peers are heard of.
type Recall struct {
	Document Document
	Origins  map[peer.Name][]Endpoint
}

// Own tells what endpoints this peer has: all of them.
type Own struct{ Endpoints []Endpoint }

// Reachable tells which other peers can be reached, with the number of their run. Give it when that changes.
type Reachable struct{ Peers map[peer.Name]uint64 }

// Message is a message of another peer's Core.
type Message struct {
	From peer.Name
	Data []byte // not kept
}

func (Tick) input()      {}
func (Set) input()       {}
func (Recall) input()    {}
func (Own) input()       {}
func (Reachable) input() {}
func (Message) input()   {}

// Effects are what the driver does after a Step, in the order of the fields.
type Effects struct {
	Save    *Document // nil = unchanged
	Changes []Change  // of endpoints, ours too
	Send    []Send
}

// Change is an endpoint as it is now; without addresses it is gone.
type Change struct {
	Origin peer.Name
	Endpoint
}

// Send passes a message to the Core of another peer; the zero Name is everybody that can be reached. It may get lost.
type Send struct {
	To   peer.Name
	Data []byte
}

// Counters count messages.
type Counters struct {
	Bad   uint64 // malformed, or more than a peer may tell
	Stale uint64 // of another run
	Asked uint64 // by us
}

// Times.
const (
	digestEvery = 30 * time.Second
	askAgain    = 500 * time.Millisecond // doubled until askSlow
	askSlow     = 30 * time.Second
	linger      = 2 * time.Minute // after an origin was lost from sight
	pace        = 50 * time.Millisecond
)

// Sizes.
const (
	burst      = 32       // asks at once
	chunkBytes = 48 << 10 // of a delta's endpoints, roughly
	maxGraves  = 4096     // endpoints that have gone and are remembered
)
