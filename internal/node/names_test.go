package node

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"weave/peer"
)

// A daemon that serves names at all addresses does not ask any of them, nor the
// one that containers know.
func TestNamesAreNotAskedOfOurselves(t *testing.T) {
	n := &node{memory: memory{name: peer.Name{2, 5: 1}}}
	l := &namesLoop{cfg: NameConfig{Domain: "weave.local", Listen: netip.MustParseAddrPort("0.0.0.0:0")}, log: slog.New(slog.DiscardHandler)}
	if err := n.listenNames(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	port := l.streams[0].Addr().(*net.TCPAddr).AddrPort().Port()
	at := func(a string, port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(a), port) }
	other := at("192.0.2.1", port)
	l.upstreams.Fixed = []netip.AddrPort{at("127.0.0.1", port), at("::1", port), l.address, other}
	if got := l.upstreams.Servers(); len(got) != 1 || got[0] != other {
		t.Errorf("asked are %v", got)
	}
}
