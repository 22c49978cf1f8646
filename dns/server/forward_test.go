package server

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func record(text string) mdns.RR {
	rr, err := mdns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

func TestForwardAndCache(t *testing.T) {
	var asked atomic.Int64
	up := upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		asked.Add(1)
		r := new(mdns.Msg).SetReply(q)
		switch q.Question[0].Name {
		case "there.example.":
			r.Answer = append(r.Answer, record("there.example. 60 IN A 192.0.2.1"))
		case "absent.example.":
			r.Rcode = mdns.RcodeNameError
			r.Ns = append(r.Ns, record("example. 60 IN SOA a. b. 1 2 3 4 30"))
		case "brief.example.":
			r.Answer = append(r.Answer, record("brief.example. 0 IN A 192.0.2.1"))
		case "nosoa.example.":
			r.Rcode = mdns.RcodeNameError
		}
		_ = w.WriteMsg(r)
	})
	at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: &Upstreams{Fixed: []netip.AddrPort{up}}})
	for _, c := range []struct {
		name                  string
		rcode, answers, times int
	}{
		{"there.example.", 0, 1, 1},
		{"absent.example.", mdns.RcodeNameError, 0, 1},
		{"brief.example.", 0, 1, 3},
		{"nosoa.example.", mdns.RcodeNameError, 0, 3},
	} {
		asked.Store(0)
		for range 3 {
			r := ask(t, "udp", at, c.name, mdns.TypeA, 1232)
			if r.Rcode != c.rcode || len(r.Answer) != c.answers || r.Authoritative || !r.RecursionAvailable || r.IsEdns0() == nil {
				t.Errorf("%s: %v", c.name, r)
			}
		}
		if n := asked.Load(); n != int64(c.times) {
			t.Errorf("%s was asked for %d times, not %d", c.name, n, c.times)
		}
	}
	asked.Store(0)
	for _, name := range []string{"nobody.weave.local.", "web.weave.local.", "nobody.", "9.0.0.10.in-addr.arpa."} {
		ask(t, "udp", at, name, mdns.TypeMX, 0)
	}
	if asked.Load() != 0 {
		t.Error("names of ours were asked for elsewhere")
	}
}

// A server that is silent costs a little, one that fails nothing, and what does
// not fit comes over TCP.
func TestSeveralUpstreams(t *testing.T) {
	silent := upstream(t, func(mdns.ResponseWriter, *mdns.Msg) {})
	failing := upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		_ = w.WriteMsg(new(mdns.Msg).SetRcode(q, mdns.RcodeServerFailure))
	})
	good := upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		r := new(mdns.Msg).SetReply(q)
		for i := range 100 {
			r.Answer = append(r.Answer, record(fmt.Sprintf("%s 1 IN A 192.0.2.%d", q.Question[0].Name, i+1)))
		}
		if w.LocalAddr().Network() == "udp" {
			r.Answer, r.Truncated = nil, true
		}
		_ = w.WriteMsg(r)
	})
	at := serve(t, Config{
		Index: names(0), Domain: local, TTL: time.Second,
		Upstreams: &Upstreams{Fixed: []netip.AddrPort{failing, silent, good}},
	})
	began := time.Now()
	if r := ask(t, "tcp", at, "big.example.", mdns.TypeA, 0); len(r.Answer) != 100 || r.Truncated {
		t.Errorf("over TCP: %d records", len(r.Answer))
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("an answer took %v", took)
	}
	if r := ask(t, "udp", at, "big2.example.", mdns.TypeA, 0); len(r.Answer) == 0 || !r.Truncated {
		t.Errorf("over UDP: %d records, truncated %v", len(r.Answer), r.Truncated)
	}
	dead := serve(t, Config{
		Index: names(0), Domain: local, TTL: time.Second,
		Upstreams: &Upstreams{Fixed: []netip.AddrPort{failing, silent}, Fallback: time.Second},
	})
	if r := ask(t, "udp", dead, "x.example.", mdns.TypeA, 0); r.Rcode != mdns.RcodeServerFailure {
		t.Errorf("nobody answers: %v", r)
	}
}
