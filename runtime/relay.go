package runtime

import (
	"context"
	"errors"
	"io"
)

// maxBacklog is how many events may wait for a slow receiver. Each takes about a hundred bytes.
const maxBacklog = 1 << 16

var (
	errSlow  = errors.New("too many events wait for their receiver")
	errEnded = errors.New("the engine ended the stream of events")
)

// Stream is what an engine sends: messages of its own kind, and then why there are no more. Ended gets one error, after
// the last message has been received, or is closed.
type Stream[T any] struct {
	Version  string // of the engine
	Messages <-chan T
	Ended    <-chan error
}

// Relay is what every engine's Watch does once the engine has accepted to send events: it hands out Watching and then
// what event makes of the messages, until ctx ends, or the stream has ended and all that came has been taken.
//
// Engines drop what is not read soon, so Relay always reads; what the receiver has not taken yet waits here. It fails
// when that becomes too much: a receiver so far behind had better list anew.
func Relay[T any](ctx context.Context, s Stream[T], event func(T) (Event, bool), out chan<- Event) error {
	waiting := []Event{{Change: Watching, ID: s.Version}}
	messages, ended := s.Messages, s.Ended
	var end error
	for end == nil || len(waiting) > 0 {
		var ready chan<- Event
		var next Event
		if len(waiting) > 0 {
			ready, next = out, waiting[0]
		}
		select {
		case ready <- next:
			waiting = waiting[1:]
		case m := <-messages:
			if e, matters := event(m); matters {
				waiting = append(waiting, e)
			}
			if len(waiting) > maxBacklog {
				return errSlow
			}
		case end = <-ended:
			messages, ended = nil, nil
			if end == nil || errors.Is(end, io.EOF) {
				end = errEnded
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return end
}
