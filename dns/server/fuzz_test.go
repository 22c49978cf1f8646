package server

import (
	"encoding/hex"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func worked() *worker {
	return &worker{s: New(Config{Index: names(40), Domain: local, TTL: time.Second}), out: make([]byte, 0, maxMessage)}
}

func packed(name string, qtype uint16, edns uint16) []byte {
	m := new(mdns.Msg).SetQuestion(name, qtype)
	m.Id = 0x1234
	if edns > 0 {
		m.SetEdns0(edns, true)
	}
	raw, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

func TestGoldenAnswer(t *testing.T) {
	out, _ := worked().respond(packed("wEb.", mdns.TypeMX, 1232), 0)
	const want = "1234" + "8580" + "0001000000000001" + "0377456200" + "000f0001" + "00002904d0000080000000"
	if hex.EncodeToString(out) != want {
		t.Errorf("%x\nnot %s", out, want)
	}
}

func TestAnsweringDoesNotAllocate(t *testing.T) {
	w, q := worked(), packed("many.weave.local.", mdns.TypeA, 1232)
	if n := testing.AllocsPerRun(100, func() { w.respond(q, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAnswerA(b *testing.B) {
	w := worked()
	for _, name := range []string{"web.weave.local.", "many.weave.local."} {
		q := packed(name, mdns.TypeA, 1232)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.respond(q, 0)
			}
		})
	}
}

func BenchmarkAnswerCached(b *testing.B) {
	w := worked()
	q := asked(b, "www.example.", mdns.TypeA, 1232)
	w.s.cache.put(q.key(), came(b, q, time.Now(), "www.example. 3600 IN A 192.0.2.1", "www.example. 3600 IN A 192.0.2.2"))
	msg := packed("www.example.", mdns.TypeA, 1232)
	b.ReportAllocs()
	for b.Loop() {
		if _, forward := w.respond(msg, 0); forward {
			b.Fatal("it is not in the cache")
		}
	}
}

// FuzzRespond sends anything. The plain reader of miekg/dns must be able to read
// every answer, and where it cannot read a query no names are told.
func FuzzRespond(f *testing.F) {
	for _, name := range []string{"web.weave.local.", "many.weave.local.", "x.", ".", "1.0.0.10.in-addr.arpa.", "_http._tcp.web.weave.local."} {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypePTR, mdns.TypeSRV, mdns.TypeANY} {
			f.Add(packed(name, qtype, 0), false)
			f.Add(packed(name, qtype, 4096), true)
		}
	}
	f.Add([]byte("short"), false)
	w := worked()
	f.Fuzz(func(t *testing.T, msg []byte, stream bool) {
		limit := 0
		if stream {
			limit = maxMessage
		}
		out, forward := w.respond(msg, limit)
		if forward {
			out = w.s.forward(t.Context(), msg, w.q.size)
		}
		if out == nil {
			return
		}
		var r, q mdns.Msg
		if err := r.Unpack(out); err != nil {
			t.Fatalf("answer %x to %x: %v", out, msg, err)
		}
		if !r.Response || (!stream && len(out) > capUDP) {
			t.Fatalf("answer %v of %d bytes", r.MsgHdr, len(out))
		}
		if q.Unpack(msg) == nil && r.Id != q.Id {
			t.Fatalf("answer %d to %d", r.Id, q.Id)
		}
	})
}
