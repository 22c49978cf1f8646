package gcm

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"reflect"
	"sync"
	"testing"
)

// A key is expanded for good by the first message beyond sparingMessages, whichever way that goes, and Wipe leaves nothing.
func TestSparingExpands(t *testing.T) {
	key := [32]byte{1, 2, 3}
	nonce, sealed := make([]byte, nonceLen), NewSparing(&key).Seal(nil, make([]byte, nonceLen), []byte("text"), nil)
	for name, use := range map[string]func(c cipher.AEAD){
		"seal": func(c cipher.AEAD) { c.Seal(nil, nonce, []byte("text"), nil) },
		"open": func(c cipher.AEAD) {
			if got, err := c.Open(nil, nonce, sealed, nil); err != nil || string(got) != "text" {
				t.Errorf("opened %q, %v", got, err)
			}
		},
	} {
		s := NewSparing(&key).(*sparing)
		for range sparingMessages {
			use(s)
		}
		if s.full.Load() != nil {
			t.Errorf("%s: expanded after %d messages", name, sparingMessages)
		}
		use(s)
		full := s.full.Load()
		if full == nil {
			t.Fatalf("%s: not expanded after %d messages", name, sparingMessages+1)
		}
		use(s)
		s.Wipe()
		if !reflect.ValueOf(s).Elem().IsZero() || !reflect.ValueOf(full.AEAD).Elem().IsZero() {
			t.Errorf("%s: a key is still in memory", name)
		}
	}
}

// What is lent for a message is wiped before it is kept for the next.
func TestSparingReturnsNoKey(t *testing.T) {
	c, err := New(&[32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	giveBack(c)
	if !reflect.ValueOf(c).Elem().IsZero() {
		t.Error("a key was given back")
	}
	s := NewSparing(&[32]byte{7}).(*sparing)
	borrowed, lent := s.expand()
	if !lent {
		t.Fatal("the first message expanded the key for good")
	}
	want := borrowed.Seal(nil, make([]byte, nonceLen), []byte("text"), nil)
	giveBack(borrowed)
	for range 10 { // with the memory of others' keys, or without
		NewSparing(&[32]byte{8}).Seal(nil, make([]byte, nonceLen), nil, nil)
		if got := s.Seal(nil, make([]byte, nonceLen), []byte("text"), nil); !bytes.Equal(got, want) {
			t.Fatal("the same message seals differently")
		}
	}
}

// Goroutines that seal and open at once while the key is expanded all have the same key.
func TestSparingByMany(t *testing.T) {
	key := [32]byte{9}
	oracle, err := standard(&key)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSparing(&key)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2 * sparingMessages / 8 {
				nonce := binary.BigEndian.AppendUint64([]byte{0, 0, 0, byte(g)}, uint64(i))
				sealed := s.Seal(nil, nonce, nonce, nil)
				if got, err := oracle.Open(nil, nonce, sealed, nil); err != nil || !bytes.Equal(got, nonce) {
					t.Errorf("message %d of %d: %v", i, g, err)
				}
				if got, err := s.Open(nil, nonce, sealed, nil); err != nil || !bytes.Equal(got, nonce) {
					t.Errorf("message %d of %d back: %v", i, g, err)
				}
			}
		})
	}
	wg.Wait()
}
