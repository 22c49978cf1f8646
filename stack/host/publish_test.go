package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// listenReal serves f on a socket of this machine.
func listenReal(t testing.TB, f func(c net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, f)
	return addrPort(l.Addr())
}

// listenOverlay serves f on a host's overlay address.
func listenOverlay(t testing.TB, h *Host, a netip.Addr, f func(c net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := h.ListenTCP(netip.AddrPortFrom(a, 0))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, f)
	return addrPort(l.Addr())
}

// echoDatagrams sends datagrams back until the test ends.
func echoDatagrams(t testing.TB, pc net.PacketConn) netip.AddrPort {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return addrPort(pc.LocalAddr())
}

// askDatagram wants data back from c.
func askDatagram(t testing.TB, c net.Conn, data []byte) {
	t.Helper()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxDatagram)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], data) {
		t.Fatalf("got %d bytes of %d, %v", n, len(data), err)
	}
}

func dialTCP4(t testing.TB, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func publish(t testing.TB, h *Host, network string, target Target) *Forward {
	t.Helper()
	f, err := h.Publish(network, loopback, target)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPublishTCP(t *testing.T) {
	a, b, _ := pair(t, Config{})
	for _, fam := range families {
		f := publish(t, a, "tcp", To(listenOverlay(t, b, fam.b, echo)))
		exchange(t, dialTCP4(t, f.Addr()), randomBytes(4<<20))
	}
}

func TestImportTCP(t *testing.T) {
	a, b, _ := pair(t, Config{})
	f, err := a.Import("tcp", netip.AddrPortFrom(addrA.Addr(), 3306), To(listenReal(t, echo)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.DialTCP(testContext(t), f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c, randomBytes(4<<20))
}

// A server may still talk after it has heard the end, and a client listen.
func TestHalfCloseGoesThrough(t *testing.T) {
	a, b, _ := pair(t, Config{})
	heard := make(chan int, 1)
	at := listenOverlay(t, b, addrB.Addr(), func(c net.Conn) {
		all, _ := io.ReadAll(c)
		heard <- len(all)
		_, _ = c.Write([]byte("late answer"))
	})
	c := dialTCP4(t, publish(t, a, "tcp", To(at)).Addr())
	_, _ = c.Write(make([]byte, 1000))
	_ = c.CloseWrite()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if n := <-heard; n != 1000 {
		t.Errorf("the server heard %d bytes", n)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "late answer" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPublishFailures(t *testing.T) {
	a, b, _ := pair(t, Config{Limits: Limits{DialTimeout: 200 * time.Millisecond, Conns: 1}})
	reset := func(f *Forward) {
		t.Helper()
		c, err := net.Dial("tcp", f.Addr().String())
		if err != nil {
			return // so fast that Dial meets it
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || timedOut(err) {
			t.Errorf("wanted a reset, got %v", err)
		}
	}
	reset(publish(t, a, "tcp", To(netip.AddrPortFrom(addrB.Addr(), 9))))    // refused
	reset(publish(t, a, "tcp", To(netip.MustParseAddrPort("10.32.7.7:9")))) // nobody there
	nameless := func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such name") }
	reset(publish(t, a, "tcp", Named(nameless, "nobody", 80)))

	at := listenOverlay(t, b, addrB.Addr(), echo)
	f := publish(t, a, "tcp", To(at))
	first := dialTCP4(t, f.Addr())
	_, _ = first.Write([]byte("x"))
	_, _ = first.Read(make([]byte, 1))
	reset(f) // the limit is one
	if s := a.Stats(); s.ConnsRefused != 1 || s.ConnsFailed != 3 || s.Conns != 1 {
		t.Errorf("counted %+v", s)
	}
	_, err := a.Publish("tcp", f.Addr(), To(at))
	if err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("taken port: %v", err)
	}
	if _, err := a.Publish("sctp", loopback, To(at)); err == nil {
		t.Error("unknown protocol: no error")
	}
	if _, err := a.Import("tcp", at, To(at)); err == nil {
		t.Error("import at somebody else's address: no error")
	}
}

// What a name means is asked at every connection, and the next address is tried.
func TestPublishName(t *testing.T) {
	a, b, _ := pair(t, Config{})
	at := listenOverlay(t, b, addrB6.Addr(), echo)
	var asked string
	resolve := func(_ context.Context, name string) ([]netip.Addr, error) {
		asked = name
		return []netip.Addr{addrB.Addr(), addrB6.Addr()}, nil
	}
	f := publish(t, a, "tcp", Named(resolve, "web", at.Port()))
	exchange(t, dialTCP4(t, f.Addr()), []byte("hello"))
	if asked != "web" {
		t.Errorf("asked for %q", asked)
	}
}

// A reset on one side is one on the other, and leaves nothing behind.
func TestResetGoesThrough(t *testing.T) {
	a, b, _ := pair(t, Config{})
	opened := make(chan net.Conn, 1)
	at := listenOverlay(t, b, addrB.Addr(), func(c net.Conn) {
		opened <- c
		_, err := io.ReadAll(c)
		if err == nil {
			t.Error("a reset connection ended as if complete")
		}
		close(opened)
	})
	f := publish(t, a, "tcp", To(at))
	c := dialTCP4(t, f.Addr())
	_, _ = c.Write([]byte("x"))
	<-opened
	_ = c.SetLinger(0)
	c.Close()
	if _, more := <-opened; more {
		t.Fatal("a second connection")
	}
	eventually(t, "the slot to be free", func() bool { return len(f.slots) == 0 })
}

func TestForwardCloseCutsConnections(t *testing.T) {
	a, b, _ := pair(t, Config{})
	f := publish(t, a, "tcp", To(listenOverlay(t, b, addrB.Addr(), echo)))
	c := dialTCP4(t, f.Addr())
	_, _ = c.Write([]byte("x"))
	_, _ = c.Read(make([]byte, 1))
	f.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || timedOut(err) {
		t.Errorf("connection still there: %v", err)
	}
	if _, err := net.Dial("tcp", f.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestPublishUDP(t *testing.T) {
	a, b, _ := pair(t, Config{})
	for _, fam := range families {
		pc, err := b.ListenUDP(netip.AddrPortFrom(fam.b, 0))
		if err != nil {
			t.Fatal(err)
		}
		f := publish(t, a, "udp", To(netip.AddrPortFrom(fam.b, echoDatagrams(t, pc).Port())))
		for range 3 { // three clients
			c, err := net.Dial("udp", f.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			askDatagram(t, c, randomBytes(1200))
			askDatagram(t, c, []byte("again"))
		}
	}
	if n := a.Stats().Sessions; n != 6 {
		t.Errorf("%d sessions, want 6", n)
	}
}

func TestImportUDP(t *testing.T) {
	a, b, _ := pair(t, Config{})
	pc, err := net.ListenPacket("udp4", loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.Import("udp", netip.AddrPortFrom(addrA6.Addr(), 514), To(echoDatagrams(t, pc)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.DialUDP(testContext(t), f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	askDatagram(t, c, randomBytes(3000))
}

func TestUDPSessionsEnd(t *testing.T) {
	a, b, _ := pair(t, Config{Limits: Limits{UDPIdle: 50 * time.Millisecond, Sessions: 2}})
	pc, err := b.ListenUDP(netip.AddrPortFrom(addrB.Addr(), 5000))
	if err != nil {
		t.Fatal(err)
	}
	f := publish(t, a, "udp", To(echoDatagrams(t, pc)))
	var clients []net.Conn
	for range 3 {
		c, err := net.Dial("udp", f.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		askDatagram(t, c, []byte("hello"))
		clients = append(clients, c)
	}
	if got := a.Stats(); got.Sessions < 3 {
		t.Errorf("counted %+v", got)
	}
	eventually(t, "idle sessions to end", func() bool { return len(a.stack.RegisteredEndpoints()) == 0 })
	askDatagram(t, clients[0], []byte("and a new one"))
}

func TestUDPSessionsAreBounded(t *testing.T) {
	a, b, _ := pair(t, Config{Limits: Limits{Sessions: 2}})
	pc, err := b.ListenUDP(netip.AddrPortFrom(addrB.Addr(), 5000))
	if err != nil {
		t.Fatal(err)
	}
	f := publish(t, a, "udp", To(echoDatagrams(t, pc)))
	for range 5 {
		c, err := net.Dial("udp", f.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		askDatagram(t, c, []byte("hello"))
	}
	if got := a.Stats().SessionsEvicted; got != 3 {
		t.Errorf("%d sessions evicted, want 3", got)
	}
}
