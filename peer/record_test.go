package peer

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

func goldenRecord() Record {
	return Record{
		Name: Name{2, 0, 0, 0, 0, 1}, Nickname: "host1", Key: testIdentity(1).PublicKey(), UID: 7, Version: 42,
		Addresses: []string{"192.0.2.1:6783", "[2001:db8::1]:6783"},
		Links: MakeLinks(Link{
			Peer: Name{2, 0, 0, 0, 0, 2}, Outbound: true, Established: true,
			RTT: 1500 * time.Microsecond, Address: "192.0.2.2:6783",
		}),
		Capabilities: CapAES, Port: 6783,
	}
}

const (
	goldenBytes = "0a060200000000011205686f7374311a20cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4" +
		"fc210700000000000000282a320e3139322e302e322e313a3637383332125b323030313a6462383a3a315d3a36373833" +
		"3a1f0a060200000000021001180120dc0b2a0e3139322e302e322e323a36373833400148ff34"
	goldenSignature = "e9fc4988545dee8352461560f98181e15645e5c2a0e87fac123ff75b6da17d680e01a8f59df5190b2d02eb1adf6f1828" +
		"edbc3894f48d5d5e9070c942aa9fbd0f"
)

func TestGoldenRecord(t *testing.T) {
	s := testIdentity(1).SignRecord(goldenRecord())
	if got := hex.EncodeToString(s.Wire().Record); got != goldenBytes {
		t.Errorf("record bytes changed:\n%s", got)
	}
	if got := hex.EncodeToString(s.Wire().Signature); got != goldenSignature {
		t.Errorf("signature changed:\n%s", got)
	}
	raw, _ := hex.DecodeString(goldenBytes)
	sig, _ := hex.DecodeString(goldenSignature)
	opened, err := OpenRecord(&wire.SignedRecord{Record: raw, Signature: sig})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goldenRecord(), opened.Record); diff != "" {
		t.Error(diff)
	}
}

func TestOpenRecordRefuses(t *testing.T) {
	id := testIdentity(1)
	change := func(f func(*Record)) *wire.SignedRecord {
		r := goldenRecord()
		f(&r)
		return id.SignRecord(r).Wire()
	}
	flip := id.SignRecord(goldenRecord()).Wire()
	flip.Record = append([]byte(nil), flip.Record...)
	flip.Record[len(flip.Record)-1] ^= 1
	for what, tc := range map[string]struct {
		in   *wire.SignedRecord
		want error
	}{
		"nil":             {nil, ErrBadRecord},
		"empty":           {&wire.SignedRecord{}, ErrBadRecord},
		"garbage":         {&wire.SignedRecord{Record: []byte{0xff}, Signature: make([]byte, 64)}, ErrBadRecord},
		"changed":         {flip, ErrBadSignature},
		"another's key":   {change(func(r *Record) { r.Key = testIdentity(2).PublicKey() }), ErrBadSignature},
		"key of order 1":  {change(func(r *Record) { r.Key = PublicKey{1} }), ErrBadKey},
		"zero name":       {change(func(r *Record) { r.Name = Name{} }), ErrBadRecord},
		"zero link":       {change(func(r *Record) { r.Links = MakeLinks(Link{}) }), ErrBadRecord},
		"long nickname":   {change(func(r *Record) { r.Nickname = strings.Repeat("x", 254) }), ErrBadRecord},
		"many addresses":  {change(func(r *Record) { r.Addresses = make([]string, 65) }), ErrBadRecord},
		"long address":    {change(func(r *Record) { r.Addresses = []string{strings.Repeat("x", 300)} }), ErrBadRecord},
		"short signature": {&wire.SignedRecord{Record: flip.Record, Signature: make([]byte, 63)}, ErrBadRecord},
	} {
		if _, err := OpenRecord(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
	}
}

// A record says the key of the peer's WireGuard, or that it has none; what is no such key is as none, and the peer is one all
// the same.
func TestTunnelKeyOfRecord(t *testing.T) {
	id := testIdentity(1)
	for _, n := range []int{0, 1, 31, 32, 33, 500} {
		r := goldenRecord()
		m := r.wire()
		m.TunnelKey = []byte(strings.Repeat("k", n))
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenRecord(&wire.SignedRecord{Record: raw, Signature: id.Sign(append([]byte(recordPrefix), raw...))})
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		want := TunnelKey{}
		if n == len(want) {
			want = TunnelKey([]byte(strings.Repeat("k", n)))
		}
		if s.Record.TunnelKey != want || s.Record.TunnelKey.IsZero() != (n != len(want)) {
			t.Errorf("%d bytes: %x", n, s.Record.TunnelKey)
		}
		told := id.SignRecord(s.Record)
		again, err := OpenRecord(told.Wire())
		if err != nil || again.Record.TunnelKey != want {
			t.Errorf("told on: %x, %v", again.Record.TunnelKey, err)
		}
	}
}

func TestRelayKeepsUnknownFields(t *testing.T) {
	id := testIdentity(1)
	raw := append(id.SignRecord(goldenRecord()).Wire().Record, 0xf8, 0x07, 0x01) // field 127, varint 1
	in := &wire.SignedRecord{Record: raw, Signature: id.Sign(append([]byte(recordPrefix), raw...))}
	s, err := OpenRecord(in)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(s.Wire(), in) {
		t.Error("the bytes passed on are not those received")
	}
}

func FuzzOpenRecord(f *testing.F) {
	s := testIdentity(1).SignRecord(goldenRecord()).Wire()
	f.Add(s.Record, s.Signature)
	f.Fuzz(func(t *testing.T, record, signature []byte) {
		s, err := OpenRecord(&wire.SignedRecord{Record: record, Signature: signature})
		if err == nil && s.Compare(s) != 0 {
			t.Fatal("a record is not equal to itself")
		}
	})
}
