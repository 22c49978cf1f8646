package host

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	addrA  = netip.MustParsePrefix("10.32.0.1/12")
	addrB  = netip.MustParsePrefix("10.32.0.2/12")
	addrA6 = netip.MustParsePrefix("fd00:aa::1/64")
	addrB6 = netip.MustParsePrefix("fd00:aa::2/64")
)

// wire carries packets between ports, as a hub would. hook, if there is one, sees each packet and may drop it.
type wire struct {
	mu   sync.Mutex
	hook func(packet []byte) bool
}

func (w *wire) pass(packet []byte) bool {
	w.mu.Lock()
	hook := w.hook
	w.mu.Unlock()
	return hook == nil || hook(packet)
}

func (w *wire) setHook(f func(packet []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = f
}

// pump carries what one port sends to others until its host ends.
func (w *wire) pump(from *Port, to ...*Port) {
	buf := make([]byte, MaxPacket)
	for {
		n, err := from.TryRead(buf)
		if err != nil {
			return
		}
		if n == 0 {
			_ = from.Control(func(fd uintptr) {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			})
			continue
		}
		if !w.pass(buf[:n]) {
			continue
		}
		for _, p := range to {
			_ = p.WriteV([][]byte{buf[:HeaderLen], buf[HeaderLen:n]})
		}
	}
}

// newHost makes a host that ends with the test.
func newHost(t testing.TB, number byte, cfg Config, addrs ...netip.Prefix) *Host {
	t.Helper()
	cfg.MAC = net.HardwareAddr{2, 0, 0, 0, 0, number}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	for _, a := range addrs {
		if err := h.AddAddress(a); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// pair makes two hosts back to back.
func pair(t testing.TB, cfg Config) (a, b *Host, w *wire) {
	t.Helper()
	w = &wire{}
	var pumps sync.WaitGroup
	t.Cleanup(pumps.Wait)
	a, b = newHost(t, 1, cfg, addrA, addrA6), newHost(t, 2, cfg, addrB, addrB6)
	pumps.Go(func() { w.pump(a.Port(), b.Port()) })
	pumps.Go(func() { w.pump(b.Port(), a.Port()) })
	return a, b, w
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for: %s", what)
		}
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(b)
	return b
}

// accepted serves one listener with f, each connection in its own goroutine, until the test ends.
func serve(t testing.TB, l net.Listener, f func(c net.Conn)) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns { // a reset of the other end may have been lost
			_ = c.SetDeadline(time.Now())
		}
		mu.Unlock()
		wg.Wait()
	})
}

// echo sends back what comes, and ends when the other side has.
func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

// exchange sends data, closes its half and wants the same back until the end.
func exchange(t testing.TB, c net.Conn, data []byte) {
	t.Helper()
	exchangeWithin(t, c, data, 30*time.Second)
}

func exchangeWithin(t testing.TB, c net.Conn, data []byte, limit time.Duration) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(limit))
	errs := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		if err == nil {
			err = c.(interface{ CloseWrite() error }).CloseWrite()
		}
		errs <- err
	}()
	got, err := io.ReadAll(c)
	if werr := <-errs; werr != nil {
		t.Fatalf("write: %v", werr)
	}
	if err != nil {
		t.Fatalf("read after %d of %d bytes: %v", len(got), len(data), err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back, not the %d that were sent", len(got), len(data))
	}
}
