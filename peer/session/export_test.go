package session

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"
)

func exported(t *testing.T, k *Keypair, label string) []byte {
	t.Helper()
	out := make([]byte, 32)
	if err := k.Export(label, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Both ends of a handshake export the same, and what they export is no key of theirs.
func TestExportAgrees(t *testing.T) {
	for _, suite := range []Suite{SuiteWireGuard, SuiteAESGCM, SuiteClear} {
		a, b := newEnds(t, suite, Config{})
		a.step(AddPeer{Key: b.m.PublicKey(), Suite: suite, Clear: true})
		b.step(AddPeer{Key: a.m.PublicKey(), Suite: suite, Clear: true})
		var before []byte
		for range 2 {
			a.step(Want{Key: b.m.PublicKey()})
			b.step(Datagram{From: a.addr, Bytes: a.takeOne()})
			a.step(Datagram{From: b.addr, Bytes: b.takeOne()})
			mine := a.keysFor(b).Current()
			theirs := b.receive[mine.RemoteIndex()]
			got, other := exported(t, mine, "one"), exported(t, theirs, "one")
			if !bytes.Equal(got, other) {
				t.Fatalf("%v: the ends export %x and %x", suite, got, other)
			}
			if bytes.Equal(got, exported(t, mine, "two")) {
				t.Errorf("%v: two labels, one secret", suite)
			}
			if bytes.Equal(got, before) {
				t.Errorf("%v: two handshakes, one secret", suite)
			}
			before = got
			a.now, b.now = a.now.Add(6*time.Second), b.now.Add(6*time.Second) // the next attempt may begin
		}
	}
}

// The exporter is a one-way function of the transport keys, in the initiator's order. Calculated with
// another implementation of HMAC-BLAKE2s (Python's).
func TestExportGolden(t *testing.T) {
	initiator, responder := newTestKeypairs(t, SuiteWireGuard)
	const want = "891f7ce4928a51a2af9abc4e01b30fd341c48b3d55681a42e19222f32b294c47"
	for _, k := range []*Keypair{initiator, responder} {
		if got := hex.EncodeToString(exported(t, k, "weave test")); got != want {
			t.Errorf("initiator %v exports %s, want %s", k.Initiator(), got, want)
		}
		for _, key := range [][]byte{k.exporter[:], append([]byte{1}, make([]byte, 31)...), append([]byte{2}, make([]byte, 31)...)} {
			if bytes.Equal(exported(t, k, "weave test"), key) {
				t.Error("exports a key")
			}
		}
	}
}

// A zeroed keypair exports nothing, and has nothing left to export.
func TestExportEndsWithTheKeypair(t *testing.T) {
	k, _ := newTestKeypairs(t, SuiteAESGCM)
	if err := k.Export("x", make([]byte, 8161)); err == nil || errors.Is(err, ErrExpired) {
		t.Errorf("more than HKDF has: %v", err)
	}
	k.Zero()
	out := []byte{1, 2, 3}
	if err := k.Export("x", out); err != ErrExpired || !bytes.Equal(out, []byte{1, 2, 3}) {
		t.Errorf("%v, wrote %v", err, out)
	}
	if k.exporter != [32]byte{} {
		t.Error("the exporter is still there")
	}
}
