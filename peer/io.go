package peer

import (
	"net/netip"
	"time"

	"weave/peer/wire"
)

// ConnID names a control connection; the driver gives it, unique for the life
// of the process.
type ConnID uint64

// Input is something that happened; Mesh.Step takes it. The concrete types are
// the ones below, all plain data. The Mesh keeps messages it is given and
// never writes to them.
type Input interface{ input() }

// Tick lets time pass; give it when Deadline is reached, or at any time.
type Tick struct{}

// Connect adds targets the operator gave, or resets the back-off of those
// already known. With Replace the list becomes exactly Targets. The driver
// checks texts with ParseTarget first; malformed ones are ignored with an
// event.
type Connect struct {
	Targets []string
	Replace bool
}

// Forget removes targets by the text they were given with. Connections stay.
type Forget struct{ Targets []string }

// Unpin forgets which key belongs to a name, for a host that was reinstalled
// under its old name.
type Unpin struct{ Names []Name }

// Leave says goodbye on every connection and closes it. Nothing is dialled
// afterwards.
type Leave struct{ Reason string }

// DialFailed reports that a Dial effect gave no connection: resolution, TCP or
// the Noise handshake failed. Address is the Dial's, Reason is shown to users.
type DialFailed struct {
	Address string
	Reason  string
}

// ConnUp reports a control connection whose Noise handshake is done.
type ConnUp struct {
	Conn    ConnID
	Dialled string // the Dial's Address; "" when the other end dialled
	Remote  netip.AddrPort
	Static  [32]byte // the other end's X25519 key, proven by Noise
}

// ConnDown reports the end of a connection, whoever ended it. It is not an
// error to report the end of one the Mesh closed.
type ConnDown struct {
	Conn   ConnID
	Reason string
}

// Received is a message that came over a connection.
type Received struct {
	Conn    ConnID
	Message *wire.Control
}

// PathChanged tells the state of the data session with a peer. Give it when the
// state changes and again with each answered heartbeat (it is idempotent), and
// anew after a peer appeared in View.Neighbours with another UID: a restarted
// peer counts as not established until then.
type PathChanged struct {
	Peer    Name
	Up      bool
	RTT     time.Duration  // 0 = not measured
	Overlay string         // "sleeve", "fastdp": shown to users
	MTU     int            // of the overlay, bytes; 0 = not known
	Address netip.AddrPort // where the peer is reached; zero = at no address
	Stream  bool           // inside the control connection
	Clear   bool           // not encrypted
}

// LocalAddresses replaces the candidate addresses ("ip:port") of our record.
type LocalAddresses struct{ Addresses []string }

// Secrets replaces the IDs of the passwords that our record tells of, sorted.
type Secrets struct{ IDs []SecretID }

// MTU replaces the largest packet of which our record says that our containers
// take it, bytes.
type MTU struct{ MTU uint16 }

func (Tick) input()           {}
func (Connect) input()        {}
func (Forget) input()         {}
func (Unpin) input()          {}
func (Leave) input()          {}
func (DialFailed) input()     {}
func (ConnUp) input()         {}
func (ConnDown) input()       {}
func (Received) input()       {}
func (PathChanged) input()    {}
func (LocalAddresses) input() {}
func (Secrets) input()        {}
func (MTU) input()            {}

// Effects are what the driver does after a Step, in the order of the fields:
// durable before visible. All of it is plain data that the Mesh does not touch
// again; messages are shared between connections and must not be changed.
type Effects struct {
	Save    []Save
	Publish *View // nil = unchanged
	Send    []Send
	Dial    []Dial
	Close   []Close
	Heard   []Heard
	Events  []Event
}

// Save asks to keep Value under Key; a nil Value deletes the key. See Restore.
type Save struct {
	Key   string
	Value []byte
}

// Send queues a message on a connection. Sends on one connection keep their
// order.
type Send struct {
	Conn    ConnID
	Message *wire.Control
}

// Dial asks for a connection to Address, "host:port"; a host name is resolved
// anew each time. Exactly one ConnUp or DialFailed answers it.
type Dial struct{ Address string }

// Close ends a connection after what was sent on it is flushed.
type Close struct {
	Conn   ConnID
	Reason string
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

// Counters count what never cuts anybody but should be seen. They only grow.
type Counters struct {
	BadMessages   uint64 // no kind we know, or in the wrong place
	BadRecords    uint64 // malformed
	BadSignatures uint64
	BadKeys       uint64
	KeyConflicts  uint64 // a name shown with another key than its pin
	TooMany       uint64 // records beyond the limit of peers
	Refused       uint64 // connections closed for what their Hello said
	Terminations  uint64 // connections that were joined and ended
	UnknownKinds  uint64 // messages of a newer protocol
	Throttled     uint64 // messages and records of peers that send too much
	Asked         uint64 // records asked for, after a comparison or an announcement
	LinksUntold   uint64 // links that had no room in our record, per version
	Verified      uint64 // signatures looked at
	RecordsNew    uint64
	RecordsKnown  uint64 // received but already held or older
	LettersStale  uint64 // of peers, or runs of them, that are not known (any more)
	LettersLost   uint64 // to peers that no connection leads to
}
