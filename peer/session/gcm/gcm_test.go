package gcm

import (
	"bytes"
	"crypto/cipher"
	"fmt"
	mathrand "math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// each runs test with every implementation that this processor can run, and the
// standard library's as their oracle.
func each(t *testing.T, test func(t *testing.T, both maker)) {
	t.Logf("New uses vectors of %d bits", Width())
	all := ways()
	all["sparing"] = NewSparing
	all["sparing, expanded"] = func(key *[32]byte) cipher.AEAD {
		s := NewSparing(key)
		for range sparingMessages + 1 {
			s.Seal(nil, make([]byte, nonceLen), nil, nil)
		}
		return s
	}
	for name, way := range all {
		t.Run(name, func(t *testing.T) {
			test(t, func(key [32]byte) (ours, oracle cipher.AEAD) {
				oracle, err := standard(&key)
				if err != nil {
					t.Fatal(err)
				}
				return way(&key), oracle
			})
		})
	}
}

// maker makes an implementation and its oracle.
type maker = func(key [32]byte) (ours, oracle cipher.AEAD)

func random(rng *mathrand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Every length up to several stretches of the widest vectors, and some long
// ones, in place and apart, seals to what the standard library makes and opens
// again.
func TestEqualsStandardLibrary(t *testing.T) {
	each(t, func(t *testing.T, both maker) {
		rng := mathrand.New(mathrand.NewPCG(7, 9))
		lengths := []int{1 << 14, 1<<16 - 1, 1 << 16, 300_000}
		for n := range 1700 {
			lengths = append(lengths, n)
		}
		for _, n := range lengths {
			ours, oracle := both([32]byte(random(rng, 32)))
			equalsOracle(t, ours, oracle, rng, n)
		}
	})
}

func equalsOracle(t *testing.T, ours, oracle cipher.AEAD, rng *mathrand.Rand, n int) {
	t.Helper()
	nonce, plain, tag := random(rng, 12), random(rng, n), oracle.Overhead()
	prefix := random(rng, rng.IntN(40))
	want := oracle.Seal(bytes.Clone(prefix), nonce, plain, nil)
	if got := ours.Seal(bytes.Clone(prefix), nonce, plain, nil); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes seal differently", n)
	}
	sealed := want[len(prefix):]
	place := append(make([]byte, 0, n+2*tag), plain...)
	behind := place[n+tag : n+2*tag]
	if got := ours.Seal(place[:0], nonce, place, nil); !bytes.Equal(got, sealed) {
		t.Fatalf("%d bytes seal differently in place", n)
	}
	got, err := ours.Open(bytes.Clone(prefix), nonce, sealed, nil)
	if err != nil || !bytes.Equal(got[len(prefix):], plain) || !bytes.Equal(got[:len(prefix)], prefix) {
		t.Fatalf("%d bytes open differently: %v", n, err)
	}
	copy(place[:n+tag], sealed)
	if got, err = ours.Open(place[:0], nonce, place[:n+tag], nil); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%d bytes open differently in place: %v", n, err)
	}
	if !bytes.Equal(place[n:n+tag], sealed[n:]) || !bytes.Equal(behind, make([]byte, tag)) {
		t.Fatalf("with %d bytes something behind them was written", n)
	}
}

func TestRefusesForgeries(t *testing.T) {
	each(t, func(t *testing.T, both maker) {
		rapid.Check(t, func(t *rapid.T) { refusesForgery(t, both) })
	})
}

// One changed bit anywhere, a cut or another nonce is refused, and nothing of the
// plaintext comes out.
func refusesForgery(t *rapid.T, both maker) {
	var key [32]byte
	copy(key[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
	ours, _ := both(key)
	nonce := rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "nonce")
	plain := bytes.Repeat([]byte{0xa5}, rapid.IntRange(0, 1000).Draw(t, "length"))
	sealed := ours.Seal(nil, nonce, plain, nil)
	bit := rapid.IntRange(0, len(sealed)*8-1).Draw(t, "bit")
	forged := bytes.Clone(sealed)
	forged[bit/8] ^= 1 << (bit % 8)
	out := make([]byte, 0, len(plain))
	if got, err := ours.Open(out, nonce, forged, nil); err == nil || got != nil {
		t.Fatal("a forgery was opened")
	}
	if bytes.Contains(out[:len(plain)], []byte{0xa5, 0xa5, 0xa5, 0xa5}) {
		t.Fatal("a forgery's plaintext came out")
	}
	if _, err := ours.Open(nil, nonce, sealed[:len(sealed)-1], nil); err == nil {
		t.Fatal("a cut message was opened")
	}
	nonce[0] ^= 1
	if _, err := ours.Open(nil, nonce, sealed, nil); err == nil {
		t.Fatal("another nonce opened it")
	}
}

// What the vectors do not do, the standard library does.
func TestAdditionalData(t *testing.T) {
	each(t, func(t *testing.T, both maker) {
		ours, oracle := both([32]byte{1})
		nonce, extra := make([]byte, 12), []byte("header")
		sealed := ours.Seal(nil, nonce, []byte("text"), extra)
		if got, err := oracle.Open(nil, nonce, sealed, extra); err != nil || string(got) != "text" {
			t.Fatal(string(got), err)
		}
		if got, err := ours.Open(nil, nonce, sealed, extra); err != nil || string(got) != "text" {
			t.Fatal(string(got), err)
		}
		if _, err := ours.Open(nil, nonce, nil, nil); err == nil {
			t.Fatal("nothing was opened")
		}
	})
}

func TestOverlap(t *testing.T) {
	each(t, func(t *testing.T, both maker) {
		ours, _ := both([32]byte{1})
		buf := make([]byte, 300)
		defer func() {
			if recover() == nil {
				t.Fatal("input and output overlap, and nobody noticed")
			}
		}()
		ours.Seal(buf[8:8], make([]byte, 12), buf[:200], nil)
	})
}

func TestNoAllocation(t *testing.T) {
	each(t, func(t *testing.T, both maker) {
		ours, _ := both([32]byte{1})
		buf, nonce := make([]byte, 1400, 1416), make([]byte, 12)
		if n := testing.AllocsPerRun(100, func() {
			sealed := ours.Seal(buf[:0], nonce, buf, nil)
			if _, err := ours.Open(buf[:0], nonce, sealed, nil); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func FuzzSeal(f *testing.F) {
	f.Add([]byte("key"), []byte("nonce"), []byte("plain"))
	f.Add([]byte("key"), []byte("nonce"), make([]byte, 1100))
	f.Fuzz(func(t *testing.T, key, nonce, plain []byte) {
		var k [32]byte
		var n [12]byte
		copy(k[:], key)
		copy(n[:], nonce)
		oracle, err := standard(&k)
		if err != nil {
			t.Fatal(err)
		}
		want := oracle.Seal(nil, n[:], plain, nil)
		for name, way := range ways() {
			ours := way(&k)
			sealed := ours.Seal(nil, n[:], plain, nil)
			if !bytes.Equal(sealed, want) {
				t.Fatal(name, "differs from the standard library")
			}
			if got, err := ours.Open(nil, n[:], sealed, nil); err != nil || !bytes.Equal(got, plain) {
				t.Fatal(name, err)
			}
		}
	})
}

func Benchmark(b *testing.B) {
	nonce := make([]byte, 12)
	for name, way := range ways() {
		a := way(&[32]byte{1})
		for _, n := range []int{64, 1400, 8192, 60000} {
			buf := make([]byte, n, n+16)
			sealed := a.Seal(nil, nonce, buf, nil)
			b.Run(fmt.Sprintf("seal/%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					a.Seal(buf[:0], nonce, buf, nil)
				}
			})
			out := make([]byte, 0, n)
			b.Run(fmt.Sprintf("open/%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					if _, err := a.Open(out, nonce, sealed, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
