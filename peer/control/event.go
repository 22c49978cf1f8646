package control

import (
	"net/netip"
	"strings"

	"weave/peer/wire"
)

// An Event is one of Up, Message, Down, DialFailed and Refused. For each
// connection there is one Up, then its Messages, then one Down.
type Event interface{ isEvent() }

// Up is a connection whose handshake is complete.
type Up struct {
	Conn *Conn
}

// Message is a message of the other end. Goodbye is among them (Down follows),
// and kinds this program does not know (Kind is nil); Heartbeat is not.
type Message struct {
	Conn    *Conn
	Message *wire.Control // the receiver's to keep
}

// Data is a message of a data session that came inside a connection. It is not
// an Event: Config.Data takes it.
type Data struct {
	Conn    *Conn
	Message []byte // the receiver's to keep
}

// Down is the end of a connection. Err is never nil: a *ClosedError after our
// own Close, a *GoodbyeError after the other's, else what broke.
type Down struct {
	Conn *Conn
	Err  error
}

// DialFailed says that a Dial came to nothing. Err's text is for users.
type DialFailed struct {
	Target string // as given to Dial
	Err    error
}

// Refused is an incoming connection of a weave peer whose handshake failed. What
// does not even speak the protocol is only counted.
type Refused struct {
	Remote netip.AddrPort
	Err    error
}

func (Up) isEvent()         {}
func (Message) isEvent()    {}
func (Down) isEvent()       {}
func (DialFailed) isEvent() {}
func (Refused) isEvent()    {}

// A ClosedError is the end of a connection that we closed.
type ClosedError struct {
	Reason string // as given to Close
}

func (e *ClosedError) Error() string { return e.Reason }

// A GoodbyeError is the end of a connection that the other end closed.
type GoodbyeError struct {
	Reason string // the other end's text, made printable
}

func (e *GoodbyeError) Error() string {
	if e.Reason == "" {
		return "peer closed the connection"
	}
	return "peer closed the connection: " + e.Reason
}

// DialError collects what the addresses of one target answered.
type DialError struct {
	Errs []error // one per address tried, in order
}

// Error names each different reason once, on one line.
func (e *DialError) Error() string {
	var texts []string
	seen := make(map[string]bool)
	for _, err := range e.Errs {
		if t := err.Error(); !seen[t] {
			seen[t] = true
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives the single errors.
func (e *DialError) Unwrap() []error { return e.Errs }

// printable makes a text of the other end fit for a line of ours.
func printable(s string) string {
	const limit = 256
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
