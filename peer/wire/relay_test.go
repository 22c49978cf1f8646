package wire

import (
	"bytes"
	"testing"
)

func TestRelayGolden(t *testing.T) {
	r := Relay{Hops: 7, Dst: [6]byte{2, 0, 0, 0, 0, 1}, Src: [6]byte{2, 0, 0, 0, 0, 9}}
	b := make([]byte, RelayLen, RelayLen+2)
	r.Put(b)
	b = append(b, 0xaa, 0xbb)
	want := []byte{5, 7, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0xaa, 0xbb}
	if !bytes.Equal(b, want) {
		t.Fatalf("% x, want % x", b, want)
	}
	got, msg, ok := ParseRelay(b)
	if !ok || got != r || !bytes.Equal(msg, want[14:]) {
		t.Errorf("%+v, % x, %v", got, msg, ok)
	}
}

func TestFloodGolden(t *testing.T) {
	f := Flood{Hops: 3, Source: [6]byte{2, 0, 0, 0, 0, 1}, Seq: 0x01020304}
	b := make([]byte, FloodLen, FloodLen+1)
	f.Put(b)
	b = append(b, byte(KindFrame))
	want := []byte{6, 3, 2, 0, 0, 0, 0, 1, 1, 2, 3, 4, 1}
	if !bytes.Equal(b, want) {
		t.Fatalf("% x, want % x", b, want)
	}
	got, records, ok := ParseFlood(b)
	if !ok || got != f || !bytes.Equal(records, want[12:]) {
		t.Errorf("%+v, % x, %v", got, records, ok)
	}
	for _, kind := range []Kind{KindEnd, KindSegment, KindFragment, KindHeartbeat, KindRelay, KindFlood} {
		b[FloodLen] = byte(kind)
		if _, _, ok := ParseFlood(b); ok {
			t.Errorf("a flood of kind %d was taken", kind)
		}
	}
}

func FuzzRelayAndFlood(f *testing.F) {
	f.Add([]byte{5, 1, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 4, 0, 0, 0})
	f.Add([]byte{6, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, msg, ok := ParseRelay(b); ok {
			again := make([]byte, RelayLen)
			r.Put(again)
			if !bytes.Equal(append(again, msg...), b) {
				t.Error("a relay is not what it was parsed from")
			}
		}
		if fl, records, ok := ParseFlood(b); ok {
			again := make([]byte, FloodLen)
			fl.Put(again)
			if !bytes.Equal(append(again, records...), b) {
				t.Error("a flood is not what it was parsed from")
			}
		}
	})
}
