package node

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	endpoint "weave/stack/host"
)

// newHostSide makes a side whose local port is a host's endpoint instead of a TAP.
func newHostSide(t *testing.T, number byte, addrs ...string) (*endpoint.Host, *side) {
	t.Helper()
	h, err := endpoint.New(endpoint.Config{MAC: net.HardwareAddr{2, 0, 0, 0, 9, number}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	for _, a := range addrs {
		if err := h.AddAddress(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	s := newSide(t, h.Port())
	s.run(t)
	return h, s
}

// The host's endpoint is a port beside which nothing of the data plane is another: lanes poll it, its super-frames are cut,
// sealed, opened and joined, and its ARP and neighbour discovery find their way.
func TestHostPortsTalkThroughTheDataPlane(t *testing.T) {
	a, sideA := newHostSide(t, 1, "10.32.0.1/12", "fd00:aa::1/64")
	b, sideB := newHostSide(t, 2, "10.32.0.2/12", "fd00:aa::2/64")
	join(t, sideA, sideB, true)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, addr := range []string{"10.32.0.2", "fd00:aa::2"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
		l, err := b.ListenTCP(to)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer l.Close()
			if c, err := l.Accept(); err == nil {
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
		c, err := a.DialTCP(ctx, to)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 8<<20)
		_, _ = rand.NewChaCha8([32]byte{}).Read(data)
		go func() {
			_, _ = c.Write(data)
			_ = c.CloseWrite()
		}()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%s: %d of %d bytes came back, %v", addr, len(got), len(data), err)
		}
		c.Close()
	}
	if s := a.Stats(); s.SentBytes/s.SentPackets < 4000 {
		t.Errorf("no super-frames: %+v", s)
	}
}
