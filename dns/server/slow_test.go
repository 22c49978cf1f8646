package server

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// held is an upstream server that answers names that begin with "fast" at once,
// and others when it is let go.
type held struct {
	at    netip.AddrPort
	asked atomic.Int64
	free  chan struct{}
	let   func() // everything go
}

func newHeld(t *testing.T) *held {
	h := &held{free: make(chan struct{})}
	h.let = sync.OnceFunc(func() { close(h.free) })
	h.at = upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		h.asked.Add(1)
		if q.Question[0].Name[:4] != "fast" {
			<-h.free
		}
		r := new(mdns.Msg).SetReply(q)
		r.Answer = append(r.Answer, record(q.Question[0].Name+" 60 IN A 192.0.2.1"))
		_ = w.WriteMsg(r)
	})
	t.Cleanup(h.let)
	return h
}

func (h *held) server() *Server {
	return New(Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: &Upstreams{Fixed: []netip.AddrPort{h.at}, Fallback: time.Minute}})
}

// While another server is silent, our names and those in the cache are answered:
// over UDP and TCP, and even when nobody more may wait.
func TestSlowUpstreamHoldsNobodyUp(t *testing.T) {
	h := newHeld(t)
	s := h.server()
	at := run(t, s, netip.MustParseAddrPort("127.0.0.1:0"))
	ask(t, "udp", at, "fast.example.", mdns.TypeA, 0)
	c, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waiting := func() int { s.waiting.mu.Lock(); defer s.waiting.mu.Unlock(); return s.waiting.total }
	for i := range 200 {
		if _, err := c.Write(packed(fmt.Sprintf("slow%d.example.", i), mdns.TypeA, 0)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a query waits", func() bool { return waiting() == i+1 })
	}
	for s.waiting.take(netip.Addr{}) {
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, q := range []struct {
			name  string
			rcode int
		}{{"web.weave.local.", 0}, {"nobody.weave.local.", mdns.RcodeNameError}, {"fast.example.", 0}, {"FAST.example.", 0}, {"slow.example.", mdns.RcodeRefused}} {
			if r := ask(t, network, at, q.name, mdns.TypeA, 0); r.Rcode != q.rcode || (q.rcode == 0) != (len(r.Answer) > 0) {
				t.Errorf("%s, %s: %v", network, q.name, r)
			}
		}
	}
	if n, st := waiting(), s.Stats(); n != maxWaiting || st.Cached != 4 || st.Refused != 2 {
		t.Errorf("%d wait, %+v", n, st)
	}
}

// On one TCP connection, too, our names do not wait for those of others.
func TestStreamIsNotHeldUp(t *testing.T) {
	h := newHeld(t)
	s := h.server()
	at := run(t, s, netip.MustParseAddrPort("127.0.0.1:0"))
	raw, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(8 * time.Second))
	c := &mdns.Conn{Conn: raw}
	for i := range 100 {
		if _, err := c.Write(packed(fmt.Sprintf("slow%d.example.", i), mdns.TypeA, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write(packed("web.weave.local.", mdns.TypeA, 0)); err != nil {
		t.Fatal(err)
	}
	if r, err := c.ReadMsg(); err != nil || r.Question[0].Name != "web.weave.local." || len(r.Answer) != 2 {
		t.Errorf("%v, %v", r, err)
	}
}

// The same question of many goes to the upstream server once, and all are
// answered, each in its own spelling.
func TestSameQuestionsAreAskedOnce(t *testing.T) {
	h := newHeld(t)
	s := h.server()
	at := run(t, s, netip.MustParseAddrPort("127.0.0.1:0"))
	const clients = 50
	answers := make(chan *mdns.Msg, clients)
	var asking sync.WaitGroup
	for i := range clients {
		name := "slow.example."
		if i%2 == 1 {
			name = "SLOW.example."
		}
		network := []string{"udp", "tcp"}[i%4/2]
		asking.Go(func() {
			m := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
			c := mdns.Client{Net: network, Timeout: 10 * time.Second}
			r, _, err := c.Exchange(m, at.String())
			if err != nil || r.Question[0].Name != name || len(r.Answer) != 1 || r.Answer[0].Header().Name != name {
				t.Errorf("%s: %v, %v", name, r, err)
			}
			answers <- r
		})
	}
	eventually(t, "all but one have joined", func() bool { return s.Stats().Joined == clients-1 })
	h.let()
	asking.Wait()
	if n := h.asked.Load(); n != 1 || len(answers) != clients {
		t.Errorf("the server was asked %d times, %d got answers", n, len(answers))
	}
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if len(s.flights.under) != 0 {
		t.Errorf("%d questions are still under way", len(s.flights.under))
	}
}

// Questions under way are bounded.
func TestFlightsAreBounded(t *testing.T) {
	var f flights
	k := func(i int) question { return question{text: fmt.Sprint(i)} }
	var first *flight
	for i := range maxFlights {
		fl, lead := f.join(k(i))
		if fl == nil || !lead {
			t.Fatalf("flight %d: %v %v", i, fl, lead)
		}
		if i == 0 {
			first = fl
		}
	}
	if fl, _ := f.join(k(-1)); fl != nil {
		t.Error("one more than allowed")
	}
	if fl, lead := f.join(k(0)); fl != first || lead {
		t.Error("who asks the same does not join")
	}
	f.land(k(0), first, nil)
	if fl, lead := f.join(k(-1)); fl == nil || !lead || first.wait(t.Context()) != nil {
		t.Error("no room after one has landed")
	}
}

// Each server may take as long as is allowed, not all of them together.
func TestEachUpstreamHasItsTime(t *testing.T) {
	silent := func() netip.AddrPort { return upstream(t, func(mdns.ResponseWriter, *mdns.Msg) {}) }
	good := upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) { _ = w.WriteMsg(new(mdns.Msg).SetReply(q)) })
	u := &Upstreams{Fixed: []netip.AddrPort{silent(), silent(), silent(), good}, Fallback: 2 * stagger}
	at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: u})
	if r := ask(t, "udp", at, "x.example.", mdns.TypeA, 0); r.Rcode != 0 {
		t.Errorf("the last of four, who would have answered: %v", r)
	}
}

// A query or an answer that gets lost on the way is sent again.
func TestLostQueryIsSentAgain(t *testing.T) {
	var asked atomic.Int64
	up := upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		if asked.Add(1) > 1 {
			_ = w.WriteMsg(new(mdns.Msg).SetReply(q))
		}
	})
	at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: &Upstreams{Fixed: []netip.AddrPort{up}}})
	if r := ask(t, "udp", at, "x.example.", mdns.TypeA, 0); r.Rcode != 0 || asked.Load() != 2 {
		t.Errorf("after %d queries: %v", asked.Load(), r)
	}
}

// Only "there is" and "there is not" are answers: for whatever else a server
// says, the next one is asked, and in the end the failure is ours.
func TestBadAnswersAreNotPassedOn(t *testing.T) {
	says := func(rcode int) netip.AddrPort {
		return upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) { _ = w.WriteMsg(new(mdns.Msg).SetRcode(q, rcode)) })
	}
	absent := says(mdns.RcodeNameError)
	for _, rcode := range []int{
		mdns.RcodeFormatError, mdns.RcodeServerFailure, mdns.RcodeNotImplemented, mdns.RcodeRefused, mdns.RcodeYXDomain, mdns.RcodeNotAuth, mdns.RcodeNotZone,
	} {
		bad := says(rcode)
		for _, c := range []struct {
			servers []netip.AddrPort
			want    int
		}{{[]netip.AddrPort{bad, absent}, mdns.RcodeNameError}, {[]netip.AddrPort{bad, bad}, mdns.RcodeServerFailure}} {
			at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: &Upstreams{Fixed: c.servers}})
			if r := ask(t, "udp", at, "x.example.", mdns.TypeA, 0); r.Rcode != c.want {
				t.Errorf("%s, then %d servers: %s", mdns.RcodeToString[rcode], len(c.servers)-1, mdns.RcodeToString[r.Rcode])
			}
		}
	}
}

// A server that does not know EDNS is asked without.
func TestUpstreamWithoutEDNS(t *testing.T) {
	for _, rcode := range []int{mdns.RcodeFormatError, mdns.RcodeNotImplemented} {
		up := upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
			r := new(mdns.Msg).SetReply(q)
			if q.IsEdns0() != nil {
				r.Rcode = rcode
			}
			_ = w.WriteMsg(r)
		})
		at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: &Upstreams{Fixed: []netip.AddrPort{up}}})
		if r := ask(t, "udp", at, "x.example.", mdns.TypeA, 1232); r.Rcode != 0 || r.IsEdns0() == nil {
			t.Errorf("%s: %v", mdns.RcodeToString[rcode], r)
		}
	}
}
