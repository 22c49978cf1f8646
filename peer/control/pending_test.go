package control

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/flynn/noise"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"weave/peer/wire"
)

// told is what a receiver knows after a sequence of messages: the oracle.
// Merging must lead the receiver to the same knowledge as sending everything.
type told struct {
	hellos  []uint64
	records map[string]uint64 // name → highest version
	wants   map[string]bool
	digest  uint64 // version in the last digest
	beats   bool
}

func (k *told) hear(t *rapid.T, m *wire.Control) {
	if k.records == nil {
		k.records, k.wants = make(map[string]uint64), make(map[string]bool)
	}
	switch {
	case m.GetHello() != nil:
		k.hellos = append(k.hellos, m.GetHello().GetTiebreak())
	case m.GetDigest() != nil:
		k.digest = m.GetDigest().GetEntries()[0].GetVersion()
	case m.GetHeartbeat() != nil:
		k.beats = true
	}
	for _, r := range m.GetRecords().GetRecords() {
		var rec wire.Record
		if err := proto.Unmarshal(r.GetRecord(), &rec); err != nil {
			t.Fatal(err)
		}
		name := string(rec.GetName())
		k.records[name] = max(k.records[name], rec.GetVersion())
	}
	for _, name := range m.GetWant().GetNames() {
		k.wants[string(name)] = true
	}
}

func (k *told) equal(o *told) bool {
	if len(k.hellos) != len(o.hellos) || len(k.records) != len(o.records) || len(k.wants) != len(o.wants) {
		return false
	}
	for i, h := range k.hellos {
		if o.hellos[i] != h {
			return false
		}
	}
	for name, v := range k.records {
		if o.records[name] != v {
			return false
		}
	}
	for name := range k.wants {
		if !o.wants[name] {
			return false
		}
	}
	return k.digest == o.digest && k.beats == o.beats
}

func TestPendingTellsAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pending
		var said, heard told
		version := uint64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "take") == 0 {
				if m := p.next(); m != nil {
					heard.hear(t, m)
				}
				continue
			}
			version++
			m := drawMessage(t, version)
			kept := proto.Clone(m)
			said.hear(t, m)
			p.add(m)
			if !proto.Equal(m, kept) {
				t.Fatal("add changed its message")
			}
		}
		largest := 0
		for m := p.next(); m != nil; m = p.next() {
			heard.hear(t, m)
			largest = max(largest, proto.Size(m))
		}
		if !heard.equal(&said) {
			t.Fatalf("heard %+v\nsaid  %+v", heard, said)
		}
		if p.bytes != 0 || len(p.records.items) != 0 || len(p.wants) != 0 {
			t.Fatalf("empty, but %d bytes, %d records, %d wants", p.bytes, len(p.records.items), len(p.wants))
		}
		if largest > recordsChunk+100_000 {
			t.Fatalf("a message of %d bytes", largest)
		}
	})
}

func drawMessage(t *rapid.T, version uint64) *wire.Control {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return hello(version)
	case 1:
		var rs []*wire.SignedRecord
		for range rapid.IntRange(1, 3).Draw(t, "records") {
			size := rapid.SampledFrom([]int{1, 100_000}).Draw(t, "size")
			v := rapid.Uint64Range(0, 9).Draw(t, "version")
			rs = append(rs, record(t, name.Draw(t, "name"), v, size))
		}
		return recordsOf(rs)
	case 2:
		names := rapid.SliceOfN(rapid.Map(name, func(s string) []byte { return []byte(s) }), 1, 4).Draw(t, "names")
		return &wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: names}}}
	case 3:
		return &wire.Control{Kind: &wire.Control_Digest{Digest: &wire.Digest{
			Entries: []*wire.Digest_Entry{{Name: []byte("x"), Version: version}},
		}}}
	}
	return heartbeat()
}

// Two peers that claim one name are not merged, nor is what cannot be read.
func TestPendingKeepsApart(t *testing.T) {
	var p pending
	one, other := &wire.Record{Name: []byte("n"), Key: []byte("1"), Version: 5}, &wire.Record{Name: []byte("n"), Key: []byte("2"), Version: 3}
	for _, r := range []*wire.Record{one, other} {
		b, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		p.add(recordsOf([]*wire.SignedRecord{{Record: b}}))
	}
	p.add(recordsOf([]*wire.SignedRecord{{Record: []byte{0xff}}, {Record: []byte{0xff}}}))
	p.add(&wire.Control{Kind: &wire.Control_Records{}})
	n := 0
	for m := p.next(); m != nil; m = p.next() {
		n += len(m.GetRecords().GetRecords())
	}
	if n != 4 || p.merged != 0 {
		t.Fatalf("%d records, %d merged", n, p.merged)
	}
}

// Fields and kinds that this version does not know are sent on as they are.
func TestPendingPassesUnknownFields(t *testing.T) {
	unknown := []byte{0xfa, 0x06, 1, 'x'}
	m := recordsOf([]*wire.SignedRecord{record(t, "a", 1, 1)})
	m.GetRecords().ProtoReflect().SetUnknown(unknown)
	w := &wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: [][]byte{[]byte("a")}}}}
	w.ProtoReflect().SetUnknown(unknown)
	var p pending
	p.add(m)
	p.add(w)
	if got := p.next(); got != m {
		t.Errorf("got %v", got)
	}
	if got := p.next(); got != w {
		t.Errorf("got %v", got)
	}
}

// identify agrees with protobuf's own decoder wherever that one succeeds.
func FuzzIdentify(f *testing.F) {
	b, err := proto.Marshal(&wire.Record{Name: []byte("name"), Key: []byte("key"), Version: 300, Uid: 7})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(b, b...))
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		key, version, ok := identify(b)
		var r wire.Record
		if proto.Unmarshal(b, &r) != nil {
			return
		}
		if ok != (len(r.GetName()) > 0) {
			t.Fatalf("ok %v, name %q", ok, r.GetName())
		}
		if ok && (key.name != string(r.GetName()) || key.key != string(r.GetKey()) || version != r.GetVersion()) {
			t.Fatalf("%+v %d, want %v", key, version, &r)
		}
	})
}

func cipher(b byte) *noise.CipherState {
	return noise.UnsafeNewCipherState(suite(), [32]byte{b}, 0)
}

func TestFrameGolden(t *testing.T) {
	h := half{cs: cipher(1), rekey: 2}
	out, err := h.seal(nil, []byte("hi"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err = h.seal(out, nil); err != nil {
		t.Fatal(err)
	}
	if out, err = h.seal(out, []byte("after the rekey")); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(out); got != frameGolden {
		t.Fatalf("got\n%s", got)
	}
}

// Messages of any size survive sealing and opening, rekeys included.
func TestFramesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rekey := rapid.Uint64Range(1, 4).Draw(t, "rekey")
		out, in := half{cs: cipher(1), rekey: rekey}, half{cs: cipher(1), rekey: rekey}
		var wireBytes []byte
		var want [][]byte
		for range rapid.IntRange(1, 5).Draw(t, "messages") {
			n := rapid.SampledFrom([]int{0, 1, maxPart - 1, maxPart, maxPart + 1, 2 * maxPart, 200_000}).Draw(t, "bytes")
			msg := bytes.Repeat([]byte{byte(n)}, n)
			var err error
			before := len(wireBytes)
			if wireBytes, err = out.seal(wireBytes, msg); err != nil {
				t.Fatal(err)
			}
			if grown := len(wireBytes) - before; grown != framesLen(n) {
				t.Fatalf("a message of %d bytes made %d, not %d", n, grown, framesLen(n))
			}
			want = append(want, msg)
		}
		r := bytes.NewReader(wireBytes)
		for _, msg := range want {
			var got []byte
			for more := true; more; {
				part, m, err := in.open(r)
				if err != nil {
					t.Fatal(err)
				}
				got, more = append(got, part...), m
			}
			if !bytes.Equal(got, msg) {
				t.Fatalf("message of %d bytes differs", len(msg))
			}
		}
		if _, _, err := in.open(r); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
	})
}

func TestFrameWithoutEndIsRefused(t *testing.T) {
	c := cipher(1)
	b, err := c.Encrypt([]byte{0, tagLen + 1}, nil, []byte{flagMore})
	if err != nil {
		t.Fatal(err)
	}
	in := half{cs: cipher(1), rekey: 10}
	if _, _, err := in.open(bytes.NewReader(b)); !errors.Is(err, errFrame) {
		t.Fatalf("got %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	h := half{cs: cipher(1), rekey: 2}
	good, err := h.seal(nil, []byte("hello"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0, 17})
	f.Add([]byte{0xff, 0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := half{cs: cipher(1), rekey: 2}
		r := bytes.NewReader(b)
		for {
			if _, _, err := in.open(r); err != nil {
				return
			}
			if !bytes.HasPrefix(b, good) {
				t.Fatal("a frame that nobody sealed was opened")
			}
		}
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\nb\x1b[2Jc": "a b [2Jc", "\xff\xfe": "?", "é": "é",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
	if got := printable(string(bytes.Repeat([]byte("é"), 1000))); len(got) > 300 {
		t.Errorf("%d bytes", len(got))
	}
}

// frameGolden is "hi", an empty message, the rekey after two, and a third.
const frameGolden = "0013109e3f6c3b35165209f0afcc0d5b79e5c6dc0b0011164104b9f5d0d2dc088af7e8208de3ef7e" +
	"002093370640915bce394a98579d668e901ceeb52d4b4220f14c9760c1b468b19000"
