package server

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestResolvConfIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	own := netip.MustParseAddrPort("169.254.64.1:53")
	u := &Upstreams{File: file, Own: []netip.AddrPort{own}}
	if got := u.Servers(); len(got) != 0 {
		t.Errorf("without a file: %v", got)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		u.checked = time.Time{}
	}
	write("# x\nsearch a\nnameserver 192.0.2.1\nnameserver 169.254.64.1\nnameserver bad\nnameserver 2001:db8::1\n")
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[2001:db8::1]:53")}
	if got := u.Servers(); !slices.Equal(got, want) {
		t.Errorf("servers are %v", got)
	}
	write("nameserver 192.0.2.77\n")
	if got := u.Servers(); len(got) != 1 || got[0].Addr().String() != "192.0.2.77" {
		t.Errorf("after a change: %v", got)
	}
}

// Who listens at all addresses asks nobody at one of them, also when the host
// gets a new one, and loses it.
func TestOwnAddressesAreNotAsked(t *testing.T) {
	addrs := func(texts ...string) (out []netip.Addr) {
		for _, s := range texts {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	ports := func(texts ...string) (out []netip.AddrPort) {
		for _, s := range texts {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	all := ports("127.0.0.1:53", "127.0.0.53:53", "0.0.0.0:53", "[::1]:53", "[::]:53", "192.0.2.5:53", "[::ffff:192.0.2.5]:53", "[fe80::5%eth0]:53", "192.0.2.9:53", "192.0.2.5:54", "127.0.0.1:54")
	host := addrs("127.0.0.1", "::1", "192.0.2.5", "fe80::5")
	for _, c := range []struct {
		own, host string
		want      []netip.AddrPort
	}{
		{"[::]:53", "", ports("192.0.2.9:53", "192.0.2.5:54", "127.0.0.1:54")},
		{"0.0.0.0:53", "", ports("[::1]:53", "[fe80::5%eth0]:53", "192.0.2.9:53", "192.0.2.5:54", "127.0.0.1:54")},
		{"[::]:53", "192.0.2.9", ports("192.0.2.5:54", "127.0.0.1:54")},
		{"192.0.2.5:54", "", slices.DeleteFunc(slices.Clone(all), func(a netip.AddrPort) bool { return a.String() == "192.0.2.5:54" })[:maxServers]},
	} {
		now := host
		u := &Upstreams{Fixed: all, Own: ports(c.own), hosts: func() ([]netip.Addr, error) { return now, nil }}
		before := u.Servers()
		if c.host == "" {
			if !slices.Equal(before, c.want) {
				t.Errorf("listening at %s: %v are asked", c.own, before)
			}
			continue
		}
		now = append(slices.Clone(host), netip.MustParseAddr(c.host))
		u.checked = time.Now().Add(-recheck)
		if got := u.Servers(); !slices.Equal(got, c.want) {
			t.Errorf("with %s: %v are asked", c.host, got)
		}
		now = host
		u.checked = time.Now().Add(-recheck)
		if got := u.Servers(); !slices.Equal(got, before) {
			t.Errorf("without it again: %v are asked", got)
		}
	}
}

// A server that listens at all addresses and is told to ask one of them answers
// at once that it cannot, instead of asking itself over and over.
func TestNoLoop(t *testing.T) {
	up := &Upstreams{}
	s := New(Config{Index: names(0), Domain: local, TTL: time.Second, Upstreams: up})
	at := run(t, s, netip.MustParseAddrPort("0.0.0.0:0"))
	up.mu.Lock()
	up.Own = []netip.AddrPort{at}
	for _, a := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0"} {
		up.Fixed = append(up.Fixed, netip.AddrPortFrom(netip.MustParseAddr(a), at.Port()))
	}
	up.mu.Unlock()
	if r := ask(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port()), "x.example.", mdns.TypeA, 0); r.Rcode != mdns.RcodeServerFailure {
		t.Errorf("answer %v", r)
	}
	if n := s.Stats().Foreign; n != 1 {
		t.Errorf("it was asked %d times for one query", n)
	}
}
