package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var families = []struct {
	name string
	a, b netip.Addr
	any  netip.Addr
}{
	{"v4", addrA.Addr(), addrB.Addr(), netip.IPv4Unspecified()},
	{"v6", addrA6.Addr(), addrB6.Addr(), netip.IPv6Unspecified()},
}

func TestTCPCarriesBulkBothWays(t *testing.T) {
	for _, f := range families {
		for _, noGSO := range []bool{false, true} {
			t.Run(f.name+map[bool]string{false: "/gso", true: "/plain"}[noGSO], func(t *testing.T) {
				a, b, w := pair(t, Config{NoGSO: noGSO})
				var supers atomic.Int64
				w.setHook(func(p []byte) bool {
					if p[1] != gsoNone {
						supers.Add(1)
					}
					return true
				})
				l, err := b.ListenTCP(netip.AddrPortFrom(f.any, 80))
				if err != nil {
					t.Fatal(err)
				}
				serve(t, l, echo)
				c, err := a.DialTCP(testContext(t), netip.AddrPortFrom(f.b, 80))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				exchange(t, c, randomBytes(8<<20))
				if got := supers.Load() > 0; got == noGSO {
					t.Errorf("super-frames on the wire: %v, with NoGSO %v", got, noGSO)
				}
			})
		}
	}
}

func TestTCPSurvivesLoss(t *testing.T) {
	a, b, w := pair(t, Config{})
	var n atomic.Int64
	w.setHook(func([]byte) bool { return n.Add(1)%29 != 0 })
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB.Addr(), 80))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, echo)
	c, err := a.DialTCP(testContext(t), netip.AddrPortFrom(addrB.Addr(), 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A second as a rule; but where a retransmission is lost too the waits double, and add up to half a minute now and then.
	exchangeWithin(t, c, randomBytes(1<<20), 5*time.Minute)
}

func TestUDPBothWays(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			a, b, _ := pair(t, Config{})
			pc, err := b.ListenUDP(netip.AddrPortFrom(f.b, 53))
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			c, err := a.DialUDP(testContext(t), netip.AddrPortFrom(f.b, 53))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, size := range []int{1, 1000, 9000} { // the last one in fragments
				data := randomBytes(size)
				if _, err := c.Write(data); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 65536)
				_ = pc.SetReadDeadline(time.Now().Add(10 * time.Second))
				n, from, err := pc.ReadFrom(buf)
				if err != nil || !bytes.Equal(buf[:n], data) {
					t.Fatalf("%d bytes of %d, %v", n, size, err)
				}
				if got := from.(*net.UDPAddr).AddrPort().Addr().Unmap(); got != f.a {
					t.Errorf("from %v, want %v", got, f.a)
				}
				if _, err := pc.WriteTo(data, from); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
				if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], data) {
					t.Fatalf("back: %d bytes of %d, %v", n, size, err)
				}
			}
		})
	}
}

func TestDialFails(t *testing.T) {
	a, _, w := pair(t, Config{})
	if _, err := a.DialTCP(testContext(t), netip.AddrPortFrom(addrB.Addr(), 81)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("closed port: %v", err)
	}
	if _, err := a.DialTCP(testContext(t), netip.MustParseAddrPort("192.0.2.1:80")); err == nil {
		t.Error("no route: no error")
	}
	if _, err := a.DialTCP(testContext(t), netip.AddrPort{}); err == nil {
		t.Error("no address: no error")
	}
	if _, err := a.ListenTCP(netip.AddrPortFrom(addrB.Addr(), 80)); err == nil {
		t.Error("listening at somebody else's address: no error")
	}
	w.setHook(func([]byte) bool { return false })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.DialTCP(ctx, netip.AddrPortFrom(addrB.Addr(), 82)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dead wire: %v", err)
	}
}

func TestEverythingEndsWithTheHost(t *testing.T) {
	a, b, _ := pair(t, Config{})
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB.Addr(), 80))
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		conns <- c
	}()
	c, err := a.DialTCP(testContext(t), netip.AddrPortFrom(addrB.Addr(), 80))
	if err != nil {
		t.Fatal(err)
	}
	accepted := <-conns
	ended := make(chan error, 2)
	for _, c := range []net.Conn{c, accepted} {
		go func() {
			_, err := io.ReadAll(c)
			ended <- err
		}()
	}
	a.Close()
	b.Close()
	<-ended
	<-ended
	if _, err := a.DialTCP(testContext(t), netip.AddrPortFrom(addrB.Addr(), 80)); !errors.Is(err, ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if _, err := a.ListenUDP(netip.AddrPortFrom(addrA.Addr(), 80)); !errors.Is(err, ErrClosed) {
		t.Errorf("listen: %v", err)
	}
	if err := a.AddAddress(netip.MustParsePrefix("10.99.0.1/16")); !errors.Is(err, ErrClosed) {
		t.Errorf("add address: %v", err)
	}
	l.Close()
}

// The host reaches itself, as it does with a kernel.
func TestReachesItself(t *testing.T) {
	a := newHost(t, 1, Config{}, addrA, addrA6)
	for _, f := range families {
		c, err := a.DialTCP(testContext(t), listenOverlay(t, a, f.a, echo))
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c, randomBytes(1<<20))
		c.Close()
		p, err := a.NewPinger(f.a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Echo(testContext(t), 56); err != nil {
			t.Error(err)
		}
		p.Close()
	}
}

// A service address is reached from a subnet that the host is not in, and makes nothing else count as its own.
func TestService(t *testing.T) {
	a, b, _ := pair(t, Config{})
	service := netip.MustParseAddr("169.254.64.1")
	if err := b.AddService(service); err != nil {
		t.Fatal(err)
	}
	if err := a.AddAddress(netip.MustParsePrefix("10.77.0.1/24")); err != nil {
		t.Fatal(err)
	}
	if err := a.AddAddress(netip.MustParsePrefix("169.254.64.9/18")); err != nil { // its route to the service
		t.Fatal(err)
	}
	l, err := b.ListenTCP(netip.AddrPortFrom(service, 53))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := a.DialTCP(t.Context(), netip.AddrPortFrom(service, 53))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if b.addrs.Load().onLink(netip.MustParseAddr("192.0.2.1")) {
		t.Error("everything is in a subnet of the host's")
	}
}
