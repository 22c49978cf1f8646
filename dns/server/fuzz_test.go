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
	for _, edns := range []uint16{0, 4096} {
		q := asked(f, "x.example.", mdns.TypeA, edns)
		w.s.cache.put(q.key(), came(f, q, time.Now(), "x.example. 3600 IN CNAME y.x.example.", "y.x.example. 3600 IN A 192.0.2.1"))
		f.Add(packed("x.example.", mdns.TypeA, edns), edns > 0)
	}
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

// FuzzForeign has another server answer anything. What can be kept can be told,
// and says the same.
func FuzzForeign(f *testing.F) {
	for _, records := range [][]string{
		{"x.example. 3600 IN CNAME y.x.example.", "y.x.example. 60 IN A 192.0.2.1"},
		{"example. 60 IN SOA ns.example. h.example. 1 2 3 4 30"},
		{"x.example. 60 IN TXT \"a\" \"b\"", "x.example. 60 IN SRV 1 2 3 t.example.", "x.example. 60 IN HTTPS 1 . alpn=h2"},
	} {
		f.Add(came(f, asked(f, "x.example.", mdns.TypeA, 0), noon, records...).wire, uint16(70))
	}
	q := asked(f, "X.example.", mdns.TypeA, 1232)
	ask, err := q.message()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte, age uint16) {
		var m mdns.Msg
		if m.Unpack(raw) != nil {
			return
		}
		a, err := newForeign(&m, ask.Question, noon)
		if err != nil {
			return
		}
		for _, limit := range []int{maxUDP, maxMessage} {
			out := a.reply(q, nil, noon.Add(time.Duration(age)*time.Second), limit)
			var r mdns.Msg
			if err := r.Unpack(out); err != nil || len(out) > limit {
				t.Fatalf("%d bytes of %d, %x: %v", len(out), limit, out, err)
			}
			if r.Truncated || limit == maxUDP || m.Truncated {
				continue
			}
			r.Extra = r.Extra[:len(r.Extra)-1] // the OPT record
			for i, section := range [][]mdns.RR{r.Answer, r.Ns, r.Extra} {
				was := [][]mdns.RR{m.Answer, m.Ns, m.Extra}[i]
				if len(section) != len(was) {
					t.Fatalf("%d records of %d", len(section), len(was))
				}
				for j, rr := range section {
					if had := was[j].Header().Ttl; rr.Header().Ttl != had-min(had, uint32(age)) || rr.Header().Rrtype != was[j].Header().Rrtype {
						t.Fatalf("%v after %d s is %v", was[j], age, rr)
					}
				}
			}
		}
	})
}
