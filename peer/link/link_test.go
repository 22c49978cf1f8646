package link

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// Whatever offloads either side uses, what arrives is what plain cutting makes
// of the runs, in order.
func TestRunsEqualPlainDatagrams(t *testing.T) {
	for _, network := range networks {
		for _, off := range []Config{{}, {DisableGSO: true}, {DisableGRO: true}, {DisableGSO: true, DisableGRO: true}} {
			t.Run(network+variant(off), func(t *testing.T) {
				a, b := open(t, network, off), open(t, network, off)
				slots := 1 + len(variant(off))%5 // few, so that Add flushes by itself now and then
				ax, bx := a.NewSender(slots), b.NewSender(64)
				ar, br := a.NewReceiver(3), b.NewReceiver(64)
				rapid.Check(t, func(t *rapid.T) {
					exchange(t, ax, br)
					exchange(t, bx, ar)
				})
			})
		}
	}
}

func variant(c Config) string {
	s := "/offloads"
	if c.DisableGSO {
		s += "-gso"
	}
	if c.DisableGRO {
		s += "-gro"
	}
	return s
}

func exchange(t *rapid.T, x *Sender, r *Receiver) {
	var want [][]byte
	total := 0
	for i := range rapid.IntRange(1, 8).Draw(t, "runs") {
		n := rapid.OneOf(rapid.IntRange(0, 3000), rapid.IntRange(0, 100_000)).Draw(t, "bytes")
		segment := rapid.OneOf(rapid.IntRange(0, 1500), rapid.IntRange(0, 65_000)).Draw(t, "segment")
		if segment == 0 && n > maxRun6 || n/max(segment, 1) > 500 || segment >= n && n > maxRun6 {
			segment = 1400 // one datagram of that size cannot exist, or there would be very many
		}
		data := fill(n, i)
		x.Add(r.sock.LocalAddr(), data, segment)
		want = append(want, cut(data, segment)...)
		if total += n; total > 100_000 {
			break
		}
	}
	if res := x.Flush(); res.Sent != len(want) || res.Errors != 0 {
		t.Fatalf("flush: %+v, want %d sent", res, len(want))
	}
	if got := collect(t, r, x.sock.LocalAddr(), len(want)); !equal(got, want) {
		t.Fatalf("%d datagrams differ from the %d sent", len(got), len(want))
	}
}

func TestSplitsToKernelLimits(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			a, b := open(t, network, Config{}), open(t, network, Config{})
			if !a.Stats().GSO {
				t.Skip("the kernel has no UDP_SEGMENT")
			}
			x, r := a.NewSender(128), b.NewReceiver(16)
			for _, c := range []struct{ bytes, segment, runs int }{
				{64 * 100, 100, 1},
				{64*100 + 1, 100, 2},
				{200 * 100, 100, 4},
				{65_000, 13_000, 1},
				{130_000, 13_000, 2},
				{100_000, 40_000, 3},
			} {
				data := fill(c.bytes, 1)
				x.Add(b.LocalAddr(), data, c.segment)
				if x.n != c.runs {
					t.Errorf("%d bytes by %d: %d runs, want %d", c.bytes, c.segment, x.n, c.runs)
				}
				want := cut(data, c.segment)
				if res := x.Flush(); res.Sent != len(want) {
					t.Fatalf("%d bytes by %d: %+v", c.bytes, c.segment, res)
				}
				if !equal(collect(t, r, a.LocalAddr(), len(want)), want) {
					t.Fatalf("%d bytes by %d: datagrams differ", c.bytes, c.segment)
				}
			}
		})
	}
}

func TestClosed(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			s := open(t, network, Config{})
			r := s.NewReceiver(4)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := r.TryReceive(); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("got %v, want net.ErrClosed", err)
			}
			if err := s.Control(func(uintptr) { t.Error("a closed descriptor was lent") }); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("got %v, want net.ErrClosed", err)
			}
			x := s.NewSender(1)
			x.Add(s.LocalAddr(), []byte("x"), 0)
			if res := x.Flush(); res.Errors != 1 || res.Sent != 0 {
				t.Fatalf("flush on a closed socket: %+v", res)
			}
		})
	}
}

// One destination's error costs only its own datagrams.
func TestErrorsStayWithTheirDestination(t *testing.T) {
	a, b := open(t, "udp4", Config{}), open(t, "udp4", Config{})
	x, r := a.NewSender(16), b.NewReceiver(16)
	good, data := b.LocalAddr(), []byte("payload")
	x.Add(netip.MustParseAddrPort("[::1]:9"), data, 0)   // other family
	x.Add(netip.AddrPort{}, data, 0)                     // none
	x.Add(good, data, 0)                                 //
	x.Add(netip.MustParseAddrPort("0.0.0.1:9"), data, 0) // no such address
	x.Add(netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), good.Port()), data, 0)
	x.Add(netip.MustParseAddrPort("127.0.0.1:0"), data, 0) // no such port
	x.Add(good, data, 0)
	res := x.Flush()
	if res.Sent != 3 || res.Errors != 4 || res.LastError == 0 || len(res.TooBig) != 0 {
		t.Fatalf("flush: %+v", res)
	}
	if got := collect(t, r, a.LocalAddr(), 3); !equal(got, [][]byte{data, data, data}) {
		t.Fatalf("got %q", got)
	}
	if st := a.Stats(); st.SendErrors != 4 || st.Sent != 3 {
		t.Fatalf("stats: %+v", st)
	}
	if res := x.Flush(); res.Sent != 0 || res.Errors != 0 || res.LastError != 0 {
		t.Fatalf("an empty flush has a result: %+v", res)
	}
}

// A datagram to a closed port brings an ICMP error back; nobody minds.
func TestRefusedPortIsIgnored(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			a, b, gone := open(t, network, Config{}), open(t, network, Config{}), open(t, network, Config{})
			x, r := a.NewSender(4), a.NewReceiver(4)
			_ = gone.Close()
			for range 3 {
				x.Add(gone.LocalAddr(), []byte("x"), 0)
				x.Flush()
			}
			y := b.NewSender(1)
			y.Add(a.LocalAddr(), []byte("still here"), 0)
			y.Flush()
			collect(t, r, b.LocalAddr(), 1)
		})
	}
}

// A kernel or device that will not cut runs gets plain datagrams.
func TestGSORefusedFallsBack(t *testing.T) {
	a, b := open(t, "udp4", Config{}), open(t, "udp4", Config{})
	if !a.Stats().GSO {
		t.Skip("the kernel has no UDP_SEGMENT")
	}
	// The kernel refuses to cut where it may not fill checksums in.
	if err := onFD(a.raw, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
	}); err != nil {
		t.Fatal(err)
	}
	x, r := a.NewSender(4), b.NewReceiver(4)
	data := fill(10_000, 3)
	for round := range 3 {
		x.Add(b.LocalAddr(), data, 300)
		res := x.Flush()
		want := cut(data, 300)
		if res.Sent != len(want) || res.Errors != 0 || (res.GSORefused > 0) != (round == 0) {
			t.Fatalf("round %d: %+v", round, res)
		}
		if !equal(collect(t, r, a.LocalAddr(), len(want)), want) {
			t.Fatal("datagrams differ")
		}
	}
	if st := a.Stats(); st.GSORefused != 1 || st.SendErrors != 0 || st.Sent != 3*34 {
		t.Fatalf("stats: %+v", st)
	}
	x.refused[b.LocalAddr()] = x.refused[b.LocalAddr()].Add(-2 * gsoRetry)
	if x.refuses(b.LocalAddr()) {
		t.Fatal("a refusal must not last for ever")
	}
}

func TestOptions(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			a := open(t, network, Config{Reuse: true, RecvBuffer: 300_000, SendBuffer: 200_000})
			st := a.Stats()
			if st.RecvBuffer < 100_000 || st.SendBuffer < 100_000 {
				t.Errorf("buffers %d, %d", st.RecvBuffer, st.SendBuffer)
			}
			b := open(t, network, Config{Reuse: true, Bind: a.LocalAddr()})
			if b.LocalPort() != a.LocalPort() {
				t.Error("port not shared")
			}
			if mtu, err := a.PathMTU(b.LocalAddr()); err != nil || mtu < 1280 {
				t.Errorf("path mtu %d, %v", mtu, err)
			}
			if _, err := a.PathMTU(netip.AddrPort{}); !errors.Is(err, unix.EAFNOSUPPORT) {
				t.Errorf("path mtu to nowhere: %v", err)
			}
		})
	}
	for _, bad := range []Config{
		{Network: "tcp"},
		{Network: "udp4", Bind: netip.MustParseAddrPort("[::1]:0")},
		{Network: "udp6", Bind: netip.MustParseAddrPort("127.0.0.1:0")},
		{Network: "udp4", Bind: netip.MustParseAddrPort("192.0.2.77:0")},
	} {
		if s, err := Listen(bad); err == nil {
			_ = s.Close()
			t.Errorf("%+v was accepted", bad)
		} else if errors.Is(err, ErrFamily) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A udp6 socket leaves IPv4 alone, so that both can have one port.
func TestFamiliesShareAPort(t *testing.T) {
	six := open(t, "udp6", Config{Bind: netip.MustParseAddrPort("[::]:0")})
	four, err := Listen(Config{Network: "udp4", Bind: netip.AddrPortFrom(netip.IPv4Unspecified(), six.LocalPort())})
	if err != nil {
		t.Fatal(err)
	}
	_ = four.Close()
}
