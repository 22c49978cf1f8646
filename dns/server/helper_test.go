package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"weave/dns"
)

const local dns.Domain = "weave.local"

// names makes an index: web has two addresses of each family, many has n.
func names(n int) *dns.Index {
	cfg := dns.Config{Run: 1, Domain: local, Rand: rand.NewPCG(1, 1)}
	cfg.Name[5] = 1
	c := dns.New(cfg)
	var in dns.Add
	add := func(name, addr string, services ...dns.Service) {
		in.Records = append(in.Records, dns.Record{Name: name, Ident: "c", Addr: netip.MustParseAddr(addr), Services: services})
	}
	add("Web.weave.local", "10.0.0.1", dns.Service{Name: "http", Proto: "tcp", Port: 80})
	add("web.weave.local", "10.0.0.2")
	add("web.weave.local", "fd00::1")
	add("web.weave.local", "fd00::2")
	for i := range n {
		add("many.weave.local", fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250))
	}
	c.Step(time.Unix(1, 0), in)
	return c.Index()
}

// services makes an index in which web has a service on each of n ports.
func services(n int) *dns.Index {
	cfg := dns.Config{Run: 1, Domain: local, Rand: rand.NewPCG(1, 1)}
	cfg.Name[5] = 1
	c := dns.New(cfg)
	var in dns.Add
	for i := range n {
		in.Records = append(in.Records, dns.Record{
			Name: "web.weave.local", Ident: "c", Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}),
			Services: []dns.Service{{Name: "http", Proto: "tcp", Port: uint16(8000 + i)}},
		})
	}
	c.Step(time.Unix(1, 0), in)
	return c.Index()
}

// serve runs a server on loopback and returns where.
func serve(t *testing.T, cfg Config) netip.AddrPort {
	t.Helper()
	return run(t, New(cfg), netip.MustParseAddrPort("127.0.0.1:0"))
}

// run has a server listen and returns where.
func run(t testing.TB, s *Server, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	packets, streams, err := Listen(ctx, at, 2)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, packets, streams) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return packets[0].LocalAddr().(*net.UDPAddr).AddrPort()
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

func ask(t *testing.T, network string, at netip.AddrPort, name string, qtype uint16, edns uint16) *mdns.Msg {
	t.Helper()
	m := new(mdns.Msg).SetQuestion(name, qtype)
	if edns > 0 {
		m.SetEdns0(edns, false)
	}
	c := mdns.Client{Net: network, Timeout: 10 * time.Second, UDPSize: 65535}
	r, _, err := c.Exchange(m, at.String())
	if err != nil {
		t.Fatalf("%s %s %s: %v", network, name, mdns.TypeToString[qtype], err)
	}
	return r
}

// upstream is another name server, which does what handle says.
func upstream(t *testing.T, handle mdns.HandlerFunc) netip.AddrPort {
	t.Helper()
	packets, streams, err := Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*mdns.Server{{PacketConn: packets[0], Handler: handle}, {Listener: streams[0], Handler: handle}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return packets[0].LocalAddr().(*net.UDPAddr).AddrPort()
}
