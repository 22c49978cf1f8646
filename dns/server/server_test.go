package server

import (
	"encoding/binary"
	"log"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(perfServer) != "" {
		if err := servePerf(); err != nil {
			log.Fatal(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func TestAnswers(t *testing.T) {
	at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second})
	for _, network := range []string{"udp", "tcp"} {
		for _, q := range []struct {
			name    string
			qtype   uint16
			rcode   int
			answers int
		}{
			{"web.weave.local.", mdns.TypeA, 0, 2},
			{"WEB.Weave.Local.", mdns.TypeAAAA, 0, 2},
			{"web.", mdns.TypeA, 0, 2},
			{"web.weave.local.", mdns.TypeMX, 0, 0},
			{"nobody.weave.local.", mdns.TypeA, mdns.RcodeNameError, 0},
			{"nobody.", mdns.TypeAAAA, mdns.RcodeNameError, 0},
			{"1.0.0.10.in-addr.arpa.", mdns.TypePTR, 0, 1},
			{"_http._tcp.web.weave.local.", mdns.TypeSRV, 0, 1},
			{"example.com.", mdns.TypeA, mdns.RcodeServerFailure, 0},
		} {
			r := ask(t, network, at, q.name, q.qtype, 0)
			if r.Rcode != q.rcode || len(r.Answer) != q.answers || r.Question[0].Name != q.name {
				t.Errorf("%s %s %d: %v", network, q.name, q.qtype, r)
			}
			if !r.RecursionAvailable || r.Authoritative != (q.rcode == 0) {
				t.Errorf("%s: flags %+v", q.name, r.MsgHdr)
			}
			for _, rr := range r.Answer {
				if rr.Header().Name != q.name || rr.Header().Ttl != 1 {
					t.Errorf("%s: %v", q.name, rr)
				}
			}
		}
	}
	ptr := ask(t, "udp", at, "1.0.0.10.in-addr.arpa.", mdns.TypePTR, 0).Answer[0].(*mdns.PTR)
	if ptr.Ptr != "Web.weave.local." {
		t.Errorf("the name of 10.0.0.1 is %s", ptr.Ptr)
	}
	srv := ask(t, "udp", at, "_http._tcp.web.weave.local.", mdns.TypeSRV, 0)
	if s := srv.Answer[0].(*mdns.SRV); s.Port != 80 || s.Target != "Web.weave.local." || len(srv.Extra) != 1 {
		t.Errorf("service: %v", srv)
	}
}

// The order of addresses changes, and each comes first about as often.
func TestLoadIsBalanced(t *testing.T) {
	at := serve(t, Config{Index: names(5), Domain: local, TTL: time.Second})
	first := map[string]int{}
	for range 500 {
		first[ask(t, "udp", at, "many.weave.local.", mdns.TypeA, 0).Answer[0].(*mdns.A).A.String()]++
	}
	for addr, n := range first {
		if n < 50 || n > 150 {
			t.Errorf("%s came first %d times of 500 with 5 addresses", addr, n)
		}
	}
	if len(first) != 5 {
		t.Errorf("only %d addresses came first", len(first))
	}
}

// What does not fit is cut off and says so; TCP has all of it.
func TestManyRecords(t *testing.T) {
	at := serve(t, Config{Index: names(300), Domain: local, TTL: time.Second})
	for _, c := range []struct {
		network  string
		edns     uint16
		atLeast  int
		complete bool
	}{
		{"udp", 0, 29, false},
		{"udp", 100, 29 - 1, false},
		{"udp", 1232, 70, false},
		{"udp", 65535, 250, false},
		{"tcp", 0, 300, true},
		{"tcp", 1232, 300, true},
	} {
		r := ask(t, c.network, at, "many.weave.local.", mdns.TypeA, c.edns)
		if r.Truncated == c.complete || len(r.Answer) < c.atLeast || (r.IsEdns0() != nil) != (c.edns > 0) {
			t.Errorf("%s, %d: truncated %v, %d records, EDNS %v", c.network, c.edns, r.Truncated, len(r.Answer), r.IsEdns0())
		}
		size := max(512, int(c.edns))
		if raw, err := r.Pack(); err != nil || (c.network == "udp" && len(raw) > 16*len(r.Answer)+100 && size < 512) {
			t.Errorf("%s, %d: %d bytes, %v", c.network, c.edns, len(raw), err)
		}
	}
	for _, n := range []int{28, 29, 50} {
		at := serve(t, Config{Index: names(n), Domain: local, TTL: time.Second})
		if r := ask(t, "udp", at, "many.weave.local.", mdns.TypeA, 0); r.Truncated != (n > 29) || len(r.Answer) != min(n, 29) {
			t.Errorf("%d records: %d came, truncated %v", n, len(r.Answer), r.Truncated)
		}
	}
}

// As glibc asks: A and AAAA from one socket, one after the other without
// waiting. Both are answered, also when they go to upstream servers.
func TestPairsOnOneSocket(t *testing.T) {
	up := upstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) { _ = w.WriteMsg(new(mdns.Msg).SetReply(q)) })
	at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: &Upstreams{Fixed: []netip.AddrPort{up}}})
	for _, name := range []string{"web.weave.local.", "nobody.weave.local.", "example.com."} {
		c, err := net.Dial("udp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ids := []uint16{1, 2}
		for i, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
			m := new(mdns.Msg).SetQuestion(name, qtype)
			m.Id = ids[i]
			raw, _ := m.Pack()
			if _, err := c.Write(raw); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(4 * time.Second))
		buf := make([]byte, 512)
		for range 2 {
			if _, err := c.Read(buf); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			ids = slices.DeleteFunc(ids, func(id uint16) bool { return id == binary.BigEndian.Uint16(buf) })
		}
		if len(ids) > 0 {
			t.Errorf("%s: no answer to %v", name, ids)
		}
	}
}

// Two servers at one port: who is at the address itself gets its queries.
func TestBesideAnotherServer(t *testing.T) {
	other, _, err := Listen(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer other[0].Close()
	port := other[0].LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if _, _, err := Listen(t.Context(), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), 1); err == nil {
		t.Error("TCP at a port in use: no error")
	}
}

// Of EDNS there is version 0; who speaks a later one is told so (RFC 6891,
// 6.1.3), with what else is known of the query.
func TestLaterEDNS(t *testing.T) {
	at := serve(t, Config{Index: names(0), Domain: local, TTL: time.Second})
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"web.weave.local.", "example.com."} {
			m := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
			m.SetEdns0(1232, true)
			m.IsEdns0().SetVersion(1)
			c := mdns.Client{Net: network}
			r, _, err := c.Exchange(m, at.String())
			if err != nil {
				t.Fatal(err)
			}
			o := r.IsEdns0()
			if r.Rcode != mdns.RcodeBadVers || len(r.Answer) != 0 || r.Authoritative || o == nil || o.Version() != 0 || !o.Do() || r.Question[0].Name != name {
				t.Errorf("%s, %s: %v", network, name, r)
			}
		}
	}
}

// Services are in a random order, too.
func TestServicesAreShuffled(t *testing.T) {
	s := New(Config{Index: services(4), Domain: local, TTL: time.Second})
	at := run(t, s, netip.MustParseAddrPort("127.0.0.1:0"))
	first := map[uint16]int{}
	for range 400 {
		r := ask(t, "udp", at, "_http._tcp.web.weave.local.", mdns.TypeSRV, 1232)
		if len(r.Answer) != 4 {
			t.Fatal(r)
		}
		first[r.Answer[0].(*mdns.SRV).Port]++
	}
	for port, n := range first {
		if n < 50 || n > 150 {
			t.Errorf("port %d came first %d times of 400 with 4 services", port, n)
		}
	}
	if len(first) != 4 {
		t.Errorf("first came only %v", first)
	}
}
