package session

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

// Data goes in clear only if both ends asked for it.
func TestClearTakesBothEnds(t *testing.T) {
	for _, agreed := range []bool{true, false} {
		a, b := newEnd(t, 1, addrA, Config{}), newEnd(t, 101, addrB, Config{})
		a.step(AddPeer{Key: b.m.PublicKey(), Suite: SuiteClear, Clear: true})
		b.step(AddPeer{Key: a.m.PublicKey(), Suite: SuiteAESGCM, Clear: agreed})
		a.step(Want{Key: b.m.PublicKey()})
		b.step(Datagram{From: netip.AddrPort{}, Bytes: a.takeOne()})
		if !agreed {
			if len(b.receive) != 0 || !slices.Contains(b.dropped, DropSuite) {
				t.Errorf("a session in clear with a peer that must be encrypted: %v", b.dropped)
			}
			continue
		}
		a.step(Datagram{Bytes: b.takeOne()})
		k := a.m.Keys(b.m.PublicKey()).Sending()
		if k == nil || k.Suite() != SuiteClear {
			t.Fatalf("keypair %+v", k)
		}
		text := []byte("everybody may read this")
		msg, err := k.Seal(nil, text)
		if err != nil || !bytes.Contains(msg, text) || len(msg) != Overhead+len(text) {
			t.Fatalf("% x, %v", msg, err)
		}
		in := b.receive[k.RemoteIndex()]
		if got, err := in.Open(bytes.Clone(msg)); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := in.Open(msg); err != ErrReplayed {
			t.Errorf("a message came twice: %v", err)
		}
	}
}
