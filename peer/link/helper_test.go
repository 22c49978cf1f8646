package link

import (
	"errors"
	"net/netip"
	"testing"
)

// open binds a socket on the loopback interface, for the time of the test.
func open(t testing.TB, network string, cfg Config) *Socket {
	t.Helper()
	cfg.Network = network
	if !cfg.Bind.Addr().IsValid() {
		cfg.Bind = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)
		if network == "udp6" {
			cfg.Bind = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
		}
	}
	s, err := Listen(cfg)
	if errors.Is(err, ErrFamily) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func pair(t testing.TB, network string, cfg Config) (a, b *Socket) {
	t.Helper()
	cfg.RecvBuffer, cfg.SendBuffer = 8<<20, 8<<20
	return open(t, network, cfg), open(t, network, cfg)
}

func local(s *Socket) netip.AddrPort { return s.LocalAddr() }
