package ipam

import (
	"net/netip"
	"time"

	"weave/peer"
)

// ReqID names a request that a Reply answers; the driver gives it, unique for
// the life of the process.
type ReqID uint64

// Input is something that happened; Core.Step takes it. The concrete types are
// the ones below, all plain data.
type Input interface{ input() }

// Tick lets time pass; give it when Deadline is reached, or at any time.
type Tick struct{}

// Allocate asks for an address in Subnet, the lowest that is free. An ident
// that has one there gets it again. The Reply may come with a later Step.
type Allocate struct {
	ID        ReqID
	Ident     string
	Subnet    netip.Prefix
	Container bool // Ident is a container's: Died and Gone concern it
	Anonymous bool // the holder has no name but the address it gets, another each time
}

// Claim asks for one address, CIDR's. Outside the range it is only remembered.
type Claim struct {
	ID        ReqID
	Ident     string
	CIDR      netip.Prefix
	Container bool
	// Anonymous holders have no name but the address; they may claim what
	// anybody here holds.
	Anonymous bool
	// Assume grants it at once where the owner cannot be asked now, and goes on
	// asking.
	Assume bool
}

// Lookup lists what an ident has, in Subnet if that is valid. It never waits.
type Lookup struct {
	ID     ReqID
	Ident  string
	Subnet netip.Prefix
}

// List lists everything that is held here. It never waits.
type List struct{ ID ReqID }

// Free gives an address back, or with an invalid Addr all that the ident has.
type Free struct {
	ID    ReqID
	Ident string
	Addr  netip.Addr
}

// Prime waits until there is a ring, and has it made if need be.
type Prime struct{ ID ReqID }

// Cancel ends a request that waits; its Reply says ErrCancelled.
type Cancel struct{ ID ReqID }

// Died tells that a container ended: its addresses are kept for a while, in
// case it starts again. Gone tells that it was removed: they are free.
type (
	Died struct{ Ident string }
	Gone struct{ Ident string }
)

// Remove takes over the space of peers that are dead, names or nicknames. The
// Reply has one Count for each.
type Remove struct {
	ID    ReqID
	Peers []string
}

// HandOver gives all our space to another peer, before a reset.
type HandOver struct{ ID ReqID }

// Repair settles disagreements about the ring; Reply.Text says what was done.
type Repair struct{ ID ReqID }

// Reachable tells which other peers can be reached, and of how many peers the
// first ring needs a majority, ourselves included. Give it when that changes.
type Reachable struct {
	Peers    map[peer.Name]string // with their nicknames
	Electors int
}

// Message is a message of another peer's Core.
type Message struct {
	From peer.Name
	Data []byte
}

func (Tick) input()      {}
func (Allocate) input()  {}
func (Claim) input()     {}
func (Lookup) input()    {}
func (List) input()      {}
func (Free) input()      {}
func (Prime) input()     {}
func (Cancel) input()    {}
func (Died) input()      {}
func (Gone) input()      {}
func (Remove) input()    {}
func (HandOver) input()  {}
func (Repair) input()    {}
func (Reachable) input() {}
func (Message) input()   {}

// Effects are what the driver does after a Step, in the order of the fields:
// durable before visible. The Core does not touch them again. The effects of
// several Steps may be joined, each field after the other.
type Effects struct {
	Save    []Save
	Publish *View // nil = unchanged
	Send    []Send
	Replies []Reply
	Events  []Event
}

// Save asks to keep Value under Key; a nil Value deletes the key. See
// Saved.Restore.
type Save struct {
	Key   string
	Value []byte
}

// Send passes a message to the Core of another peer; the zero Name is
// everybody that can be reached. It may get lost.
type Send struct {
	To   peer.Name
	Data []byte
}

// Fault says what is wrong with a request; "" is nothing.
type Fault string

// Faults that callers tell apart; all others are texts for users.
const ErrCancelled Fault = "cancelled"

// Reply answers a request.
type Reply struct {
	ID       ReqID
	Fault    Fault
	CIDRs    []netip.Prefix // Allocate, Claim, Lookup
	Holdings []Holding      // List
	Counts   []uint64       // Remove
	Text     string         // Repair, HandOver: the heir
}

// Level is the weight of an Event.
type Level uint8

// Levels of events.
const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
)

// Event is something worth a line in the log.
type Event struct {
	Level Level
	Text  string
	Attrs []Attr
}

// Attr is one key and value of an Event.
type Attr struct{ Key, Value string }

// Times; those of Weave Net where it has one.
const (
	retryEvery   = 5 * time.Second  // ask again for space, after everybody refused
	askTimeout   = 2 * time.Second  // for one answer
	claimTries   = 5                // at an owner that cannot be reached
	holdTime     = 30 * time.Second // addresses of a container that died
	digestEvery  = 30 * time.Second
	ballotTime   = time.Second // for one round of a decree, at least; up to twice that
	removeTime   = 30 * time.Second
	refusalTime  = 5 * time.Second // in which others may still believe that they reach a peer that is gone
	handoverTime = 3 * time.Second
)
