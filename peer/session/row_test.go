package session

import (
	"errors"
	"testing"
)

// The messages of a row are those that Seal would make, in turn with it, and open at the other end.
func TestRowSealsAsSealDoes(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		k, other := newTestKeypairs(t, suite)
		twin, _ := newTestKeypairs(t, suite)
		row, err := k.Row(3)
		if err != nil || !row.Begun() {
			t.Fatal(err)
		}
		between, err := k.Seal(nil, []byte("between"))
		if err != nil {
			t.Fatal(err)
		}
		var messages [][]byte
		for _, text := range []string{"first", "second"} { // the third number is never used
			messages = append(messages, row.Seal(nil, []byte(text)))
		}
		row.End()
		if row.Begun() {
			t.Error("the row goes on")
		}
		messages = append(messages, between)
		for i, text := range []string{"first", "second", "", "between"} {
			want, err := twin.Seal(nil, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if text == "" {
				continue
			}
			got := messages[min(i, 2)]
			if string(got) != string(want) {
				t.Errorf("%q: got %x, want %x", text, got, want)
			}
			if plain, err := other.Open(got); err != nil || string(plain) != text {
				t.Errorf("%q: %q, %v", text, plain, err)
			}
		}
	})
}

// A row that may not be leaves nobody in the key, and nothing told; one that asks for more than there are takes the rest with it.
func TestRowRefusals(t *testing.T) {
	k, responder := newTestKeypairs(t, SuiteAESGCM)
	if _, err := responder.Row(1); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("unconfirmed: %v", err)
	}
	limit := k.limits.reject(SuiteAESGCM)
	k.counter.Store(limit - 2)
	if _, err := k.Row(3); !errors.Is(err, ErrExhausted) {
		t.Errorf("more than there are: %v", err)
	}
	if _, err := k.Row(1); !errors.Is(err, ErrExhausted) {
		t.Errorf("the rest: %v", err)
	}
	k.counter.Store(limit - 2)
	row, err := k.Row(2)
	if err != nil {
		t.Fatalf("the last two: %v", err)
	}
	row.End()
	if at := k.keys.lastSent.Load(); at != 0 {
		t.Errorf("sent at %d, but nothing was", at)
	}
	if _, err := k.Row(1); !errors.Is(err, ErrExhausted) {
		t.Errorf("after the last: %v", err)
	}
	if n := k.sealing.users.Load(); n != 0 {
		t.Errorf("%d users are inside", n)
	}
	k.Zero()
	if _, err := k.Row(1); !errors.Is(err, ErrExpired) {
		t.Errorf("zeroed: %v", err)
	}
}

// A key that is zeroed under a row is wiped when the row ends, and the row's messages are good.
func TestRowHoldsKey(t *testing.T) {
	k, other := newTestKeypairs(t, SuiteAESGCM)
	row, err := k.Row(2)
	if err != nil {
		t.Fatal(err)
	}
	k.Zero()
	if plain, err := other.Open(row.Seal(nil, []byte("late"))); err != nil || string(plain) != "late" {
		t.Errorf("%q, %v", plain, err)
	}
	if zeroed(k.send) {
		t.Error("wiped under the row")
	}
	if k.keys.awaiting.Load() != 0 {
		t.Error("a row has told of messages before its end")
	}
	row.End()
	if !zeroed(k.send) {
		t.Error("not wiped")
	}
	if k.keys.awaiting.Load() == 0 {
		t.Error("nothing is known of the message")
	}
}

func TestRowOver(t *testing.T) {
	k, _ := newTestKeypairs(t, SuiteAESGCM)
	row, err := k.Row(1)
	if err != nil {
		t.Fatal(err)
	}
	defer row.End()
	row.Seal(nil, nil)
	defer func() {
		if recover() == nil {
			t.Error("a number was used twice")
		}
	}()
	row.Seal(nil, nil)
}
