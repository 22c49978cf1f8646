package control

import (
	"errors"
	"fmt"
	"io"
)

// Protocol versions this program speaks.
const (
	ProtocolMin = 1
	ProtocolMax = 1
)

// The preface is what each end says first, in clear text:
//
//	 0                8     9     10      11            16
//	+----------------+-----+-----+-------+-------------+
//	| "weave\0ct"    | min | max | flags | reserved    |
//	+----------------+-----+-----+-------+-------------+
//
// min and max bound the protocol versions the sender speaks, 1 ≤ min ≤ max.
// flags: bit 0 is set if the sender has a password; the others, and the
// reserved bytes, are zero and ignored. The dialling end speaks first, so that a
// port scan learns nothing. All sixteen bytes of both prefaces are part of the
// Noise prologue: who alters them on the way makes the handshake fail.
const (
	prefaceLen   = 16
	magic        = "weave\x00ct"
	flagPassword = 1 << 0
)

type preface struct {
	min, max uint8
	password bool
}

// ErrPassword says that both ends have a password, and not the same.
var ErrPassword = errors.New("password mismatch: this peer and the other were given different passwords")

// Texts that users of Weave Net know, spelling included.
var (
	ErrPeerHasNoPassword = errors.New("password specified, but peer requested an unencrypted connection")
	ErrPeerHasPassword   = errors.New("no password specificed, but peer requested an encrypted connection")
)

// A ForeignError says that the other end speaks something else.
type ForeignError struct {
	Got []byte // what it said first; empty: nothing
}

func (e *ForeignError) Error() string {
	switch {
	case len(e.Got) == 0:
		return "peer closed the connection without a word: is this a weave port?"
	case len(e.Got) > 5 && string(e.Got[:5]) == magic[:5]:
		return "peer speaks the protocol of Weave Net, which this program cannot join"
	}
	return fmt.Sprintf("not a weave port: it said %q", e.Got)
}

func (p preface) append(b []byte) []byte {
	var flags byte
	if p.password {
		flags |= flagPassword
	}
	b = append(b, magic...)
	return append(b, p.min, p.max, flags, 0, 0, 0, 0, 0)
}

// parsePreface reads the sixteen bytes of b.
func parsePreface(b []byte) (preface, error) {
	if len(b) != prefaceLen {
		return preface{}, fmt.Errorf("preface of %d bytes", len(b))
	}
	if !couldBeMagic(b) {
		return preface{}, &ForeignError{Got: b}
	}
	p := preface{min: b[8], max: b[9], password: b[10]&flagPassword != 0}
	if p.min == 0 || p.min > p.max {
		return preface{}, fmt.Errorf("preface with impossible versions %d..%d", p.min, p.max)
	}
	return p, nil
}

// couldBeMagic says whether b begins as a preface does, as far as it goes.
func couldBeMagic(b []byte) bool {
	n := min(len(b), len(magic))
	return string(b[:n]) == magic[:n]
}

// readPreface reads one preface, and gives up at the first byte that cannot
// belong to one: a server with a greeting of its own is told apart at once.
func readPreface(r io.Reader) ([]byte, error) {
	b := make([]byte, 0, prefaceLen)
	for len(b) < prefaceLen {
		n, err := r.Read(b[len(b):prefaceLen])
		b = b[:len(b)+n]
		if !couldBeMagic(b) {
			return nil, &ForeignError{Got: b}
		}
		switch {
		case errors.Is(err, io.EOF) && len(b) < prefaceLen:
			return nil, &ForeignError{Got: b}
		case err != nil && len(b) < prefaceLen:
			return nil, err
		}
	}
	return b, nil
}

// agree compares two prefaces and returns the highest common version.
func agree(ours, theirs preface) (uint8, error) {
	version := min(ours.max, theirs.max)
	switch {
	case version < ours.min || version < theirs.min:
		return 0, fmt.Errorf("no common protocol version: this peer speaks %d..%d, the other %d..%d",
			ours.min, ours.max, theirs.min, theirs.max)
	case ours.password && !theirs.password:
		return 0, ErrPeerHasNoPassword
	case !ours.password && theirs.password:
		return 0, ErrPeerHasPassword
	}
	return version, nil
}
