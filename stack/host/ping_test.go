package host

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestPing(t *testing.T) {
	a, _, w := pair(t, Config{})
	for _, f := range families {
		p, err := a.NewPinger(f.b)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for i, size := range []int{0, 56, 1300, 20000} {
			r, err := p.Echo(testContext(t), size)
			if err != nil || r.Bytes != size || int(r.Seq) != i+1 || r.RTT <= 0 {
				t.Errorf("%s, %d bytes: %+v, %v", f.name, size, r, err)
			}
		}
	}
	p, err := a.NewPinger(addrB.Addr())
	if err != nil {
		t.Fatal(err)
	}
	w.setHook(func([]byte) bool { return false })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := p.Echo(ctx, 56); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dead wire: %v", err)
	}
	w.setHook(nil)
	if r, err := p.Echo(testContext(t), 56); err != nil || r.Seq != 2 {
		t.Errorf("after a lost one: %+v, %v", r, err)
	}
	if _, err := p.Echo(ctx, MaxPing+1); err == nil {
		t.Error("too large a payload: no error")
	}
	if _, err := a.NewPinger(netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Error("no route: no error")
	}
	p.Close()
}
