package runtime_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"weave/runtime"
)

// relay runs Relay over messages that are container ids, or "" for one that does not matter.
func relay(ctx context.Context, messages <-chan string, ended <-chan error, out chan<- runtime.Event) <-chan error {
	s := runtime.Stream[string]{Version: "v", Messages: messages, Ended: ended}
	done := make(chan error, 1)
	go func() {
		done <- runtime.Relay(ctx, s, func(id string) (runtime.Event, bool) {
			return runtime.Event{Change: runtime.Started, ID: id}, id != ""
		}, out)
	}()
	return done
}

func TestRelayKeepsAllForASlowReceiver(t *testing.T) {
	messages, ended, out := make(chan string), make(chan error, 1), make(chan runtime.Event)
	done := relay(t.Context(), messages, ended, out)
	sent := []string{"a", "", "b", "c"}
	for _, id := range sent { // none is taken meanwhile
		messages <- id
	}
	ended <- errors.New("gone")
	var got []string
	for range 4 {
		got = append(got, (<-out).ID)
	}
	if want := []string{"v", "a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := <-done; err == nil || err.Error() != "gone" {
		t.Errorf("relay returned %v, want the stream's reason", err)
	}
}

func TestRelayEnds(t *testing.T) {
	for name, end := range map[string]func(chan error){
		"end of file": func(ended chan error) { ended <- io.EOF },
		"closed":      func(ended chan error) { close(ended) },
	} {
		ended, out := make(chan error, 1), make(chan runtime.Event, 1)
		end(ended)
		if err := <-relay(t.Context(), nil, ended, out); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: relay returned %v, want a reason that a user understands", name, err)
		}
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := <-relay(ctx, nil, nil, nil); !errors.Is(err, why) {
		t.Errorf("relay returned %v, want the context's cause", err)
	}
}

func TestRelayGivesUpOnAReceiverThatTakesNothing(t *testing.T) {
	messages := make(chan string)
	done := relay(t.Context(), messages, nil, nil)
	for {
		select {
		case messages <- "a":
		case err := <-done:
			if err == nil {
				t.Error("relay returned no error")
			}
			return
		}
	}
}
