package wire

import (
	"bytes"
	"testing"
)

func TestGoldenFast(t *testing.T) {
	beat := FastBeat{Name: [6]byte{1, 2, 3, 4, 5, 6}, Nonce: FastNonce{0xaa, 15: 0xbb}}
	b := AppendFastBeat(nil, beat)
	wantBytes(t, "beat", b, "77766631 010203040506 aa0000000000000000000000000000bb")
	if got, ok := ParseFastBeat(append(b, 0, 0)); !ok || got != beat {
		t.Errorf("parsed %+v", got)
	}
	if _, ok := ParseFastBeat(b[:25]); ok {
		t.Error("short beat parsed")
	}

	key := FastKey([]byte("shared"))
	r := FastReport{State: FastOn, Proven: true, Nonce: beat.Nonce}
	from, to := [6]byte{1}, [6]byte{2}
	p := AppendFastReport(nil, r, &key, from, to)
	wantBytes(t, "report", p, "07 06 aa0000000000000000000000000000bb "+goldenFastTag)
	if kind, fault := NewJoiner(&text{}, false).Add(1, p); kind != KindFast || fault != FaultNone {
		t.Errorf("add: %v %v", kind, fault)
	}
	if got, ok := ParseFastReport(p, &key, from, to); !ok || got != r {
		t.Errorf("parsed %+v", got)
	}
}

// goldenFastTag was worked out with Python's hmac.
const goldenFastTag = "378e9e9eb3d7bbf6a908e3a63ee97e16"

// Whatever is changed about a report, it is none.
func TestFastReportForged(t *testing.T) {
	key, other := FastKey([]byte("shared")), FastKey([]byte("other"))
	from, to := [6]byte{1}, [6]byte{2}
	p := AppendFastReport(nil, FastReport{State: FastProbing, Nonce: FastNonce{9}}, &key, from, to)
	for i := range p {
		for bit := range 8 {
			q := bytes.Clone(p)
			q[i] ^= 1 << bit
			if _, ok := ParseFastReport(q, &key, from, to); ok {
				t.Fatalf("accepted with bit %d of byte %d turned", bit, i)
			}
		}
		if _, ok := ParseFastReport(p[:i], &key, from, to); ok {
			t.Fatalf("accepted with %d bytes", i)
		}
	}
	if _, ok := ParseFastReport(p, &other, from, to); ok {
		t.Error("accepted under another key")
	}
	if _, ok := ParseFastReport(p, &key, to, from); ok {
		t.Error("accepted by its sender")
	}
}

func FuzzFast(f *testing.F) {
	key := FastKey(nil)
	f.Add(AppendFastReport(nil, FastReport{State: FastOn}, &key, [6]byte{}, [6]byte{}))
	f.Add(AppendFastBeat(nil, FastBeat{}))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, ok := ParseFastReport(in, &key, [6]byte{}, [6]byte{}); ok && r.State > FastOn {
			t.Fatal(r)
		}
		if b, ok := ParseFastBeat(in); ok && !bytes.HasPrefix(in, AppendFastBeat(nil, b)) {
			t.Fatal(b)
		}
	})
}
