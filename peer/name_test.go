package peer

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"testing"
)

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"::1": "00:00:00:00:00:01", "8a:3e:3e:3e:3e:3e": "8a:3e:3e:3e:3e:3e", "8A::1:2": "8a:00:00:00:01:02",
		"2::": "02:00:00:00:00:00", "0:0:0:0:0:a": "00:00:00:00:00:0a",
	} {
		if n, err := ParseName(in); err != nil || n.String() != want {
			t.Errorf("ParseName(%q) = %s, %v; want %s", in, n, err, want)
		}
	}
	for _, in := range []string{
		"", "::", "1", "1:2:3:4:5:6", "2:2:3:4:5:6:7", "2:2:3::4:5:6", "g::1", "2:::1", "2::3::4", ":2:3:4:5:6", "host1",
		"02:00:00:00:00:001", "00:00:00:00:00:00",
	} {
		if n, err := ParseName(in); err == nil {
			t.Errorf("ParseName(%q) = %s, want an error", in, n)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("::1")
	f.Add("8a:3e:3e:3e:3e:3e")
	f.Fuzz(func(t *testing.T, in string) {
		n, err := ParseName(in)
		if err != nil {
			return
		}
		again, err := ParseName(n.String())
		if err != nil || again != n {
			t.Fatalf("%q -> %s -> %s, %v", in, n, again, err)
		}
	})
}

func testIdentity(b byte) Identity {
	var seed [32]byte
	seed[0] = b
	return IdentityFromSeed(seed)
}

func TestX25519KeysBelongTogether(t *testing.T) {
	for b := range byte(20) {
		id := testIdentity(b)
		secret := id.X25519Private()
		private, err := ecdh.X25519().NewPrivateKey(secret[:])
		if err != nil {
			t.Fatal(err)
		}
		public, err := id.PublicKey().X25519()
		if err != nil || !bytes.Equal(private.PublicKey().Bytes(), public[:]) || public != id.X25519Public() {
			t.Fatalf("key %d: %x, %x, %v", b, private.PublicKey().Bytes(), public, err)
		}
	}
}

func TestSmallOrderKeysAreRefused(t *testing.T) {
	for _, s := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", // the neutral element
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // of order 2
		"0000000000000000000000000000000000000000000000000000000000000000", // of order 4
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0f", // most likely not on the curve
	} {
		b, _ := hex.DecodeString(s)
		if _, err := PublicKey(b).X25519(); err != nil && !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v", s, err)
		} else if err == nil && s[:2] != "ff" {
			t.Errorf("%s is accepted", s)
		}
	}
}

func TestDerivedNamesArePinnedDown(t *testing.T) {
	id := testIdentity(1)
	n := NameFromKey(id.PublicKey())
	if n[0]&3 != 2 {
		t.Errorf("%s is not a locally administered unicast address", n)
	}
	if got, want := n.String(), "72:e3:46:94:ca:4d"; got != want {
		t.Errorf("name %s, want %s: it must not change between versions", got, want)
	}
}

func TestPSK(t *testing.T) {
	if PSK("") != [32]byte{} {
		t.Error("no password must give the zero key")
	}
	got := PSK("wfvAwt7sj")
	if h := hex.EncodeToString(got[:]); h != "2757147f3ee5f3b1688ff9bf6fa49009666856f8b8be1be38e01df6d3cb6093c" {
		t.Errorf("psk %s: it must not change between versions", h)
	}
}

func BenchmarkPSK(b *testing.B) {
	for b.Loop() {
		PSK("password")
	}
}
